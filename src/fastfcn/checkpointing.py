"""When checkpoints are written: at an epoch's end, every so often within it, and when a signal asks for the end."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn
from typing_extensions import override

from fastfcn import signals, stopping
from fastfcn.agreement import Agreed
from fastfcn.durable import KEEP, DurableCheckpointIO, adopt
from fastfcn.errors import UserError
from fastfcn.plain_files import Behind, best_score, load_plain, what_is_behind

#: What the processes agree on at a step: nothing, a checkpoint, or the end by the signal of this number.
_NOTHING, _SAVE = 0, 1

#: Where the checkpoint before the last one is kept.
PREVIOUS = "previous.ckpt"


class LastCheckpoint(Checkpoint):
    """Keeps the newest state of a training in ``last.ckpt``, and the one before it in ``previous.ckpt``.

    It is written at the end of each epoch; within an epoch, behind an optimizer step, when so many minutes or steps
    have gone by since it was written, so that a long epoch is never lost; and behind the step, or within the
    validation, in which a signal asks for the end (`fastfcn.signals`). Of several processes all stop at the same step,
    whichever of them got the signal.

    Args:
        dirpath: Where the files are.
        minutes: Between two checkpoints within an epoch; null: none by time.
        every_n_steps: Optimizer steps between two checkpoints within an epoch; null: none by steps.
    """

    def __init__(self, *, dirpath: str, minutes: float | None = 10.0, every_n_steps: int | None = None) -> None:
        for key, value in {"minutes": minutes, "every_n_steps": every_n_steps}.items():
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise UserError(f"callbacks.last.{key}={value}: choose a positive number, or null.")
        self.path = Path(dirpath).absolute() / "last.ckpt"
        self.minutes = minutes
        self.every_n_steps = every_n_steps
        #: The newest checkpoint of this training; None before the first.
        self.newest: Path | None = None
        self._written = 0.0  # when, by time.monotonic
        self._wish: Callable[[], int] | None = None
        self._common = 0  # batches that every process has in a validation

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Killed between best.ckpt and last.ckpt of an epoch's end, which hold the same; behind the last epoch nothing
        # else would write it.
        source = Path(trainer.ckpt_path).absolute() if trainer.ckpt_path else self.path
        self.newest = source if trainer.ckpt_path else None
        previous = self.path.with_name(PREVIOUS)
        other = source.parent == self.path.parent and source not in (self.path, previous)
        if other and trainer.is_global_zero and _behind(source) > _behind(self.path):
            adopt(source, self.path, keep=previous)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._written = time.monotonic()
        signals.put_off(True)

    @override
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        due = self.every_n_steps is not None and (trainer.global_step + 1) % self.every_n_steps == 0
        if self.minutes is not None and trainer.is_global_zero:
            due = due or time.monotonic() - self._written >= 60 * self.minutes
        self._wish = _agree(trainer, signals.asked() or (_SAVE if due else _NOTHING))

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        wish = self._read()
        epoch_loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
        # Behind the last batch the epoch's end writes one, unless a validation, which may be long, comes before it.
        assert fetcher is not None, "it has just given a batch"
        ends = epoch_loop._num_ready_batches_reached() and not epoch_loop._should_check_val_fx(fetcher)
        if wish == _NOTHING or ends:
            return
        self._save(trainer)
        if wish != _SAVE:
            self._stop(trainer, wish)

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._wish, self._common = None, 0
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and trainer.world_size > 1:
            # Processes may differ by a batch; what the others wait for must come from each.
            own = torch.tensor(int(sum(trainer.num_val_batches)), device=trainer.strategy.root_device)
            self._common = -Agreed(-own).read()

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
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        if trainer.world_size == 1:
            wish = signals.asked()
        elif batch_idx < self._common:  # each wish is read a batch later, when it has long arrived
            wish = self._read()
            if batch_idx + 1 < self._common:
                self._wish = _agree(trainer, signals.asked())
        else:
            return
        if wish != _NOTHING:
            self._save(trainer)
            self._stop(trainer, wish)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)
        wish = _agree(trainer, signals.asked())()
        if wish != _NOTHING:
            self._stop(trainer, wish)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        signals.put_off(False)
        if signals.asked():  # since the last epoch's end
            raise signals.Stopped(signals.asked(), "after the training")

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        signals.put_off(False)

    def _read(self) -> int:
        wish, self._wish = self._wish, None
        return wish() if wish is not None else _NOTHING

    def _save(self, trainer: pl.Trainer) -> None:
        if _is_trial(trainer):
            return
        durable = isinstance(trainer.strategy.checkpoint_io, DurableCheckpointIO)
        options = {KEEP: str(self.path.with_name(PREVIOUS))} if durable else None
        trainer.save_checkpoint(self.path, storage_options=options)
        self.newest = self.path
        self._written = time.monotonic()

    def _stop(self, trainer: pl.Trainer, signum: int) -> None:
        """End this process as all others, once each is past its last common act."""
        where = f"after step {trainer.global_step}, in epoch {trainer.current_epoch + 1}"
        stopped = signals.Stopped(signum, where)
        if trainer.is_global_zero:
            left = "" if _is_trial(trainer) else f"; resume=auto takes up {self.path}"
            print(f"stopped by {stopped.reason}{left}", flush=True)
            if signum == getattr(signal, "SIGUSR1", None):
                stopping.queue_again(trainer)
        signals.record(stopped)
        stopping.take_from_the_observer(trainer)
        trainer.strategy.barrier("stopped")
        raise stopped


def carry_best(trainer: pl.Trainer, checkpoint: dict[str, Any]) -> None:
    """Let the best score so far count, and its checkpoint be found, in a directory that was moved or is another.

    Lightning would forget the score there: the first epoch would be the best one, whatever it is worth.

    Args:
        trainer: of the training that goes on.
        checkpoint: that it goes on from; what it says of the best one is put right.
    """
    for callback in trainer.checkpoint_callbacks:
        state = checkpoint.get("callbacks", {}).get(callback.state_key)
        if not isinstance(callback, ModelCheckpoint) or callback.monitor is None or state is None:
            continue
        here = Path(str(callback.dirpath))
        if not state["best_model_path"] or Path(state["dirpath"]) == here:
            continue
        before, score = Path(state["best_model_path"]), state["best_model_score"]
        found = next((path for path in (here / before.name, before) if _has_score(path, float(score))), None)
        if found is None:
            del checkpoint["callbacks"][callback.state_key]
            line = f"the best checkpoint so far, {before}, is gone: the best is chosen among the epochs from here on"
        else:
            name = str(found)
            state.update(dirpath=callback.dirpath, best_model_path=name, kth_best_model_path=name)
            state["best_k_models"] = {name: score}
            line = f"the best checkpoint so far is {name} ({float(score):.4f})"
        if trainer.is_global_zero:
            print(line, flush=True)


def _agree(trainer: pl.Trainer, value: int) -> Callable[[], int]:
    """The largest value of all processes, when it is called."""
    if trainer.world_size == 1:
        return lambda: signals.asked() or value
    return Agreed(torch.tensor(value, device=trainer.strategy.root_device)).read


def _is_trial(trainer: pl.Trainer) -> bool:
    """Whether this is a run of debug=fast, which leaves nothing."""
    return bool(getattr(trainer, "fast_dev_run", False))


def _behind(path: Path) -> Behind:
    """What a training had behind it in a checkpoint; nothing where there is none that is whole."""
    try:
        return what_is_behind(load_plain(path)) if path.is_file() else Behind()
    except UserError:
        return Behind()


def _has_score(path: Path, score: float) -> bool:
    try:
        return path.is_file() and best_score(load_plain(path)) == score
    except UserError:
        return False
