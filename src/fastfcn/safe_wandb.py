"""The logger to Weights & Biases that never stops and never slows a training.

W&B works in two parts: its library in this process, and a service process that talks to the server. The server may be
down, out of reach, or accept a connection and say nothing; the service may hang; the disk may be full. A training of
days shall not end for any of these, nor wait: every call is made in a thread of its own (`background.py`), what a call
raises is told in one line, and each wait has a limit. What W&B keeps of the run lies in its directory all the while.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from typing_extensions import override

from fastfcn import wandb_service
from fastfcn.background import Background
from fastfcn.wandb_resume import choose_id, next_step, remember_id

#: Seconds that W&B's service may take to start and to begin a run, on a busy machine too; the server has its own limit.
STARTING = 30.0

#: Seconds beyond its own limit within which W&B's library should have told that it gave up at the end.
GRACE = 5.0


class SafeWandbLogger(WandbLogger):
    """Lightning's logger to W&B, with every call in a thread of its own and every failure survived.

    Args:
        run_dir: Where W&B's files and the run's id go.
        mode: ``online``, ``offline`` or ``disabled``; what cannot be online goes offline.
        resume: As `wandb_logger` has it.
        log_checkpoint: Whether `log_checkpoint` does anything.
        save_code: Whether the code is kept.
        init_timeout: Seconds.
        finish_timeout: Seconds.
        init: Further arguments of ``wandb.init``.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        mode: str,
        resume: str | None,
        log_checkpoint: bool,
        save_code: bool,
        init_timeout: float,
        finish_timeout: float,
        **init: Any,
    ) -> None:
        super().__init__(save_dir=str(run_dir), mode=mode, **init)
        # Lightning always hands on this option, and W&B warns of it since it has no effect any more.
        self._wandb_init.pop("anonymous", None)
        self.keeps_checkpoint = log_checkpoint and mode != "disabled"
        self._run_dir = run_dir
        self._resume = resume
        self._save_code = save_code
        self._init_timeout = init_timeout
        self._finish_timeout = finish_timeout
        self._background: Background | None = None
        self._told = False

    @property
    @override
    @rank_zero_experiment
    def experiment(self) -> Any:
        """W&B's run, begun at the first call; one that does nothing where it could not begin."""
        if self._experiment is None:
            self._background = Background(name="wandb", on_error=self._tell_of_a_failed_call)
            self._experiment = self._start(self._background)
        return self._experiment

    @override
    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        self._later(lambda: super(SafeWandbLogger, self).log_hyperparams(params))

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._later(lambda: super(SafeWandbLogger, self).log_metrics(metrics, step))

    @override
    @rank_zero_only
    def log_table(self, *args: Any, **kwargs: Any) -> None:
        self._later(lambda: super(SafeWandbLogger, self).log_table(*args, **kwargs))

    @override
    @rank_zero_only
    def log_image(self, *args: Any, **kwargs: Any) -> None:
        self._later(lambda: super(SafeWandbLogger, self).log_image(*args, **kwargs))

    @rank_zero_only
    def log_confusion(self, key: str, cells: Sequence[tuple[str, str, int]], step: int) -> None:
        """Show counts of (label, prediction) as W&B's own chart of a confusion matrix."""
        self._later(lambda: self.log_metrics({key: wandb_service.confusion_chart(cells)}, step))

    @rank_zero_only
    def log_summary(self, metrics: Mapping[str, float]) -> None:
        """Set the values by which W&B lists and sorts runs."""
        self._later(lambda: self.experiment.summary.update(dict(metrics)))

    @rank_zero_only
    def log_checkpoint(self, path: str | Path, metadata: Mapping[str, Any]) -> None:
        """Keep a checkpoint as an artifact of the run, where that is asked for."""
        if self.keeps_checkpoint:
            self._later(lambda: wandb_service.keep_checkpoint(self.experiment, Path(path), metadata))

    @rank_zero_only
    def finish(self, *, success: bool) -> None:
        """End the run, and wait for what is not uploaded yet as long as ``finish_timeout`` says."""
        if self._background is None:
            wandb_service.forget_run()  # one that took no call
            return
        run: Any = self._experiment

        def end() -> str | None:
            try:
                run.finish(exit_code=0 if success else 1)
            except TimeoutError:  # by W&B's own clock, in good order: the rest is on the disk
                return f"not all was uploaded within {self._finish_timeout:g} s"
            return None

        try:
            failure = self._background.ask(end, timeout=self._finish_timeout + GRACE)
        except Exception as error:
            failure = _reason(error) if str(error) else "its service does not answer"
            wandb_service.stop()  # or this process would wait for it at its end
        if failure is not None and not self._told:
            say(f"W&B: {failure}; what is on the disk goes up by: {sync_command(self._run_dir, '*run-*')}")
        wandb_service.forget_run()
        self._background = None
        self._told = True  # of what is left to do for a run that has ended, nothing is told

    def _start(self, background: Background) -> Any:
        """Begin the run online, or else offline, or else one that does nothing."""
        failures: list[str] = []
        asked = self._wandb_init["mode"]
        goes_on = False
        if asked != "disabled":
            self._wandb_init["id"], goes_on = choose_id(self._run_dir, resume=self._resume)
        for mode in (asked, "offline") if asked == "online" else (asked,):
            first = 0
            if goes_on and mode == "offline":  # the server knows where a run goes on, and is not asked
                first = next_step(self._run_dir / "wandb", self._wandb_init["id"])
            try:
                run = background.ask(partial(self._begin, mode, first), timeout=self._init_timeout + STARTING)
            except Exception as error:
                failures.append(_reason(error))
                wandb_service.stop()  # which would refuse a second run of the same id
            else:
                if failures:
                    say(f"W&B runs offline ({failures[0]}); to upload: {sync_command(self._run_dir)}")
                elif mode == "online":
                    say(f"W&B run: {run.url}")
                return run
        say(f"W&B cannot be used ({failures[-1]}); the training goes on without it.")
        self.keeps_checkpoint = False
        self._background = None  # which may still hang, and has nothing to do
        return wandb_service.disabled_run()

    def _begin(self, mode: str, first: int) -> Any:
        """Begin the run, in the thread of the calls, and its steps with a first one."""
        import wandb

        wandb_service.prepare()
        settings = wandb.Settings(
            # The lines printed here say all that W&B would say in many.
            silent=True,
            init_timeout=self._init_timeout,
            finish_timeout=self._finish_timeout,
            finish_timeout_raises=True,
            save_code=self._save_code or None,  # None leaves it to the user's settings of W&B
        )
        # A run of the same process that did not end is ended: the two must not merge.
        init = {**self._wandb_init, "mode": mode, "settings": settings, "reinit": "finish_previous"}
        run = wandb.init(**init)
        if mode == "disabled":
            return run
        remember_id(self._run_dir, run.id)
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        if first:
            run.log({}, step=first, commit=False)
        if self._save_code:
            wandb_service.keep_code(run)
        return run

    def _later(self, call: Callable[[], object]) -> None:
        _ = self.experiment  # begins the run
        if self._background is not None and not self._background.submit(call):
            self._tell("does not keep up")

    def _tell_of_a_failed_call(self, error: Exception) -> None:
        self._tell(f"failed ({_reason(error)})")

    def _tell(self, what: str) -> None:
        if not self._told:
            self._told = True
            say(f"W&B {what}; the training goes on, with gaps in what W&B shows of it.")


def _reason(error: BaseException) -> str:
    """An error of W&B in a few words: its first line."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def sync_command(run_dir: Path, pattern: str = "offline-run-*") -> str:
    """What a user types to upload the parts of a run."""
    return f"wandb sync {shlex.quote(str(run_dir / 'wandb'))}/{pattern}"


@rank_zero_only
def say(line: str) -> None:
    """Print a line, in one of several processes."""
    print(line, flush=True)
