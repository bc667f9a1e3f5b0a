"""From samples to batches, from bytes to the numbers that the model sees, and what happens to a bad sample."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.data import DataLoader, Dataset

from fastfcn.data import workers
from fastfcn.data.ahead import copied_ahead
from fastfcn.data.augment import Sample, Transform, as_sample
from fastfcn.data.samplers import TrainSampler, process
from fastfcn.errors import BadSampleError, UserError
from fastfcn.types import (
    IGNORE_INDEX,
    IMAGENET_MEAN,
    IMAGENET_STD,
    STAND_IN,
    Batch,
    LoadedBatch,
    RawSample,
    ScalableDataset,
    SegmentationDataset,
)

log = logging.getLogger(__name__)

#: What is done about a sample that cannot be read.
OnBadSample = Literal["error", "skip"]


def normalise(batch: LoadedBatch) -> Batch:
    """Bytes to normalised floats, on whatever device they are: (B, 3, H, W) uint8 -> float32, masks to int64.

    The image stays channels last in memory, as the loader gives it.
    """
    image = batch["image"].permute(0, 2, 3, 1)  # (B, H, W, 3)
    size = image.shape
    mean, std = (torch.tensor(values, device=image.device) for values in (IMAGENET_MEAN, IMAGENET_STD))
    # (x / 255 - mean) / std as one multiplication and one addition, in place and along whole rows: a CPU is twice as
    # slow where the innermost loop has three steps.
    scale, shift = (values.repeat(size[2]) for values in (1 / (255 * std), -mean / std))
    rows = image.reshape(size[0], size[1], -1).float()
    pixels = torch.addcmul(shift, rows, scale, out=rows).view(size).permute(0, 3, 1, 2)
    return Batch(image=pixels, mask=batch["mask"].long(), name=batch["name"])


class Loaded(NamedTuple):
    """What a worker process makes of an index.

    Attributes:
        sample: For the batch.
        skipped: What is wrong with the samples that it stands in for; none where all is well.
    """

    sample: Sample
    skipped: tuple[str, ...] = ()


class TransformedDataset(Dataset[Loaded]):
    """A data set whose samples have gone through a transform.

    It is indexed by `(index, seed)`, as the training sampler yields them, so that a sample does not depend on which
    worker process makes it nor on what was made before. A bare index, as the evaluation sampler yields, means seed 0.

    Args:
        dataset: Raw samples.
        transform: What each goes through.
        on_bad_sample: `error` lets a BadSampleError pass. `skip` puts something in the sample's place: in training the
            next good sample, in evaluation an image of which nothing is known, so that it counts nowhere.
        stand_in_side: Side in pixels of such an image.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        *,
        transform: Transform,
        on_bad_sample: OnBadSample = "error",
        stand_in_side: int = 64,
    ) -> None:
        self._dataset = dataset
        self._scalable = dataset if isinstance(dataset, ScalableDataset) else None
        self._transform = transform
        self._skip = on_bad_sample == "skip"
        self._stand_in_side = stand_in_side

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: int | tuple[int, int]) -> Loaded:
        training = isinstance(key, tuple)
        index, seed = key if isinstance(key, tuple) else (key, 0)
        skipped: list[str] = []
        for candidate in range(index, index + len(self) if training else index + 1):
            try:
                raw = self._read(candidate % len(self), seed)
            except BadSampleError as error:
                if not self._skip:
                    raise
                skipped.append(str(error))
                continue
            return Loaded(self._transform(raw, seed=seed), tuple(skipped))
        if training:
            raise UserError(f"None of the {len(self)} training samples can be read, the first because {skipped[0]}")
        return Loaded(_unknown(self._stand_in_side), tuple(skipped))

    def _read(self, index: int, seed: int) -> RawSample:
        if self._scalable is not None:
            return self._scalable.read(index, enough=self._transform.enough(seed))
        return self._dataset[index]


def _unknown(side: int) -> Sample:
    """A black image of which nothing is known."""
    mask = np.full((side, side), IGNORE_INDEX, dtype=np.int16)
    return as_sample(RawSample(np.zeros((side, side, 3), dtype=np.uint8), mask, STAND_IN))


