"""Train a model, test its best checkpoint, print the test table: ``python src/train.py --help``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from fastfcn import cli, naming
from hydra_plugins.fastfcn_sweeper.job import job


@hydra.main(config_path="../conf", config_name="train", version_base="1.3")
@job(__file__)
@cli.one_sentence
def main(cfg: DictConfig) -> float | None:
    """Run one training; gives its best validation score, which a sweep may optimise."""
    choices = {group: HydraConfig.get().runtime.choices[group] for group in naming.GROUPS}
    cfg.run_name = naming.name_of(cfg, choices)
    config = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    # Imports of seconds come after the configuration has composed: --help and a typo answer at once.
    import pytorch_lightning as pl
    from hydra.utils import instantiate

    from fastfcn import beginning, evaluation, provenance, training
    from fastfcn.config_types import check_types
    from fastfcn.module import SegmentationModule

    check_types(config)
    beginning.check(resume=cfg.resume, init_from=cfg.init_from, fine_tune=cfg.fine_tune)
    run_dir, overrides = Path(cfg.paths.run_dir), list(HydraConfig.get().overrides.task)
    record = partial(provenance.write, run_dir, config_yaml=OmegaConf.to_yaml(config), overrides=overrides)
    training.settle_process(keep_heap=cfg.keep_heap)
    datamodule = instantiate(cfg.data)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    module = SegmentationModule(
        model=instantiate(cfg.model, num_classes=datamodule.num_classes),
        facts=datamodule.facts,
        loss=instantiate(cfg.loss),
        optim=instantiate(cfg.optim),
        config={"model": config["model"], "data": config["data"]},
        inference=evaluation.choose_inference(datamodule, instantiate(cfg.inference)),
        optimize=instantiate(cfg.optimize).wanted(cfg.inference.optimize),
        channels_last=cfg.channels_last, compile_model=cfg.compile, seed=cfg.seed,
        activation_checkpointing=config["activation_checkpointing"], freeze=config["freeze"],
    )  # fmt: skip
    loggers = list(instantiate(cfg.logger).values())
    trainer = instantiate(cfg.trainer, logger=loggers, callbacks=list(instantiate(cfg.callbacks).values()))
    return training.run(
        trainer, module, datamodule, run_dir=run_dir, config=config, choices=choices, record=record, resume=cfg.resume,
        init_from=cfg.init_from, fit=cfg.fit, test=cfg.test, speed=instantiate(cfg.get("speed")),
    )  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
