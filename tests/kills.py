"""Callbacks with which the tests end a training at a chosen moment and see what it is given, and what they compare."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from typing_extensions import override


class SignalAt(pl.Callback):
    """Sends a signal to a process of a training, once.

    It does so where no file tells that it has, so that the run that goes on passes the same moment in peace.

    Args:
        stamp: the file, written just before.
        sign: name of the signal.
        where: behind a training batch, behind a validation batch, or when the callback is made.
        step: optimizer steps that are done then.
        batch: of the epoch, where several batches make a step, or of the validation.
        rank: the process.
        pause: seconds until it is sent once more.
    """

    def __init__(
        self,
        *,
        stamp: str,
        sign: str,
        where: Literal["train", "validation", "start"] = "train",
        step: int = 0,
        batch: int | None = None,
        rank: int = 0,
        pause: float | None = None,
    ) -> None:
        self.stamp = Path(stamp)
        self.signum = getattr(signal, sign)
        self.where, self.step, self.batch, self.rank, self.pause = where, step, batch, rank, pause
        if where == "start" and not self.stamp.exists():
            self._send()

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.where == "train":
            self._send_at(trainer, batch_idx)

    @override
    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self.where == "validation":
            self._send_at(trainer, batch_idx)

    def _send_at(self, trainer: pl.Trainer, batch_idx: int) -> None:
        here = trainer.global_step == self.step and self.batch in (None, batch_idx)
        if here and trainer.global_rank == self.rank and not self.stamp.exists():
            self._send()

    def _send(self) -> None:
        self.stamp.touch()
        os.kill(os.getpid(), self.signum)
        if self.pause is not None:
            time.sleep(self.pause)
            os.kill(os.getpid(), self.signum)
            time.sleep(60)


class Trace(pl.Callback):
    """Writes down what each process sees in each training batch: epoch, batch, names and a sum of the pixels.

    Args:
        path: a file for each process, with its rank at the end; a run that goes on writes behind.
    """

    def __init__(self, *, path: str) -> None:
        self.path = path

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        line = f"{trainer.current_epoch} {batch_idx} {','.join(batch['name'])} {batch['image'].double().sum().item()!r}"
        with Path(f"{self.path}.{trainer.global_rank}").open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


class Left(dict[str, Any]):
    """What a run directory holds in the end, without what a call decides: times, places, the number of workers."""


def left(run_dir: Path) -> Left:
    """Read what is to be equal to the last bit: checkpoints, logs, results."""
    found = Left()
    for name in ("last.ckpt", "best.ckpt"):
        content = torch.load(run_dir / "checkpoints" / name, map_location="cpu", weights_only=True)
        found |= {f"{name} {key}": value for key, value in leaves(content) if not _of_the_call(key)}
    with (run_dir / "metrics.csv").open(newline="") as file:
        found["metrics.csv"] = list(csv.DictReader(file))
    found["results.json"] = json.loads((run_dir / "results.json").read_text())
    del found["results.json"]["train_seconds"]
    return found


def _of_the_call(key: str) -> bool:
    return "/time_elapsed/" in key or key.endswith(("/num_workers", "/workers"))


def leaves(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Every plain value in nested ones, with its path."""
    if isinstance(value, dict):
        return [leaf for key in sorted(value, key=str) for leaf in leaves(value[key], f"{name}/{key}")]
    if isinstance(value, list | tuple):
        return [leaf for index, each in enumerate(value) for leaf in leaves(each, f"{name}/{index}")]
    return [(name, value)]


def differences(one: Left, other: Left, *, places: tuple[Path, Path]) -> list[str]:
    """What differs between two runs, to the last bit.

    Args:
        one: of the first.
        other: of the second.
        places: their directories, which stand in what they left.
    """

    def neutral(text: str, place: Path) -> str:
        return text.replace(str(place), "RUN")

    ours, theirs = (
        {neutral(key, place): value for key, value in run.items()}
        for run, place in zip((one, other), places, strict=True)
    )
    found = [f"only in one: {key}" for key in sorted(ours.keys() ^ theirs.keys())]
    for key in sorted(ours.keys() & theirs.keys()):
        a, b = ours[key], theirs[key]
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
            same = a.dtype == b.dtype and torch.equal(a, b)
        else:
            same = neutral(repr(a), places[0]) == neutral(repr(b), places[1])
        if not same:
            found.append(key)
    return found
