"""Train a model, test its best checkpoint, print the test table: ``python src/train.py --help``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import hydra
from omegaconf import DictConfig, OmegaConf

from fastfcn import cli


@hydra.main(config_path="../conf", config_name="train", version_base="1.3")
@cli.one_sentence
def main(cfg: DictConfig) -> float | None:
    """Run one training; gives its best validation score, which a sweep may optimise."""
    # What is missing or contradictory shows before anything starts.
    config = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    # Imports of seconds come after the configuration has composed: --help and a typo answer at once.
    import pytorch_lightning as pl
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import instantiate
    from pytorch_lightning.utilities import rank_zero_only

    from fastfcn import provenance, training
    from fastfcn.config_types import check_types
    from fastfcn.module import SegmentationModule

    check_types(config)
    overrides = list(HydraConfig.get().overrides.task)
    rank_zero_only(provenance.write)(
        Path(cfg.paths.run_dir), config_yaml=OmegaConf.to_yaml(cfg, resolve=True), overrides=overrides
    )
    training.quiet_lightning()
    datamodule = instantiate(cfg.data)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    module = SegmentationModule(
        model=instantiate(cfg.model, num_classes=datamodule.num_classes),
        facts=datamodule.facts,
        loss=instantiate(cfg.loss),
        optim=instantiate(cfg.optim),
        config={"model": config["model"], "data": config["data"]},
        channels_last=cfg.channels_last,
        compile_model=cfg.compile,
    )
    loggers = list(instantiate(cfg.logger).values())
    trainer = instantiate(cfg.trainer, logger=loggers, callbacks=list(instantiate(cfg.callbacks).values()))
    choices = {group: HydraConfig.get().runtime.choices[group] for group in ("head", "upsample", "backbone", "data")}
    return training.run(
        trainer, module, datamodule, run_dir=cfg.paths.run_dir, config=config, choices=choices, resume=cfg.resume,
        init_from=cfg.init_from, test=cfg.test,
    )  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
