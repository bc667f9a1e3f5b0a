"""One evaluation from its parts: test a split, say and keep what came out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast, get_args

import pytorch_lightning as pl

from fastfcn import results
from fastfcn.data.datamodule import SegmentationDataModule, Split
from fastfcn.errors import UserError
from fastfcn.module import SegmentationModule
from fastfcn.types import DataFacts


def check_classes(trained: DataFacts, data: DataFacts, *, path: str | Path) -> None:
    """Refuse to score a model on a data set whose classes it was not trained for.

    Raises:
        UserError: another number of classes, or other names; the first difference is named.
    """
    if trained.num_classes != data.num_classes:
        raise UserError(
            f"{path} was trained on {trained.num_classes} classes ({trained.name}), {data.name} has "
            f"{data.num_classes}: choose the data that fits, or another checkpoint."
        )
    for index, (ours, theirs) in enumerate(zip(trained.class_names, data.class_names, strict=True)):
        if ours != theirs:
            raise UserError(
                f"{path} was trained with class {index} = {ours!r} ({trained.name}), in {data.name} it is {theirs!r}: "
                "choose the data that fits, or another checkpoint."
            )


def open_split(datamodule: SegmentationDataModule, split: str) -> None:
    """Open the split to evaluate, and no other: the facts of the data set then come from it.

    Raises:
        UserError: there is no such split.
    """
    if split not in get_args(Split):
        raise UserError(f"split={split}: choose one of {', '.join(get_args(Split))}.")
    datamodule.split(cast("Split", split))


def run(
    trainer: pl.Trainer,
    module: SegmentationModule,
    datamodule: SegmentationDataModule,
    *,
    split: str,
    whole: bool | None,
    run_dir: str | Path,
    source: str | Path,
) -> dict[str, Any]:
    """Evaluate a split, print the table, write ``results.json``.

    Args:
        trainer: without loggers and checkpoints.
        module: with a trained model.
        datamodule: the data.
        split: train, val or test.
        whole: whole images one at a time, or centre crops; None is what the DataModule says.
        run_dir: where the figures are kept.
        source: the checkpoint's path, kept beside the figures.
    """
    trainer.test(module, dataloaders=datamodule.split(cast("Split", split), whole=whole), verbose=False)
    figures = results.gather(trainer.callback_metrics, module.facts)
    if trainer.is_global_zero:
        results.show(figures, title=f"{split} of {source} on {datamodule.facts.name}")
        path = results.save(run_dir, {"checkpoint": str(source), "split": split, split: figures})
        print(f"results:         {path}")
    return figures
