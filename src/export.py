"""Convert checkpoints from and to the original code's: ``python src/export.py official=... to=ckpt``."""

from __future__ import annotations

from typing import Any, cast

import hydra
from omegaconf import DictConfig, OmegaConf

from fastfcn import cli


@hydra.main(config_path="../conf", config_name="export", version_base="1.3")
@cli.one_sentence
def main(cfg: DictConfig) -> None:
    """Write a checkpoint in the other form."""
    config = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    from hydra.utils import instantiate

    from fastfcn.config_types import check_types

    check_types(config)
    if (hub := instantiate(cfg.hub)).asked_for(cfg.to):
        from fastfcn.hub.sharing import share

        share(ckpt_path=cfg.ckpt_path, official=cfg.official, out=cfg.out, wanted=hub)
        return
    from fastfcn.conversion import convert

    convert(ckpt_path=cfg.ckpt_path, official=cfg.official, to=cfg.to, out=cfg.out)


if __name__ == "__main__":
    cli.run(main)
