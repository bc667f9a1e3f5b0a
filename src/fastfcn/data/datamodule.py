"""The DataModule: from the splits of a data set to batches, the same ones for the same seed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import cv2
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.data import suggested_max_num_workers
from torch import distributed
from torch.utils.data import DataLoader

from fastfcn.data.augment import Sample, Transform, TransformedDataset, eval_transform, train_transform
from fastfcn.data.samplers import EvalSampler, TrainSampler
from fastfcn.errors import UserError
from fastfcn.types import DataFacts, SegmentationDataset

Split = Literal["train", "val", "test"]


class SegmentationDataModule(pl.LightningDataModule):
    """Loaders of batches (`fastfcn.types.Batch`) for training, validation and test.

    The order and the augmentation of the training images are functions of (seed, epoch) and of nothing else: neither
    the number of workers nor, for the global batch, the number of processes changes them. Evaluation gives every image
    once, in order, on exactly one process. The samplers are its own: the Trainer needs `use_distributed_sampler=False`.

    Args:
        dataset: Gives the data set of a split, called with `train`, `val` or `test`.
        batch_size: Images in a training batch over all processes together.
        crop_size: Side of the square training crop, and of the centre crop in evaluation, in pixels.
        base_size: Short side in pixels at scale 1.
        scale: Lowest and highest scale of the training images.
        flip: Probability of the mirror image.
        blur: Probability of a Gaussian blur.
        blur_radius: Largest standard deviation of the blur in pixels.
        whole_eval: Evaluate whole images at their own size, one at a time, instead of centre crops.
        eval_batch_size: Images in an evaluation batch on each process; None is a process's share of `batch_size`.
            Whole images always come one at a time, for they differ in size.
        num_workers: Worker processes of each loader; 0 loads in the main process, `auto` takes the free cores.
        seed: Governs the order and the augmentation of the training images.

    Raises:
        UserError: A value makes no sense.
    """

    def __init__(
        self,
        dataset: Callable[[str], SegmentationDataset],
        *,
        batch_size: int,
        crop_size: int,
        base_size: int,
        scale: Sequence[float] = (0.5, 2.0),
        flip: float = 0.5,
        blur: float = 0.5,
        blur_radius: float = 1.0,
        whole_eval: bool = False,
        eval_batch_size: int | None = None,
        num_workers: int | Literal["auto"] = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for key, size in {"batch_size": batch_size, "eval_batch_size": eval_batch_size}.items():
            if size is not None and size < 1:
                raise UserError(f"data.{key}={size} must be at least 1.")
        if num_workers != "auto" and (not isinstance(num_workers, int) or num_workers < 0):
            raise UserError(f"data.num_workers={num_workers!r} must be a whole number from 0 on, or auto.")
        if seed < 0:
            raise UserError(f"seed={seed} must not be negative.")
        self._dataset = dataset
        self._opened: dict[str, SegmentationDataset] = {}
        self._train_transform = train_transform(
            base_size=base_size, crop_size=crop_size, scale=scale, flip=flip, blur=blur, blur_radius=blur_radius
        )
        self._crop_transform = eval_transform(crop_size)
        self._whole_transform = eval_transform(None)
        self.batch_size = batch_size
        self._eval_batch_size = eval_batch_size
        self._whole_eval = whole_eval
        self._num_workers = num_workers
        self._seed = seed

    @property
    def facts(self) -> DataFacts:
        """Facts of the data set; there from the start. Opens the training split if no split was opened before."""
        opened = next(iter(self._opened.values()), None)
        return (opened or self._open("train")).facts

    @property
    def num_classes(self) -> int:
        """Number of classes, the ignored label not counted."""
        return self.facts.num_classes

    def train_dataloader(self) -> DataLoader[Sample]:
        """Augmented crops, shuffled anew each epoch, in full batches only.

        Raises:
            UserError: The batch does not divide among the processes, or the split is smaller than one batch.
        """
        rank, world_size = _process()
        dataset = self._open("train")
        if len(dataset) < self.batch_size:
            raise UserError(
                f"data.batch_size={self.batch_size} is more than the {len(dataset)} images of the train split: "
                "lower it."
            )
        sampler = TrainSampler(
            len(dataset), batch_size=self.batch_size, seed=self._seed, rank=rank, world_size=world_size
        )
        return self._loader(dataset, self._train_transform, sampler, batch_size=self._local_batch_size(world_size))

    def val_dataloader(self) -> DataLoader[Sample]:
        """The validation split; see `split`."""
        return self.split("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """The test split; see `split`."""
        return self.split("test")

    def split(self, name: Split, *, whole: bool | None = None) -> DataLoader[Sample]:
        """The images of any split for evaluation: in order, each once, without random augmentation.

        Args:
            name: `train`, `val` or `test`.
            whole: Whole images one at a time instead of centre crops; None is what `whole_eval` says.

        Raises:
            UserError: There are fewer images than processes.
        """
        rank, world_size = _process()
        dataset = self._open(name)
        if len(dataset) < world_size:
            # DDP's first forward pass is a collective one: a process that never calls it leaves the others waiting.
            raise UserError(
                f"The {name} split has {len(dataset)} images for {world_size} processes: lower trainer.devices."
            )
        sampler = EvalSampler(len(dataset), rank=rank, world_size=world_size)
        if self._whole_eval if whole is None else whole:
            return self._loader(dataset, self._whole_transform, sampler, batch_size=1)
        batch_size = self._eval_batch_size or self._local_batch_size(world_size)
        return self._loader(dataset, self._crop_transform, sampler, batch_size=batch_size)

    def _open(self, split: str) -> SegmentationDataset:
        if split not in self._opened:
            self._opened[split] = self._dataset(split)
        return self._opened[split]

    def _local_batch_size(self, world_size: int) -> int:
        if self.batch_size % world_size:
            raise UserError(
                f"data.batch_size={self.batch_size} is the batch over all processes and does not divide among "
                f"{world_size} of them: choose a multiple of {world_size}."
            )
        return self.batch_size // world_size

    def _loader(
        self,
        dataset: SegmentationDataset,
        transform: Transform,
        sampler: TrainSampler | EvalSampler,
        *,
        batch_size: int,
    ) -> DataLoader[Sample]:
        workers = self._num_workers
        if workers == "auto":
            workers = suggested_max_num_workers(int(os.environ.get("LOCAL_WORLD_SIZE", _process()[1])))
        return _Loader(
            TransformedDataset(dataset, transform=transform),
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            worker_init_fn=_init_worker,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # its own, so that making an iterator draws nothing from the global state
        )


class _Loader(DataLoader[Sample]):
    """A DataLoader that starts late, and tells a user's mistake found in a worker process as the one sentence it was.

    After a resume, Lightning asks for the first iterator before it calls set_epoch. As a generator, this one takes
    nothing from the sampler until the first batch is wanted, and by then the epoch is right.
    """

    def __iter__(self) -> Any:
        try:
            yield from super().__iter__()
        except UserError as error:
            # torch puts the worker's traceback before the message; the sentence is the traceback's last line.
            sentence = str(error).rsplit(f"{UserError.__name__}: ", maxsplit=1)[-1].strip()
            raise UserError(sentence) from None


def _init_worker(worker_id: int) -> None:
    """Keep a worker process on one core: the workers are the parallelism (torch does the same for its own threads)."""
    cv2.setNumThreads(0)


def _process() -> tuple[int, int]:
    """Rank of this process and number of processes."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
