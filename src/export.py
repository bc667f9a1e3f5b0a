"""Checkpoints in other forms, and models for other runtimes: ``python src/export.py ckpt_path=... to=onnx``."""

from __future__ import annotations

from typing import Any, cast

import hydra
from omegaconf import DictConfig, OmegaConf

from fastfcn import cli


@hydra.main(config_path="../conf", config_name="export", version_base="1.3")
@cli.one_sentence
def main(cfg: DictConfig) -> None:
    """Write a checkpoint in the other form, or its model for another runtime."""
    config = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    from hydra.utils import instantiate

    from fastfcn.config_types import check_types
    from fastfcn.exporting.request import SUFFIXES

    check_types(config)
    if (hub := instantiate(cfg.hub)).asked_for(cfg.to):
        from fastfcn.hub.sharing import share

        share(ckpt_path=cfg.ckpt_path, official=cfg.official, out=cfg.out, wanted=hub)
        return
    wanted = instantiate(cfg.export)
    places = {"ckpt_path": cfg.ckpt_path, "official": cfg.official, "to": cfg.to, "out": cfg.out}
    if cfg.to in SUFFIXES:
        from fastfcn.exporting.writing import write

        data = instantiate(cfg.data) if "_target_" in cfg.get("data", {}) else None
        write(**places, wanted=wanted, data=data, trusted=list(cfg.trusted))
    else:
        from fastfcn.conversion import convert

        wanted.need_nothing(cfg.to)
        convert(**places)


if __name__ == "__main__":
    cli.run(main)
