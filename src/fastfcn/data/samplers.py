"""The order of the images: which process sees which image at which step, as a function of (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import distributed
from torch.utils.data import Sampler

from fastfcn.data.augment import sample_seed
from fastfcn.errors import UserError


class TrainSampler(Sampler[tuple[int, int]]):
    """Yields (index, augmentation seed) of a process's share of an epoch, both functions of (seed, epoch) alone.

    Global batch number b holds the same images on any number of processes; the images behind the last full batch are
    left out of the epoch. An epoch that was begun before goes on where it stopped, without reading what was seen.

    Args:
        length: Number of images.
        batch_size: Images in a batch over all processes.
        seed: Governs order and augmentation.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(self, length: int, *, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self._length = length
        self._batch_size = batch_size
        self._used = length // batch_size * batch_size
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._epoch = 0
        self._begun: tuple[int, int] | None = None  # an epoch, and how many of its images were seen before

    @property
    def epoch(self) -> int:
        """That of the next iterator."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iterator; Lightning calls it at the beginning of each epoch."""
        self._epoch = epoch

    def position(self, batches: int) -> dict[str, Any]:
        """Where an epoch stands after so many batches, and what its order depends on; plain, for a checkpoint."""
        return {"epoch": self._epoch, "batches": batches, "order": self._order()}

    def go_on(self, position: dict[str, Any]) -> None:
        """Leave out what an epoch has had, when that epoch comes.

        Args:
            position: what `position` gave, on any number of processes.

        Raises:
            UserError: that epoch had another order.
        """
        for key, value in self._order().items():
            if position["order"][key] != value:
                raise UserError(
                    f"The checkpoint was written in the midst of an epoch with {key}={position['order'][key]}, now it "
                    f"is {value}: what is left of the epoch is not known then; go on with {position['order'][key]}, or "
                    "from a checkpoint of an epoch's end."
                )
        self._begun = position["epoch"], position["batches"] * self._batch_size

    def _order(self) -> dict[str, int]:
        return {"data.batch_size": self._batch_size, "seed": self._seed, "images": self._length}

    def __len__(self) -> int:
        return self._used // self._world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self._epoch
        seen = self._begun[1] if self._begun is not None and self._begun[0] == epoch else 0
        self._begun = None
        return self._share(epoch, seen, self._used)

    def share_of(self, batch: int) -> list[tuple[int, int]]:
        """What this process has of a batch of the epoch, by its number: (index, augmentation seed) of each image."""
        return list(self._share(self._epoch, batch * self._batch_size, (batch + 1) * self._batch_size))

    def _share(self, epoch: int, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """This process's part of an epoch's images from one place in its order to another."""
        order = np.random.default_rng((self._seed, epoch)).permutation(self._length)[begin:end]
        indices = order[self._rank :: self._world_size].tolist()
        return ((index, sample_seed(self._seed, epoch=epoch, index=index)) for index in indices)


class EvalSampler(Sampler[int]):
    """Yields the indices rank, rank + world_size, ...: in order, and over all processes each image exactly once."""

    def __init__(self, length: int, *, rank: int = 0, world_size: int = 1) -> None:
        self._indices = range(rank, length, world_size)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)


def process() -> tuple[int, int]:
    """Rank of this process and number of processes."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
