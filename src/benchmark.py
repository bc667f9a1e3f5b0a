"""Measure a claim of speed: ``python src/benchmark.py task=data``."""

from __future__ import annotations

from typing import Any, cast

import hydra
from omegaconf import DictConfig, OmegaConf

from fastfcn import cli


@hydra.main(config_path="../conf", config_name="benchmark", version_base="1.3")
@cli.one_sentence
def main(cfg: DictConfig) -> None:
    """Run one benchmark; its arms take turns, and ratios are of one run."""
    config = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    from hydra.utils import instantiate

    from fastfcn.config_types import check_types

    check_types(config)
    # Data that were not chosen have no target, though this machine's settings (conf/local) may name some of their keys.
    chosen = "_target_" in cfg.get("data", {})
    instantiate(cfg.task, open_split=instantiate(cfg.data.dataset) if chosen else None)


if __name__ == "__main__":
    cli.run(main)
