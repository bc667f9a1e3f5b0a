"""Evaluate a checkpoint on any split: ``python src/eval.py ckpt_path=... data.split=val``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, cast

import hydra
from omegaconf import DictConfig, OmegaConf

from fastfcn import cli


@hydra.main(config_path="../conf", config_name="eval", version_base="1.3")
@cli.one_sentence
def main(cfg: DictConfig) -> None:
    """Rebuild the model from the checkpoint file alone, test it, print and keep the figures."""
    config = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import instantiate

    from fastfcn import evaluation, evaluation_report, provenance, submission, training
    from fastfcn.checkpoint import datamodule_from_checkpoint, model_from_checkpoint
    from fastfcn.config_types import check_types
    from fastfcn.module import SegmentationModule
    from fastfcn.progress import progress_bar

    check_types(config)
    training.settle_process(keep_heap=cfg.keep_heap)
    if cfg.compare is not None:
        evaluation_report.compare_files(cfg.compare, run_dir=cfg.paths.run_dir)
        return
    record = partial(
        provenance.write, Path(cfg.paths.run_dir),
        config_yaml=OmegaConf.to_yaml(cfg, resolve=True), overrides=list(HydraConfig.get().overrides.task),
    )  # fmt: skip
    path, checkpoint = evaluation.read_model(cfg.ckpt_path, cfg.official)
    # Data that were not chosen have no target, though this machine's settings (conf/local) may name some of their keys.
    chosen = instantiate(cfg.data) if "_target_" in cfg.data else None
    datamodule = chosen or datamodule_from_checkpoint(checkpoint, split=cfg.data.split, trusted=list(cfg.trusted))
    # No other split is opened than the one that is wanted, and the facts come from it.
    evaluation.open_split(datamodule, labelled=cfg.submission is None)
    facts = evaluation.check_classes(checkpoint.facts, datamodule.facts, path=path)
    module = SegmentationModule(
        model=model_from_checkpoint(checkpoint, trusted=list(cfg.trusted)),
        facts=facts,
        channels_last=cfg.channels_last, compile_model=cfg.compile,
        inference=evaluation.choose_inference(datamodule, instantiate(cfg.inference)),
        optimize=instantiate(cfg.optimize).wanted(cfg.inference.optimize),
    )  # fmt: skip
    trainer = instantiate(cfg.trainer, logger=False, enable_checkpointing=False, callbacks=[progress_bar()])
    if cfg.submission is None:
        evaluation.run(trainer, module, datamodule, run_dir=cfg.paths.run_dir, source=path, record=record)
    else:
        submission.write(trainer, module, datamodule, folder=cfg.submission, record=record)


if __name__ == "__main__":
    cli.run(main)
