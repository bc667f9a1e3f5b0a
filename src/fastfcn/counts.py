"""What an evaluation keeps of each image: enough for every figure, and for asking how sure a figure is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from fastfcn.agreement import gathered_objects
from fastfcn.errors import UserError
from fastfcn.metrics import confusion
from fastfcn.types import IGNORE_INDEX, STAND_IN, Batch

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageCounts:
    """Pixels by image and class.

    Attributes:
        names: Of the images, N of them, each once.
        right: (N, C) pixels of a class that are predicted as it.
        labelled: (N, C) pixels of a class.
        predicted: (N, C) labelled pixels that are predicted as a class.
        matrix: (C, C) of all images together, rows labels and columns predictions.
    """

    names: tuple[str, ...]
    right: Int64Array
    labelled: Int64Array
    predicted: Int64Array
    matrix: Int64Array

    def as_dict(self) -> dict[str, list[list[int]]]:
        """Plain and short: by name, [class, right, labelled, predicted] of the classes that occur."""
        table = {}
        for index, name in enumerate(self.names):
            rows = np.stack([self.right[index], self.labelled[index], self.predicted[index]], axis=1)
            found = np.flatnonzero(rows.any(axis=1))
            table[name] = [[int(number), *rows[number].tolist()] for number in found]
        return table

    @classmethod
    def from_dict(cls, images: dict[str, list[list[int]]], matrix: list[list[int]]) -> ImageCounts:
        """The way back from `as_dict`."""
        counts = np.zeros((3, len(images), len(matrix)), dtype=np.int64)
        for index, rows in enumerate(images.values()):
            for number, *values in rows:
                counts[:, index, number] = values
        return cls(tuple(images), counts[0], counts[1], counts[2], np.array(matrix, dtype=np.int64))


class CountImages(pl.Callback):
    """Counts each test image by itself; one that cannot be read is none.

    Attributes:
        result: All images when the test is over, in every process; None before.
        elsewhere: (C,) pixels without a label that are predicted as a class, over all images; they are in no other
            count. In Pascal Context with 59 classes these are the background.
    """

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        # On the device until the test is over: reading a number makes a GPU wait for its next image.
        self._names: list[str] = []
        self._counted: list[Tensor] = []  # (3, C) an image
        self._matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self._elsewhere = torch.zeros(num_classes, dtype=torch.int64)
        self.result: ImageCounts | None = None
        self.elsewhere = np.zeros(num_classes, dtype=np.int64)

    @override
    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        for name, prediction, mask in zip(batch["name"], outputs["prediction"], batch["mask"], strict=True):
            if name == STAND_IN:
                continue
            matrix = confusion(prediction, mask, self._num_classes)
            self._names.append(name)
            self._counted.append(torch.stack([matrix.diagonal(), matrix.sum(1), matrix.sum(0)]))
            self._matrix = self._matrix.to(matrix.device) + matrix
            unlabelled = torch.where(mask == IGNORE_INDEX, 0, IGNORE_INDEX)  # as if it alone had a label, the first
            self._elsewhere = (
                self._elsewhere.to(matrix.device) + confusion(prediction, unlabelled, self._num_classes)[0]
            )

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        counted = torch.stack(self._counted).cpu().numpy() if self._counted else ()
        own = (
            list(zip(self._names, counted, strict=True)), self._matrix.cpu().numpy(), self._elsewhere.cpu().numpy(),
        )  # fmt: skip
        parts = gathered_objects(own)
        found = {name: counts for part, *_ in parts for name, counts in part}
        if not found:
            raise UserError("no image was evaluated: see to the split, or to trainer.limit_test_batches.")
        names = sorted(found)
        counts = np.stack([found[name] for name in names], axis=1)
        matrix = np.sum([matrix for _, matrix, _ in parts], axis=0)
        self.elsewhere = np.sum([elsewhere for *_, elsewhere in parts], axis=0)
        self.result = ImageCounts(tuple(names), counts[0], counts[1], counts[2], matrix)
