"""What a search knows so far: Optuna's study in the sweep's directory."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import optuna
from optuna.trial import TrialState

from fastfcn.errors import UserError
from fastfcn.search import journal
from fastfcn.search.space import Choice, Parameter, Space, plain, text
from fastfcn.search.strategy import Strategy

State = Literal["done", "pruned", "failed", "running"]

_STATES: Mapping[TrialState, State] = {
    TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed",
}  # fmt: skip


class Trial(NamedTuple):
    """One trial of a search.

    Attributes:
        number: from 0.
        params: key -> value, as the command line has it.
        state: ``running`` too where its process was killed.
        score: the objective; of a pruned trial the last one reported; None where there is none.
        epochs: after which it last reported.
        reason: of a failure or a pruning.
        name: of its run.
        started: when it was first asked for.
        ended: when its end was told.
    """

    number: int
    params: dict[str, str]
    state: State
    score: float | None
    epochs: int
    reason: str | None
    name: str | None
    started: datetime | None
    ended: datetime | None


class Search:
    """The study of a sweep's directory.

    Args:
        sweep_dir: of the sweep.
        space: what varies.
        settings: what all trials have in common, flat and plain: trials of other settings cannot be compared.
        maximize: whether a higher score is the better one.
        strategy: how trials are chosen and stopped.

    Raises:
        UserError: the directory holds another search.
    """

    def __init__(
        self, sweep_dir: Path, *, space: Space, settings: Mapping[str, Any], maximize: bool, strategy: Strategy
    ) -> None:
        strategy.check()
        sweep_dir.mkdir(parents=True, exist_ok=True)
        journal.mend(sweep_dir)
        self.space = dict(space)
        self.strategy = strategy
        self.maximize = maximize
        self._storage = journal.storage(sweep_dir)
        direction: Literal["maximize", "minimize"] = "maximize" if maximize else "minimize"
        self._study = optuna.create_study(
            storage=self._storage, study_name=journal.NAME, direction=direction, load_if_exists=True
        )
        self._id = self._storage.get_study_id_from_name(journal.NAME)
        known = self._study.user_attrs
        _refuse_another(
            sweep_dir,
            now={"direction": direction, "space": plain(space), "settings": dict(settings)},
            before={"direction": self._study.direction.name.lower(), **known},
        )
        if not self.trials() and (left := sorted(sweep_dir.glob("trial-*/"))):
            raise UserError(
                f"{left[0]} is of a search of which {journal.STUDY_FILE} is gone: give this search a place of its own "
                "by hydra.sweep.dir=..., or remove its trials."
            )
        pruning = {name: getattr(strategy, name) for name in ("pruner", "startup_trials", "prune_after", "epochs")}
        for key, value in (("space", plain(space)), ("settings", dict(settings)), ("pruning", pruning)):
            if known.get(key) != value:
                self._study.set_user_attr(key, value)

    @property
    def study(self) -> optuna.Study:
        """Optuna's own."""
        return self._study

    @property
    def seconds(self) -> float:
        """Wall-clock time of all calls so far, as far as it was kept."""
        return float(self._study.user_attrs.get("seconds", 0.0))

    def keep_seconds(self, seconds: float) -> None:
        """Keep the wall-clock time of all calls."""
        self._study.set_user_attr("seconds", round(seconds, 1))

    def trials(self) -> list[Trial]:
        """All trials by number."""
        return [_trial(frozen) for frozen in self._study.get_trials(deepcopy=False)]

    def ask(self) -> Trial:
        """Begin a new trial."""
        self._seed(len(self._study.get_trials(deepcopy=False)))
        return self._with_params(self._study.ask())

    def resume(self, number: int) -> Trial:
        """Go on with a trial that was begun; what a kill left without a value gets one."""
        self._seed(number)
        return self._with_params(optuna.trial.Trial(self._study, self._trial_id(number)))

    def name(self, number: int, name: str) -> None:
        """Keep the name of a trial's run."""
        self._storage.set_trial_user_attr(self._trial_id(number), "name", name)

    def tell(self, number: int, state: State, *, score: float | None = None, reason: str | None = None) -> None:
        """Say how a trial has ended."""
        assert state != "running", "that is no end"
        if reason is not None:
            self._storage.set_trial_user_attr(self._trial_id(number), "reason", reason)
        [told] = [theirs for theirs, ours in _STATES.items() if ours == state]
        self._study.tell(number, score if state == "done" else None, state=told)

    def _with_params(self, trial: optuna.trial.Trial) -> Trial:
        for key, parameter in self.space.items():
            _suggest(trial, key, parameter)
        return _trial(self._storage.get_trial(self._trial_id(trial.number)))

    def _seed(self, number: int) -> None:
        """A sampler of its own for each trial: one that a second call seeds anew would draw the first trials again."""
        state = np.random.SeedSequence([self.strategy.seed, number]).generate_state(1)
        self._study.sampler = self.strategy.make_sampler(int(state[0]))

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, number)


def _refuse_another(sweep_dir: Path, *, now: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    remedy = "give this search a place of its own by hydra.sweep.dir=..., or remove that directory"
    if now["direction"] != before["direction"]:
        raise UserError(
            f"{sweep_dir} holds a search that is to {before['direction']} and not to {now['direction']}: {remedy}."
        )
    for what in ("space", "settings"):
        ours, theirs = now[what], before.get(what, now[what])
        for key in dict.fromkeys([*ours, *theirs]):
            if ours.get(key) != theirs.get(key):
                of = "a search over" if what == "space" else "a search with"
                raise UserError(
                    f"{sweep_dir} holds {of} {key}={_short(theirs.get(key))}, now it is {_short(ours.get(key))}: "
                    f"{remedy}."
                )


def _short(value: object) -> str:
    """A parameter or setting for a sentence."""
    if isinstance(value, dict) and {"low", "high"} <= set(value):
        return "{" + ", ".join(f"{name}: {field}" for name, field in value.items() if field not in (None, False)) + "}"
    return "nothing" if value is None else f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _suggest(trial: optuna.trial.Trial, key: str, parameter: Parameter) -> None:
    if isinstance(parameter, Choice):
        trial.suggest_categorical(key, parameter.options)
    elif parameter.whole:
        step = 1 if parameter.step is None else int(parameter.step)
        trial.suggest_int(key, int(parameter.low), int(parameter.high), log=parameter.log, step=step)
    else:
        trial.suggest_float(key, parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _trial(frozen: optuna.trial.FrozenTrial) -> Trial:
    steps = frozen.intermediate_values
    return Trial(
        number=frozen.number,
        params={key: text(value) for key, value in frozen.params.items()},
        state=_STATES.get(frozen.state, "running"),
        score=frozen.value if frozen.value is not None else (steps[max(steps)] if steps else None),
        epochs=max(steps, default=0),
        reason=frozen.user_attrs.get("reason"),
        name=frozen.user_attrs.get("name"),
        started=frozen.datetime_start,
        ended=frozen.datetime_complete,
    )
