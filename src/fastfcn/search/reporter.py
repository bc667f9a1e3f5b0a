"""The study as one of its trials sees it, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.samplers import RandomSampler

from fastfcn.errors import UserError
from fastfcn.search import journal
from fastfcn.search.strategy import make_pruner


class Reporter:
    """Reports what a trial has reached.

    Args:
        sweep_dir: of the sweep.
        number: of the trial.

    Raises:
        UserError: there is no such trial.
    """

    def __init__(self, sweep_dir: Path, number: int) -> None:
        path = sweep_dir / journal.STUDY_FILE
        if not path.is_file():
            raise UserError(f"callbacks.report_to_study.trial={number}: there is no {path}; sweep=search makes both.")
        storage = journal.storage(sweep_dir)
        # No trial is asked for here: the sampler is not used.
        study = optuna.load_study(study_name=journal.NAME, storage=storage, sampler=RandomSampler())
        pruning = study.user_attrs["pruning"]
        self.pruner = str(pruning["pruner"])
        study.pruner = make_pruner(**pruning)
        try:
            trial_id = storage.get_trial_id_from_study_id_trial_number(
                storage.get_study_id_from_name(journal.NAME), number
            )
        except KeyError as error:
            raise UserError(f"callbacks.report_to_study.trial={number}: {path} holds no such trial.") from error
        self._trial = optuna.trial.Trial(study, trial_id)
        self._known = set(storage.get_trial(trial_id).intermediate_values)

    def report(self, score: float, *, epochs: int) -> bool:
        """Say what a trial has reached, and hear whether it is to stop.

        Args:
            score: the objective.
            epochs: that are behind it.
        """
        if epochs not in self._known:  # else a resumed trial repeats an epoch
            self._trial.report(score, epochs)
            self._known.add(epochs)
        return self._trial.should_prune()
