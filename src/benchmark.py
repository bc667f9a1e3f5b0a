"""Measure what claims of speed rest on: ``python src/benchmark.py task=inference``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
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
    import fastfcn
    from fastfcn.benchmarks.bench import Bench
    from fastfcn.benchmarks.machine import choose_device
    from fastfcn.benchmarks.protocol import Plan

    GlobalHydra.instance().clear()  # all is composed; build_model composes others' configurations
    choices = HydraConfig.get().runtime.choices
    # Data that were not chosen have no target, though this machine's settings (conf/local) may name some of their keys.
    chosen = "_target_" in cfg.get("data", {})
    path = cfg.ckpt_path
    bench = Bench(
        build=lambda classes: fastfcn.load_model(path) if path else instantiate(cfg.model, num_classes=classes),
        named=fastfcn.build_model,
        chosen={group: choices[group] for group in ("backbone", "upsample", "head")},
        num_classes=cfg.num_classes,
        device=choose_device(cfg.device),
        plan=Plan(repeats=cfg.repeats, seconds=cfg.seconds, warmup_seconds=cfg.warmup_seconds),
        matrix_side=cfg.matrix_side,
        out=None if cfg.out is None else Path(cfg.out),
        loss=instantiate(cfg.loss),
        optim=instantiate(cfg.optim),
        open_split=instantiate(cfg.data.dataset) if chosen else None,
        seed=cfg.seed,
    )
    instantiate(cfg.task, _partial_=True, _convert_="all")(bench=bench)


if __name__ == "__main__":
    cli.run(main)
