"""What the processes of a run agree on, told later so that nobody waits now."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def processes() -> int:
    """How many processes share this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class Agreed:
    """The largest of the numbers that the processes of a run hand in.

    Under DDP it is formed by an asynchronous all-reduce, and on a GPU it is copied to pinned memory on a stream of its
    own, so that reading it waits for itself alone and not for what was queued after it.

    Args:
        value: one whole number or truth value, on the device.
    """

    def __init__(self, value: Tensor) -> None:
        self._value = value.to(torch.int32).reshape(1)
        self._work: Any = None
        if processes() > 1:
            self._work = dist.all_reduce(self._value, op=dist.ReduceOp.MAX, async_op=True)
        self._arrived: torch.cuda.Event | None = None
        if self._value.is_cuda:
            self._copy_behind_what_is_queued()

    def _copy_behind_what_is_queued(self) -> None:
        stream = torch.cuda.Stream(self._value.device)
        stream.wait_stream(torch.cuda.current_stream(self._value.device))
        self._on_device = self._value  # kept until the copy is done: its memory belongs to the other stream
        with torch.cuda.stream(stream):
            if self._work is not None:
                self._work.wait()  # makes this stream wait, not the host
                self._work = None
            self._value = torch.empty(1, dtype=torch.int32, pin_memory=True).copy_(self._on_device, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record(stream)

    def read(self) -> int:
        """Wait for the number."""
        if self._work is not None:
            self._work.wait()
            self._work = None
        if self._arrived is not None:
            self._arrived.synchronize()
        return int(self._value.item())


def gathered_objects(value: T) -> list[T]:
    """What each process of a run hands in, the same list in all of them; every one must call it.

    Args:
        value: anything that can be pickled.
    """
    if processes() == 1:
        return [value]
    parts: list[Any] = [None] * processes()
    dist.all_gather_object(parts, value)
    return parts


def gathered(value: Tensor) -> Tensor:
    """What each process of a run hands in, (processes, ...), the same in all of them; every one must call it.

    Args:
        value: of one shape and type in all processes, on the device.
    """
    if processes() == 1:
        return value.unsqueeze(0)
    parts = [torch.empty_like(value) for _ in range(processes())]
    dist.all_gather(parts, value)
    return torch.stack(parts)
