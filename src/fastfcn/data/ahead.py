"""Copies to a GPU that overlap with what it computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from fastfcn.types import LoadedBatch


def copied_ahead(batches: Iterable[LoadedBatch], device: torch.device) -> Iterator[LoadedBatch]:
    """Batches on a GPU, in order; the copy of the next one is under way before one is handed out.

    Copies from pinned memory have a stream of their own. The stream that is current when a batch is handed out waits
    for that batch's copy alone.

    Args:
        batches: On the host, in pinned memory.
        device: The GPU.
    """
    stream = torch.cuda.Stream(device)
    waiting: tuple[LoadedBatch, torch.cuda.Event] | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            image, mask = (batch[key].to(device, non_blocking=True) for key in ("image", "mask"))
            copied = stream.record_event()
        if waiting is not None:
            yield _handed_out(*waiting)
        waiting = LoadedBatch(image=image, mask=mask, name=batch["name"]), copied
    if waiting is not None:
        yield _handed_out(*waiting)


def _handed_out(batch: LoadedBatch, copied: torch.cuda.Event) -> LoadedBatch:
    tensors: tuple[Tensor, Tensor] = (batch["image"], batch["mask"])
    current = torch.cuda.current_stream(tensors[0].device)
    current.wait_event(copied)
    for tensor in tensors:
        tensor.record_stream(current)  # or its memory could be given to a later copy while it is still read
    return batch
