"""The order of copies to a GPU and of what is computed there; on a machine without one, with stand-ins that record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from fastfcn.data.ahead import copied_ahead
from fastfcn.types import LoadedBatch


def batch(number: int) -> LoadedBatch:
    return LoadedBatch(
        image=torch.full((1, 3, 4, 4), number, dtype=torch.uint8),
        mask=torch.full((1, 4, 4), number, dtype=torch.int16),
        name=[str(number)],
    )


def test_the_next_copy_is_under_way_before_a_batch_is_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Stream:
        def __init__(self, name: object) -> None:
            self.copies = 0

        def record_event(self) -> int:
            self.copies += 1
            done.append(f"copy {self.copies}")
            return self.copies

        def wait_event(self, event: int) -> None:
            done.append(f"wait for {event}")

    @contextmanager
    def within(stream: Stream) -> Iterator[None]:
        yield

    current = Stream("current")
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", within)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
    monkeypatch.setattr(Tensor, "record_stream", lambda self, stream: done.append(f"keep {int(self.flatten()[0])}"))
    for number, handed in enumerate(copied_ahead(map(batch, range(1, 4)), torch.device("cpu")), start=1):
        assert handed["name"] == [str(number)]
        assert int(handed["image"][0, 0, 0, 0]) == int(handed["mask"][0, 0, 0]) == number
        done.append(f"compute {number}")
    one, two, three = ([f"wait for {n}", f"keep {n}", f"keep {n}", f"compute {n}"] for n in (1, 2, 3))
    assert done == ["copy 1", "copy 2", *one, "copy 3", *two, *three]
    assert not list(copied_ahead(iter(()), torch.device("cpu")))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_on_a_gpu() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    pinned: list[Any] = [
        {key: value.pin_memory() if isinstance(value, Tensor) else value for key, value in batch(number).items()}
        for number in range(50)
    ]
    sums = [handed["image"].long().sum() + handed["mask"].sum() for handed in copied_ahead(pinned, device)]
    assert [int(total) for total in sums] == [number * (48 + 16) for number in range(50)]
