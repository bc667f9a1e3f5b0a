"""The order of the images: which process sees which image at which step, as a function of (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from fastfcn.data.augment import sample_seed


class TrainSampler(Sampler[tuple[int, int]]):
    """Yields (index, augmentation seed) of a process's share of an epoch, both functions of (seed, epoch) alone.

    Global batch number b holds the same images on any number of processes; the images behind the last full batch are
    left out of the epoch.

    Args:
        length: Number of images.
        batch_size: Images in a batch over all processes.
        seed: Governs order and augmentation.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(self, length: int, *, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self._length = length
        self._used = length // batch_size * batch_size
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iterator; Lightning calls it at the beginning of each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._used // self._world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        seed, epoch = self._seed, self._epoch
        order = np.random.default_rng((seed, epoch)).permutation(self._length)[: self._used]
        indices = order[self._rank :: self._world_size].tolist()
        return ((index, sample_seed(seed, epoch=epoch, index=index)) for index in indices)


class EvalSampler(Sampler[int]):
    """Yields the indices rank, rank + world_size, ...: in order, and over all processes each image exactly once."""

    def __init__(self, length: int, *, rank: int = 0, world_size: int = 1) -> None:
        self._indices = range(rank, length, world_size)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)
