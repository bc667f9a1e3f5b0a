"""What an evaluation keeps of each image: enough for every figure, and for asking how sure a figure is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
from torch import distributed
from typing_extensions import override

from fastfcn.metrics import confusion
from fastfcn.types import Batch

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
    """Counts each test image by itself; `result` holds all of them when the test is over, in every process."""

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self._counted: list[tuple[str, Int64Array]] = []
        self._matrix = np.zeros((num_classes, num_classes), dtype=np.int64)
        self.result: ImageCounts | None = None

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
            matrix = confusion(prediction, mask, self._num_classes).cpu().numpy()
            self._counted.append((name, np.stack([matrix.diagonal(), matrix.sum(1), matrix.sum(0)])))
            self._matrix += matrix

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        parts: list[Any] = [(self._counted, self._matrix)]
        if distributed.is_available() and distributed.is_initialized():
            parts = [None] * distributed.get_world_size()
            distributed.all_gather_object(parts, (self._counted, self._matrix))
        counted = dict(sorted(pair for part, _ in parts for pair in part if pair))
        counts = np.stack(list(counted.values()), axis=1)
        matrix = np.sum([matrix for _, matrix in parts], axis=0)
        self.result = ImageCounts(tuple(counted), counts[0], counts[1], counts[2], matrix)
