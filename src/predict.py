"""Segment images: ``python src/predict.py ckpt_path=... input=...``; or draw what models make of a data set."""

from __future__ import annotations

from typing import Any, cast

import hydra
from omegaconf import DictConfig, OmegaConf

from fastfcn import cli


@hydra.main(config_path="../conf", config_name="predict", version_base="1.3")
@cli.one_sentence
def main(cfg: DictConfig) -> None:
    """Segment what `input` names; or, with `figure` and `checkpoints`, draw a page of the models' predictions."""
    config = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    from hydra.utils import instantiate

    from fastfcn import heap
    from fastfcn.config_types import check_types
    from fastfcn.prediction import page, running

    check_types(config)
    if cfg.keep_heap:
        heap.keep()
    wants_page = running.wants_page(config)
    data = instantiate(cfg.data) if "_target_" in cfg.data else None
    inference = instantiate(cfg.inference)
    optimize = instantiate(cfg.optimize).wanted(cfg.inference.optimize)
    if wants_page:
        page.draw(config, data=data, inference=inference, optimize=optimize)
    else:
        running.run(config, inference=inference, optimize=optimize)


if __name__ == "__main__":
    cli.run(main)
