"""The end of a run that stands still: every process that can shows where, and none waits for ever."""

from __future__ import annotations

import contextlib
import faulthandler
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import DDPStrategy
from typing_extensions import override

from fastfcn import status
from fastfcn.errors import UserError
from fastfcn.whole_files import write_text

#: Exit code of a run that stood still, as timeout(1) has it.
HUNG = 124

#: Minutes that the first batch of a loop, which compiles, and the writing of a checkpoint may take besides.
ONCE = 60.0

#: Minutes by which the processes' own waiting for each other is longer than all that: the stacks come first.
_AFTER = 10.0

#: In the store by which the processes have found each other: why they end, and how many have shown their stacks.
_REASON, _SHOWN = "fastfcn/hang/reason", "fastfcn/hang/shown"

#: Seconds that one process gives the others to show their stacks.
_GRACE = 20.0


#: Seconds that a timer can be set to, and more than a run takes.
_LONGEST = 1e8


class Watch:
    """Counts how long nothing has happened, by the time in which this process itself could run.

    A process that was stopped (Ctrl-Z) and goes on is not late.

    Args:
        tick: seconds between two looks; an interval between looks counts at most twice as much.
    """

    def __init__(self, *, tick: float) -> None:
        self.tick = tick
        self.waited = 0.0
        self.limit = math.inf
        self.doing = ""
        self._looked = time.monotonic()

    def begin(self, doing: str, limit: float) -> None:
        """Something begins that may take so many seconds."""
        self.doing, self.limit, self.waited = doing, limit, 0.0

    def late(self) -> bool:
        """Look at the clock."""
        now = time.monotonic()
        self.waited += min(now - self._looked, 2 * self.tick)
        self._looked = now
        return self.waited > self.limit


class EndWhereItHangs(Callback):
    """Ends a run in which nothing has happened for so many minutes, with the stacks of all its processes.

    Batches of the training, a validation or a test are what happens: a long validation is no hang as long as its
    batches come. The first batch of each loop, which compiles and measures, and the writing of a checkpoint may take an
    hour more. A thread looks at the clock; when it is late it tells the others by the store through which they found
    each other, and each process writes the stacks of its threads to ``stacks_rank0.txt`` in the run directory and to
    standard error. Then all end, with exit code 124 and the state ``failed``. One that holds Python's lock within a
    library is ended by a timer that needs no lock.

    The processes' waiting for each other (gloo, NCCL) is given more time than this, so that it speaks first.

    Args:
        directory: of the run.
        minutes: in which nothing has happened; null never ends a run.
    """

    def __init__(self, *, directory: str, minutes: float | None = 30.0) -> None:
        if minutes is not None and not (minutes > 0 and math.isfinite(minutes)):
            raise UserError(f"callbacks.watchdog.minutes={minutes}: choose a positive number, or null.")
        self.directory = Path(directory)
        self.minutes = minutes
        self._watch: Watch | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._first: set[str] = set()  # loops whose first batch is done
        self._together = False  # whether there are other processes that wait
        self._run: int | None = None  # the first process of the run, by its status
        self._say: Callable[[], str] = str

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.minutes is None or self._thread is not None:
            return
        seconds = 60 * self.minutes
        self._watch = Watch(tick=min(5.0, seconds / 10))
        self._over.clear()
        self._first.clear()
        self._say = lambda: f"epoch {trainer.current_epoch}, step {trainer.global_step}"
        self._run = getattr(status.read(self.directory), "pid", None)
        self._begin("setup", once=True)
        rank, world = trainer.global_rank, trainer.world_size
        store = dist.distributed_c10d._get_default_store() if world > 1 else None
        self._thread = threading.Thread(
            target=self._look, args=(self._watch, rank, world, store), name="watchdog", daemon=True
        )
        self._thread.start()
        self._together = world > 1

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._end()

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._end()

    def _end(self) -> None:
        thread, self._thread = self._thread, None
        self._together = False
        if thread is not None:
            self._over.set()
            thread.join()

    def _begin(self, doing: str, *, once: bool = False) -> None:
        if self._watch is not None and self.minutes is not None:
            self._watch.begin(doing, 60 * (self.minutes + (ONCE if once else 0)))
            if self._together:
                self._arm(self._watch)

    def _arm(self, watch: Watch) -> None:
        """Set the timer that goes off where Python's lock is held, and no thread can look at the clock."""
        left = max(watch.limit - watch.waited, 0.0) + 2 * _GRACE
        faulthandler.dump_traceback_later(min(left, _LONGEST), exit=True, file=2)

    def _batch(self, loop: str, number: int, *, done: bool) -> None:
        if done:
            self._first.add(loop)
            self._begin(f"after {loop} batch {number}")
        else:
            self._begin(f"{loop} batch {number}", once=loop not in self._first)

    @override
    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._batch("training", batch_idx, done=False)

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._batch("training", batch_idx, done=True)

    @override
    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._batch("validation", batch_idx, done=False)

    @override
    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._batch("validation", batch_idx, done=True)

    @override
    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._batch("test", batch_idx, done=False)

    @override
    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._batch("test", batch_idx, done=True)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin("the end of an epoch")

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin("the end of a validation")

    @override
    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self._begin("writing a checkpoint", once=True)

    def _look(self, watch: Watch, rank: int, world: int, store: Any) -> None:
        """The thread: look at the clock and at what the others say, until the run is over."""
        while not self._over.wait(watch.tick):
            late, others = watch.late(), _told(store)
            if self._together:
                self._arm(watch)
            if late or others is not None:
                where = f"{watch.doing} ({self._say()})"
                own = f"process {rank} of {world} has done nothing for {watch.waited / 60:.3g} minutes: {where}"
                self._stop(own, others or own, rank, world, store)
        faulthandler.cancel_dump_traceback_later()

    def _stop(self, own: str, reason: str, rank: int, world: int, store: Any) -> None:
        faulthandler.cancel_dump_traceback_later()
        path = self.directory / f"stacks_rank{rank}.txt"
        text = f"{own}\n{stacks()}"
        with contextlib.suppress(Exception):
            write_text(path, text)
        os.write(2, f"\nerror: {text}\nerror: it hangs, {reason}; the stacks are in {path}.\n".encode())
        with contextlib.suppress(Exception):
            # One that has outlived its run has no say about the one that is there by then.
            if getattr(status.read(self.directory), "pid", None) == self._run:
                status.end(self.directory, "failed", f"it hangs, {reason}")
        if store is not None:
            with contextlib.suppress(Exception):
                store.set(_REASON, reason)
                until = time.monotonic() + _GRACE
                shown = store.add(_SHOWN, 1)
                while shown < world and time.monotonic() < until:
                    time.sleep(0.1)
                    shown = store.add(_SHOWN, 0)
                # The first process serves the store: it is the last one to go.
                time.sleep(1.0 if rank == 0 else 0.0)
        os._exit(HUNG)


def stacks() -> str:
    """Where each thread of this process stands, the newest call first."""
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()


def _told(store: Any) -> str | None:
    """Why another process ends the run; None where none does, or the store is gone."""
    if store is None:
        return None
    try:
        return store.get(_REASON).decode() if store.check([_REASON]) else None
    except Exception:  # of a store whose process has ended, whatever it likes
        return None


def align(trainer: pl.Trainer) -> None:
    """Let the processes of a run wait for each other a little longer than its watch does; before they meet."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        watched = isinstance(callback, EndWhereItHangs) and callback.minutes is not None
        if watched and isinstance(trainer.strategy, DDPStrategy):
            trainer.strategy._timeout = timedelta(minutes=callback.minutes + ONCE + _AFTER)
