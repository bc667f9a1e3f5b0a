"""Weights of the classes by how often they occur in the images that are trained on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from typing_extensions import override

from fastfcn.agreement import gathered, processes
from fastfcn.data.files import FileDataset
from fastfcn.errors import BadSampleError, UserError
from fastfcn.tracking import log_config
from fastfcn.types import DataFacts, SegmentationDataset

Counts = np.ndarray[Any, np.dtype[np.int64]]


def by_inverse_frequency(pixels: Counts) -> list[float]:
    """``N / (C n_c)`` with n_c of N pixels in each of C classes that occur; 1 for a class that does not occur.

    A training set in which all classes are equally frequent has weights of 1.

    Args:
        pixels: (num_classes,) labelled pixels.
    """
    occur = pixels > 0
    weights = pixels.sum() / np.maximum(occur.sum() * pixels, 1)
    return [float(weight) for weight in np.where(occur, weights, 1.0)]


def by_median_frequency(pixels: Counts, shown: Counts) -> list[float]:
    """``median(f) / f_c`` with ``f_c = pixels_c / shown_c`` (Eigen and Fergus 2015); 1 for a class that does not occur.

    Args:
        pixels: (num_classes,) labelled pixels.
        shown: (num_classes,) labelled pixels of the images in which the class occurs.
    """
    occur = pixels > 0
    frequency = pixels / np.maximum(shown, 1)
    median = np.median(frequency[occur]) if occur.any() else 1.0
    return [float(weight) for weight in np.where(occur, median / np.where(occur, frequency, 1.0), 1.0)]


def count(dataset: SegmentationDataset, indices: Iterable[int], *, skip: bool) -> tuple[Counts, Counts]:
    """Labelled pixels of each class, and of the images in which it occurs; no image is decoded where masks are files.

    Args:
        dataset: The images.
        indices: Those that count.
        skip: Leave out samples that cannot be read.

    Raises:
        BadSampleError: A sample cannot be read.
        UserError: The images have no labels.
    """
    classes = dataset.facts.num_classes
    if isinstance(dataset, FileDataset) and not dataset.labelled:
        raise UserError(
            "loss.class_weights: the images that are trained on have no labels to count: choose another "
            "data.train_split, or give the weights as a list."
        )

    def of_one(index: int) -> Counts:
        try:
            mask = dataset.mask(index) if isinstance(dataset, FileDataset) else dataset[index].mask
        except BadSampleError:
            if skip:
                return np.zeros(classes, dtype=np.int64)
            raise
        return np.bincount(mask[mask >= 0], minlength=classes).astype(np.int64)

    pixels, shown = np.zeros(classes, dtype=np.int64), np.zeros(classes, dtype=np.int64)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for found in pool.map(of_one, indices):
            pixels += found
            shown += np.where(found > 0, found.sum(), 0)
    return pixels, shown


def check(loss: object, facts: DataFacts) -> None:
    """See that a loss has a weight for each class, where it has been given any.

    Raises:
        UserError: It has not, or all are 0.
    """
    weights = getattr(loss, "class_weights", None)
    if isinstance(weights, list) and (len(weights) != facts.num_classes or not any(weights)):
        raise UserError(
            f"loss.class_weights={weights}: give one number for each of the {facts.num_classes} classes of "
            f"{facts.name}, of which one at least is not 0."
        )


class SettleClassWeights(Callback):
    """Makes numbers of a loss's class weights before the first step, where it names a rule.

    The processes of a run count a share of the training images each. The same images give the same weights, so that a
    training that goes on has those of before.
    """

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss: Any = pl_module.loss
        facts: Any = pl_module.facts
        rule = getattr(loss, "class_weights", None)
        if not isinstance(rule, str):
            return
        loss.class_weights = self._settled(rule, trainer)
        named = dict(zip(facts.class_names, loss.class_weights, strict=True))
        log_config(trainer.loggers, {"class_weights": named})
        if trainer.is_global_zero:
            told = ", ".join(f"{name} {weight:.3g}" for name, weight in named.items())
            print(f"class weights by {rule}: {told}", flush=True)

    def _settled(self, rule: str, trainer: pl.Trainer) -> list[float]:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        dataset = data.open(data.train_split)
        own = range(trainer.global_rank, len(dataset), trainer.world_size)
        counts = torch.from_numpy(np.stack(count(dataset, own, skip=data.on_bad_sample == "skip")))
        if processes() > 1:
            counts = gathered(counts.to(trainer.strategy.root_device)).sum(0).cpu()
        pixels, shown = counts.numpy()
        return by_inverse_frequency(pixels) if rule == "inverse_frequency" else by_median_frequency(pixels, shown)
