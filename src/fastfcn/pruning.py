"""The end of a trial of a search that is not worth its time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from typing_extensions import override

from fastfcn import monitored
from fastfcn.status import Pruned

if TYPE_CHECKING:
    from fastfcn.search.reporter import Reporter


class ReportToStudy(Callback):
    """Reports each validated epoch of a trial to its search, which may stop it; silent outside a search.

    Of several processes the first one reports and asks, and all stop together.

    Args:
        run_dir: Of the trial; the study lies in the directory above.
        monitor: The figure that the search optimises.
        trial: Number of the trial; null outside a search.
    """

    def __init__(self, *, run_dir: str, monitor: str, trial: int | None = None) -> None:
        self.sweep_dir = Path(run_dir).absolute().parent
        self.monitor = monitor
        self.trial = trial
        self._reporter: Reporter | None = None

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Optuna is for the first process alone, and a study that is not there shows before the first epoch.
        if self.trial is not None and trainer.is_global_zero:
            from fastfcn.search.reporter import Reporter

            self._reporter = Reporter(self.sweep_dir, self.trial)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.trial is None or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        figure = monitored.figure(trainer, self.monitor, key="callbacks.report_to_study.monitor")
        reason = self._reason(trainer, float(figure)) if self._reporter is not None else None
        reason = trainer.strategy.broadcast(reason, src=0)
        if reason is not None:
            raise Pruned(reason)

    def _reason(self, trainer: pl.Trainer, score: float) -> str | None:
        """Report; gives why the trial is to stop, or None."""
        assert self._reporter is not None
        epochs = trainer.current_epoch + 1
        stops = self._reporter.report(score, epochs=epochs)
        if not stops or epochs == trainer.max_epochs:  # nothing is saved by stopping behind the last epoch
            return None
        count = f"{epochs} {'epoch' if epochs == 1 else 'epochs'}"
        return f"{self.monitor} {score:.4f} after {count}, by pruner={self._reporter.pruner}"
