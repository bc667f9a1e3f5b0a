"""Predictions in the form that ADE20K's test server takes: one PNG per image, zipped."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from typing_extensions import override

from fastfcn.data.datamodule import SegmentationDataModule
from fastfcn.errors import UserError
from fastfcn.evaluation import settle_deterministic
from fastfcn.module import SegmentationModule
from fastfcn.png_files import PngWriter
from fastfcn.types import Batch
from fastfcn.whole_files import check_folder, replacing

#: What is added to a class id: the server's 0 stands for "other", as in the masks of the data set.
OFFSET = 1

#: Of every entry in the zip: equal predictions give equal bytes.
TIMESTAMP = (1980, 1, 1, 0, 0, 0)


def write(
    trainer: pl.Trainer,
    module: SegmentationModule,
    datamodule: SegmentationDataModule,
    *,
    folder: str | Path,
    record: Callable[[], object] | None = None,
) -> Path | None:
    """Predict every image of the DataModule's `eval_split` at its own size; write, check and zip the predictions.

    The folder appears under its name when all predictions are in it and have passed the check; until then it is called
    `<folder>.unfinished`, and a call that is broken off leaves nothing under the name.

    Args:
        trainer: Without loggers and checkpoints; under DDP, each process writes its share.
        module: With a trained model.
        datamodule: The data; masks are not needed.
        folder: Where `<image name>.png` go, 8-bit grey of class + 1; the zip is `<folder>.zip`.
        record: Called by the first process when nothing is left that could refuse the evaluation.

    Returns:
        The zip's path; None in all processes but the first.

    Raises:
        UserError: The folder or the zip is there already, there are more classes than fit, or a prediction is wrong or
            cannot be written.
    """
    folder = Path(folder)
    archive = folder.with_name(f"{folder.name}.zip")
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    for path in (folder, archive):
        if path.exists():
            raise UserError(f"{path} is there already: delete it, or choose another name by submission=...")
    if module.facts.num_classes + OFFSET > 256:
        raise UserError(f"submission={folder}: {module.facts.num_classes} classes do not fit into 8 bits.")
    settle_deterministic()
    if trainer.is_global_zero:
        check_folder(folder.parent, key="submission")
    if record is not None:
        rank_zero_only(record)()
    with PngWriter() as writer:
        trainer.callbacks.append(PredictionWriter(unfinished, writer))  # type: ignore[attr-defined]
        trainer.predict(module, datamodule=datamodule, return_predictions=False)
    if not trainer.is_global_zero:
        return None
    names = check(unfinished, datamodule, num_classes=module.facts.num_classes)
    pack(unfinished, names, archive)
    unfinished.replace(folder)
    print(f"predictions:     {len(names)} in {folder}\nsubmission:      {archive}")
    return archive


class PredictionWriter(pl.Callback):
    """Has each predicted image written as `<name>.png`; when prediction ends, all of this process's are.

    Args:
        folder: Where to; emptied first.
        writer: Who writes; it is closed at the end.
    """

    def __init__(self, folder: Path, writer: PngWriter) -> None:
        self.folder = folder
        self.writer = writer

    @override
    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            shutil.rmtree(self.folder, ignore_errors=True)  # left by a call that was broken off
            self.folder.mkdir(parents=True)
        trainer.strategy.barrier()

    @override
    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        prediction: Tensor = outputs["prediction"]
        for name, ids in zip(batch["name"], prediction, strict=True):
            self.writer.submit((ids + OFFSET).to(torch.uint8), self.folder / f"{name}.png")

    @override
    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.writer.close()
        trainer.strategy.barrier()


def check(folder: Path, datamodule: SegmentationDataModule, *, num_classes: int) -> list[str]:
    """See that there is one prediction per image, of its size, and of classes alone.

    Args:
        folder: Of the predictions.
        datamodule: The images.
        num_classes: Of the model.

    Returns:
        The images' names, sorted.

    Raises:
        UserError: The first prediction that is wrong.
    """
    found = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.png")}
    expected: dict[str, tuple[int, int]] = dict(_sizes(datamodule))
    if found != set(expected):
        name = min(found ^ set(expected))
        raise UserError(
            f"{folder / name}.png {'is missing' if name in expected else 'belongs to no image'}: run the command again."
        )
    for name, size in expected.items():
        path = folder / f"{name}.png"
        with Image.open(path) as file:
            values = np.asarray(file)
            if file.mode != "L" or values.shape != size:
                raise UserError(
                    f"{path} is {file.width} x {file.height} pixels of kind {file.mode}, but its image {size[1]} x "
                    f"{size[0]} and the kind should be L: run the command again."
                )
        if values.min() < OFFSET or values.max() >= num_classes + OFFSET:
            raise UserError(
                f"{path} holds values outside of {OFFSET} to {num_classes - 1 + OFFSET}: run the command again."
            )
    return sorted(expected)


def _sizes(datamodule: SegmentationDataModule) -> Iterator[tuple[str, tuple[int, int]]]:
    """Name and (H, W) of each image of the split: read from the headers of files, as far as there are files."""
    dataset = datamodule.open(datamodule.eval_split)
    for index in range(len(dataset)):
        if hasattr(dataset, "size_of"):
            yield dataset.size_of(index)
        else:
            image, _, name = dataset[index]
            yield name, (image.shape[0], image.shape[1])


def pack(folder: Path, names: Sequence[str], archive: Path) -> None:
    """Zip predictions, at the top of the archive and in the order of their names; the archive appears at once."""
    # PNG is deflated already.
    with replacing(archive) as partial, zipfile.ZipFile(partial, "w", compression=zipfile.ZIP_STORED) as zipped:
        for name in names:
            info = zipfile.ZipInfo(f"{name}.png", date_time=TIMESTAMP)
            info.external_attr = 0o644 << 16
            zipped.writestr(info, (folder / f"{name}.png").read_bytes())