def collate(items: Sequence[Loaded]) -> tuple[LoadedBatch, tuple[str, ...]]:
    """A batch, and what is wrong with the samples that were skipped on the way to it."""
    samples = [item.sample for item in items]
    # Stacked with the channels last, as they lie in memory: nothing is transposed.
    image = torch.stack([sample["image"].permute(1, 2, 0) for sample in samples]).permute(0, 3, 1, 2)
    mask = torch.stack([sample["mask"] for sample in samples])
    names = [sample["name"] for sample in samples]
    return LoadedBatch(image=image, mask=mask, name=names), tuple(text for item in items for text in item.skipped)


class BatchLoader(DataLoader[Loaded]):
    """A DataLoader of `LoadedBatch` that starts late, and counts the samples that were skipped.

    After a resume, Lightning asks for the first iterator before it calls set_epoch. As a generator, this one takes
    nothing from the sampler until the first batch is wanted, and by then the epoch is right.

    A checkpoint holds where its epoch stands, by the two methods that Lightning asks for; the epoch then goes on with
    the batch that comes next, on any number of processes and workers.

    Args:
        dataset: The samples.
        split: What they are called, for the messages.
        skipped: Where the sentences on skipped samples are kept, each once.
        max_skipped: How many of them are too many.
        device: A GPU to copy the batches to, one ahead of the one that is used; None leaves them on the host.
        **options: Of torch's DataLoader.
    """

    def __init__(
        self,
        dataset: TransformedDataset,
        *,
        split: str,
        skipped: dict[str, None],
        max_skipped: int,
        device: torch.device | None = None,
        **options: Any,
    ) -> None:
        super().__init__(dataset, **{"collate_fn": collate, "worker_init_fn": workers.begin, **options})
        # Named as the arguments, for Lightning makes a loader of the same kind anew where it changes the sampler.
        self.split = split
        self.skipped = skipped
        self.max_skipped = max_skipped
        self.device = device
        self._given = 0  # batches of this epoch, those before a resume too
        self._before: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """Where the epoch stands, in plain types; nothing where the order is not the training sampler's."""
        if not isinstance(self.sampler, TrainSampler):
            return {}
        return {**self.sampler.position(self._given), "workers": self.num_workers, "processes": process()[1]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where an epoch stood, when that epoch comes."""
        self._before = state_dict

    def __iter__(self) -> Any:
        self._given = self._go_on()
        try:
            for batch in self._loaded() if self.device is None else copied_ahead(self._loaded(), self.device):
                self._given += 1
                yield batch
        except UserError as error:
            # torch puts a worker's traceback before the message; the sentence is the traceback's last line.
            kind = type(error)
            raise kind(str(error).rsplit(f"{kind.__name__}: ", maxsplit=1)[-1].strip()) from None

    def _loaded(self) -> Iterator[LoadedBatch]:
        iterator = super().__iter__()
        if self.num_workers:
            workers.watch(iterator)
        known, told = 0, ""
        for batch, skipped in iterator:
            self._count(skipped)
            known += sum(name != STAND_IN for name in batch["name"])
            told = told or "".join(skipped[:1])
            yield batch
        if told and not known:
            raise UserError(f"None of the images of the {self.split} split can be read, the first because {told}")

    def _go_on(self) -> int:
        """Take up an epoch that was begun before; gives how many batches it has had."""
        before, self._before = self._before, {}
        if not isinstance(self.sampler, TrainSampler) or before.get("epoch") != self.sampler.epoch:
            return 0
        self.sampler.go_on(before)
        given: int = before["batches"]
        for key, now in {"processes": process()[1], "workers": self.num_workers}.items():
            if before[key] != now:
                _say(f"goes on with {now} {key} instead of {before[key]}: each image of the epoch is seen exactly once")
        return given

    def _count(self, sentences: Sequence[str]) -> None:
        for sentence in sentences:
            if sentence in self.skipped:
                continue
            self.skipped[sentence] = None
            if len(self.skipped) > self.max_skipped:
                raise UserError(
                    f"More than data.max_bad_samples={self.max_skipped} samples of the {self.split} split were "
                    f"skipped, the last one because {sentence} Look for all of them with `python src/prepare.py "
                    "prepare.check=true data=...`, or allow more."
                )
            log.warning(
                "skipped a sample of the %s split (%d of at most %d): %s",
                self.split, len(self.skipped), self.max_skipped, sentence,
            )  # fmt: skip


@rank_zero_only
def _say(line: str) -> None:
    print(line, flush=True)
