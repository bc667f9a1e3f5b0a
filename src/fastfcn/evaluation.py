"""One evaluation from its parts: test a split, say and keep what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from fastfcn import auto_batch, evaluation_report, results
from fastfcn.checkpoint import Checkpoint, read_checkpoint
from fastfcn.counts import CountImages
from fastfcn.data.datamodule import SegmentationDataModule
from fastfcn.errors import UserError
from fastfcn.exporting.request import is_exported
from fastfcn.exporting.runtime import describe
from fastfcn.gallery import KeepExtremes, draw_confusion
from fastfcn.inference import Direct, Inference
from fastfcn.module import SegmentationModule
from fastfcn.official import read_official
from fastfcn.results import percent
from fastfcn.statistics import miou_with_background
from fastfcn.types import UNKNOWN_DATA, DataFacts


def check_classes(trained: DataFacts, data: DataFacts, *, path: str | Path) -> DataFacts:
    """Refuse to score a model on a data set whose classes it was not trained for.

    Returns:
        What the model was trained on; the data where a checkpoint of the original code does not tell.

    Raises:
        UserError: another number of classes, or other names; the first difference is named.
    """
    if trained.num_classes != data.num_classes:
        raise UserError(
            f"{path} was trained on {trained.num_classes} classes ({trained.name}), {data.name} has "
            f"{data.num_classes}: choose the data that fits, or another checkpoint."
        )
    if trained.name == UNKNOWN_DATA:  # nothing is known of the names
        return data
    for index, (ours, theirs) in enumerate(zip(trained.class_names, data.class_names, strict=True)):
        if ours != theirs:
            raise UserError(
                f"{path} was trained with class {index} = {ours!r} ({trained.name}), in {data.name} it is {theirs!r}: "
                "choose the data that fits, or another checkpoint."
            )
    return trained


def read_model(ckpt_path: str | None, official: str | None) -> tuple[str, Checkpoint]:
    """Read a checkpoint of this project or of the original code, or what an exported file says of its own.

    Returns:
        Its path, and what it holds; of an exported file without the weights.

    Raises:
        UserError: not exactly one is given, or it cannot be used.
    """
    if ckpt_path is not None and official is None:
        return ckpt_path, _read_own(ckpt_path)
    if official is not None and ckpt_path is None:
        return official, read_official(official)
    raise UserError("give one checkpoint: ckpt_path=... of this project, or official=... of the original code.")


def read_any(path: str) -> Checkpoint:
    """As `read_model`; by the end of its name (.pth, .tar) it is one of the original code.

    Raises:
        UserError: it cannot be used.
    """
    return read_official(path) if path.endswith((".pth", ".tar")) else _read_own(path)


def _read_own(path: str) -> Checkpoint:
    if not is_exported(path):
        return read_checkpoint(path)
    description = describe(path)
    entry, source = description.entry, description.source
    return Checkpoint(
        entry["model"], entry["data"], description.facts, {}, epoch=source["epoch"], score=source["score"],
        exported=Path(path).expanduser(),
    )  # fmt: skip


def headings(paths: Sequence[str], names: Sequence[str] | None) -> list[str]:
    """What the models of some checkpoints are called: by given names, or by their run directories.

    Raises:
        UserError: not one name a checkpoint, or one twice.
    """
    if not paths:
        raise UserError("checkpoints is empty: name at least one file.")
    if names is None:
        runs = [Path(path).resolve() for path in paths]
        names = [run.parents[1].name if run.parent.name == "checkpoints" else run.name for run in runs]
        if len(set(names)) < len(names):
            names = [f"{number}: {name}" for number, name in enumerate(names, start=1)]
    if len(names) != len(paths) or len(set(names)) < len(names):
        raise UserError(f"names={list(names)}: give each of the {len(paths)} checkpoints a name of its own.")
    return list(names)


def open_split(datamodule: SegmentationDataModule, *, labelled: bool = True) -> None:
    """Open the DataModule's `eval_split`, and no other: the facts of the data set then come from it.

    Args:
        datamodule: the data.
        labelled: whether there must be masks to compare with.

    Raises:
        UserError: there is no such split, or it has no masks.
    """
    split = datamodule.eval_split
    dataset = datamodule.open(split)
    if labelled and not getattr(dataset, "labelled", True):
        raise UserError(
            f"data.split={split}: {dataset.facts.name} has no masks of this split to score against: choose "
            "data.split=val, or write predictions for its test server by `python src/eval.py ... submission=FOLDER`."
        )


def choose_inference(datamodule: SegmentationDataModule, make: partial[Inference] | None) -> Inference:
    """The protocol of an evaluation, and the loader's part in it.

    Args:
        datamodule: the data; its `whole_test` becomes what the protocol wants, validation stays as it is.
        make: makes the protocol, with the DataModule's sizes where those of its own are None; None is one pass on what
            the DataModule gives. Windows are of the training crop's size, as the original's; of the base size where the
            DataModule says that images are evaluated whole, for its crop is small for speed then and no window of it
            shows what the model knows.
    """
    if make is None:
        return Direct(whole=datamodule.whole_eval)
    window = datamodule.base_size if datamodule.whole_eval else datamodule.crop_size
    known = {"base_size": datamodule.base_size, "crop_size": window, "whole": datamodule.whole_eval}
    wanted = [key for key in known if key in make.keywords and make.keywords[key] is None]
    chosen = make(**{key: known[key] for key in wanted})
    datamodule.whole_test = chosen.whole
    return chosen


def settle_deterministic() -> None:
    """Where algorithms are to be deterministic, have cuDNN try none: what it would choose differs from run to run."""
    if torch.are_deterministic_algorithms_enabled():
        torch.backends.cudnn.benchmark = False


def run(
    trainer: pl.Trainer,
    module: SegmentationModule,
    datamodule: SegmentationDataModule,
    *,
    run_dir: str | Path,
    source: str | Path,
    record: Callable[[], object] | None = None,
) -> dict[str, Any]:
    """Evaluate the DataModule's `eval_split`, print the table, write ``results.json`` and the report.

    Args:
        trainer: without loggers and checkpoints.
        module: with a trained model and the protocol.
        datamodule: the data.
        run_dir: where the figures are kept.
        source: the checkpoint's path, kept beside the figures.
        record: called by the first process when nothing is left that could refuse the evaluation.
    """
    settle_deterministic()
    if record is not None:
        rank_zero_only(record)()
    split = datamodule.eval_split
    counting = CountImages(module.facts.num_classes)
    extremes = KeepExtremes(Path(run_dir), module.facts)
    trainer.callbacks.extend((counting, extremes))  # type: ignore[attr-defined]
    with auto_batch.explained(trainer, "test"):
        trainer.test(module, datamodule=datamodule, verbose=False)
    figures = results.gather(trainer.callback_metrics, module.facts)
    skipped = results.all_skipped(datamodule.skipped)
    if trainer.is_global_zero:
        protocol = module.protocol()
        how = protocol["protocol"] + results.without(skipped, split)
        results.show(figures, title=f"{split} of {source} on {datamodule.facts.name}, {how}")
        kept = {"checkpoint": str(source), "split": split, "inference": protocol, split: figures}
        path = results.save(run_dir, results.with_skipped(kept, skipped))
        about = {
            "checkpoint": str(source),
            "data": datamodule.facts.name,
            "split": split,
            "inference": protocol,
            "skipped": skipped.get(split, []),
        }
        assert counting.result is not None, "a test run has ended"
        more: dict[str, Any] = {name: figures[name] for name in ("boundary_IoU", "thin_IoU") if name in figures}
        if datamodule.facts.name == "pascal_context" and datamodule.facts.num_classes == 59:
            more["mIoU_60"] = miou_with_background(counting.result, counting.elsewhere)
        found = evaluation_report.write(
            Path(run_dir),
            counts=counting.result,
            facts=module.facts,
            about=about,
            more=more,
            boundaries=figures["class_boundary_IoU"],
        )
        draw_confusion(counting.result.matrix, module.facts, Path(run_dir) / "confusion.png")
        low, high = (percent(bound) for bound in found["mIoU"][1:])
        print(f"mIoU of other images of this kind: {low} to {high} (95%, bootstrap over images)")
        print(f"report:          {Path(run_dir) / evaluation_report.TEXT_FILE}")
        print("pictures:        worst.png, best.png, boundaries.png and confusion.png beside it")
        print(f"results:         {path}")
    return figures
