"""The DataModule: from the splits of a data set to batches, the same ones for the same seed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import albumentations as A
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.data import suggested_max_num_workers
from typing_extensions import override

from fastfcn.data import same_classes
from fastfcn.data.augment import EvalTransform, TrainTransform, Transform
from fastfcn.data.batches import BatchLoader, OnBadSample, TransformedDataset, normalise
from fastfcn.data.crops import BalancedCrops
from fastfcn.data.samplers import EvalSampler, TrainSampler, process
from fastfcn.errors import UserError
from fastfcn.types import Batch, DataFacts, LoadedBatch, SegmentationDataset


class SegmentationDataModule(pl.LightningDataModule):
    """Loaders of batches for training, validation and test.

    The loaders give bytes (`fastfcn.types.LoadedBatch`); on the device they become what the model takes
    (`fastfcn.types.Batch`), by a hook that the Trainer calls, or by `fastfcn.data.batches.normalise` without one.

    The order and the augmentation of the training images are functions of (seed, epoch) and of nothing else: neither
    the number of workers nor, for the global batch, the number of processes changes them. Evaluation gives every image
    once, in order, on exactly one process. The samplers are its own: the Trainer needs `use_distributed_sampler=False`.

    Args:
        dataset: Gives the data set of a split, called with the split's name.
        batch_size: Images in a training batch over all processes together.
        train_split: The split that is trained on.
        split: The split that is evaluated, by `test_dataloader`.
        crop_size: Side of the square training crop, and of the centre crop in evaluation, in pixels.
        base_size: Short side in pixels at scale 1.
        scale: Lowest and highest scale of the training images.
        flip: Probability of the mirror image.
        blur: Probability of a Gaussian blur.
        blur_radius: Largest standard deviation of the blur in pixels.
        augmentations: Further steps of albumentations, on the training crop.
        cat_max_ratio: Share of one class from which on a crop is drawn again (`fastfcn.data.crops`); 1: never.
        class_crops: Probability that a crop is centred on a pixel of a class, all classes of the image being equal.
        whole_eval: Evaluate whole images at their own size, one at a time, instead of centre crops.
        eval_batch_size: Images in an evaluation batch on each process; None is a process's share of `batch_size`.
            Whole images always come one at a time, for they differ in size.
        num_workers: Worker processes of each loader; 0 loads in the main process, `auto` takes the free cores.
        on_bad_sample: `error` stops at a sample that cannot be read and names it; `skip` goes on without it.
        max_bad_samples: How many samples of a split may be skipped, by each process.
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
        train_split: str = "train",
        split: str = "test",
        scale: Sequence[float] = (0.5, 2.0),
        flip: float = 0.5,
        blur: float = 0.5,
        blur_radius: float = 1.0,
        augmentations: Sequence[A.BasicTransform] = (),
        cat_max_ratio: float = 1.0,
        class_crops: float = 0.0,
        whole_eval: bool = False,
        eval_batch_size: int | None = None,
        num_workers: int | Literal["auto"] = 0,
        on_bad_sample: OnBadSample = "error",
        max_bad_samples: int = 20,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for key, size in {"batch_size": batch_size, "eval_batch_size": eval_batch_size}.items():
            if size is not None and size < 1:
                raise UserError(f"data.{key}={size} must be at least 1.")
        if num_workers != "auto" and (not isinstance(num_workers, int) or num_workers < 0):
            raise UserError(f"data.num_workers={num_workers!r} must be a whole number from 0 on, or auto.")
        if on_bad_sample not in get_args(OnBadSample):
            raise UserError(f"data.on_bad_sample={on_bad_sample}: choose error or skip.")
        if max_bad_samples < 0:
            raise UserError(f"data.max_bad_samples={max_bad_samples} must not be negative.")
        if seed < 0:
            raise UserError(f"seed={seed} must not be negative.")
        self._dataset = dataset
        self._opened: dict[str, SegmentationDataset] = {}
        self.train_transform = TrainTransform(
            base_size=base_size, crop_size=crop_size, scale=scale, flip=flip, blur=blur, blur_radius=blur_radius,
            augmentations=augmentations, crops=BalancedCrops(cat_max_ratio=cat_max_ratio, class_crops=class_crops),
        )  # fmt: skip
        self._crop_transform = EvalTransform(crop_size)
        self._whole_transform = EvalTransform(None)
        self.base_size = base_size
        self.crop_size = crop_size
        self.on_bad_sample = on_bad_sample
        self._max_bad_samples = max_bad_samples
        #: What is wrong with the samples that were skipped, by split.
        self.skipped: dict[str, dict[str, None]] = {}
        #: The same of the training's tries before this one, of all processes.
        self.skipped_before: dict[str, list[str]] = {}
        self.train_split = train_split
        self.eval_split = split
        self.batch_size = batch_size
        self._eval_batch_size = eval_batch_size
        self.whole_eval = whole_eval
        #: Of the test alone, where its protocol wants something else than `whole_eval`.
        self.whole_test: bool | None = None
        self._num_workers = num_workers
        self._seed = seed

    @property
    def facts(self) -> DataFacts:
        """Facts of the data set; there from the start. Opens the training split if no split was opened before."""
        opened = next(iter(self._opened.values()), None)
        return (opened or self.open(self.train_split)).facts

    @property
    def num_classes(self) -> int:
        """Number of classes, the ignored label not counted."""
        return self.facts.num_classes

    def train_dataloader(self) -> BatchLoader:
        """Augmented crops, shuffled anew each epoch, in full batches only.

        Raises:
            UserError: The batch does not divide among the processes, or the split is smaller than one batch.
        """
        rank, world_size = process()
        dataset = self.open(self.train_split)
        if len(dataset) < self.batch_size:
            raise UserError(
                f"data.batch_size={self.batch_size} is more than the {len(dataset)} images of the {self.train_split} "
                "split: lower it."
            )
        sampler = TrainSampler(
            len(dataset), batch_size=self.batch_size, seed=self._seed, rank=rank, world_size=world_size
        )
        return self._loader(
            self.train_split, self.train_transform, sampler, batch_size=self._local_batch_size(world_size)
        )

    def val_dataloader(self) -> BatchLoader:
        """The validation split; see `eval_dataloader`."""
        return self.eval_dataloader("val")

    def test_dataloader(self) -> BatchLoader:
        """The split that is evaluated; see `eval_dataloader`."""
        return self.eval_dataloader(whole=self.whole_test)

    def predict_dataloader(self) -> BatchLoader:
        """The split that is evaluated, as whole images; see `eval_dataloader`. None of them may be skipped."""
        return self.eval_dataloader(whole=True, on_bad_sample="error")

    def eval_dataloader(
        self, split: str | None = None, *, whole: bool | None = None, on_bad_sample: OnBadSample | None = None
    ) -> BatchLoader:
        """The images of a split for evaluation: in order, each once, without random augmentation.

        Args:
            split: Which one; None is `eval_split`.
            whole: Whole images one at a time instead of centre crops; None is what `whole_eval` says.
            on_bad_sample: What is done about a sample that cannot be read; None is what the DataModule was told.

        Raises:
            UserError: There is no such split, or it has fewer images than there are processes.
        """
        rank, world_size = process()
        split = self.eval_split if split is None else split
        dataset = self.open(split)
        if len(dataset) < world_size:
            # DDP's first forward pass is a collective one: a process that never calls it leaves the others waiting.
            raise UserError(
                f"The {split} split has {len(dataset)} images for {world_size} processes: lower trainer.devices."
            )
        sampler = EvalSampler(len(dataset), rank=rank, world_size=world_size)
        if self.whole_eval if whole is None else whole:
            transform, batch_size = self._whole_transform, 1
        else:
            transform, batch_size = self._crop_transform, self._eval_batch_size or self._local_batch_size(world_size)
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        return self._loader(
            split, transform, sampler, batch_size=batch_size, on_bad_sample=on_bad_sample,
            device=device if device.type == "cuda" else None,
        )  # fmt: skip

    @override
    def on_after_batch_transfer(self, batch: LoadedBatch, dataloader_idx: int) -> Batch:
        """Normalise a batch, on the device that it was moved to."""
        return normalise(batch)

    def open(self, split: str) -> SegmentationDataset:
        """The raw samples of a split, opened once.

        Raises:
            UserError: There is no such split, or it has other classes than one that was opened before.
        """
        if split not in self._opened:
            dataset = self._dataset(split)
            same_classes.check(self._opened, split, dataset)
            self._opened[split] = dataset
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
        split: str,
        transform: Transform,
        sampler: TrainSampler | EvalSampler,
        *,
        batch_size: int,
        on_bad_sample: OnBadSample | None = None,
        device: torch.device | None = None,
    ) -> BatchLoader:
        workers = self._num_workers
        if workers == "auto":
            workers = suggested_max_num_workers(int(os.environ.get("LOCAL_WORLD_SIZE", process()[1])))
        samples = TransformedDataset(
            self.open(split),
            transform=transform,
            on_bad_sample=on_bad_sample or self.on_bad_sample,
            stand_in_side=self.crop_size,
        )
        return BatchLoader(
            samples,
            split=split,
            skipped=self.skipped.setdefault(split, {}),
            max_skipped=self._max_bad_samples,
            device=device,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # its own, so that making an iterator draws nothing from the global state
        )
