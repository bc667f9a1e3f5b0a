"""What a search has found: a table of the best trials, which settings mattered, and every trial as CSV."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from fastfcn.search.driver import Budget
from fastfcn.search.study import Search, Trial
from fastfcn.whole_files import replacing

CSV_FILE = "study.csv"

#: Rows of the table.
SHOWN = 10

#: Trials from which on importances say anything.
ENOUGH = 10


def ranked(search: Search) -> list[Trial]:
    """The trials that came to their end, the best first."""
    done = [trial for trial in search.trials() if trial.state == "done" and trial.score is not None]
    return sorted(done, key=lambda trial: trial.score or 0.0, reverse=search.maximize)


def write_csv(search: Search, path: Path) -> None:
    """Write every trial, whole or not at all."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "state", "score", "epochs", "seconds", "directory", "reason", *search.space])
        for trial in search.trials():
            seconds = (trial.ended - trial.started).total_seconds() if trial.ended and trial.started else None
            values = [trial.params.get(key) for key in search.space]
            writer.writerow(
                [trial.number, trial.state, trial.score, trial.epochs, seconds, trial.name, trial.reason, *values]
            )


def importances(search: Search) -> Mapping[str, float]:
    """How much of the difference between good and bad trials each setting explains, by PED-ANOVA; sums to 1.

    Empty where too few trials have ended or a single setting varies.
    """
    if len(ranked(search)) < ENOUGH or len(search.space) < 2:
        return {}
    return get_param_importances(search.study, evaluator=PedAnovaImportanceEvaluator())


def show_plan(search: Search, budget: Budget, *, sweep_dir: Path) -> None:
    """Print what varies, and how far the search is."""
    say = Console().print
    for key, parameter in search.space.items():
        say(f"{key}: {parameter}", soft_wrap=True, markup=False, highlight=False)
    told = f"search in {sweep_dir}: {_count(search)}, {_spent(search, budget)}"
    say(told, soft_wrap=True, markup=False, highlight=False)


def show_end(
    search: Search, budget: Budget, *, sweep_dir: Path, stopped: str | None, best: Sequence[str], again: str
) -> bool:
    """Print how the search stands.

    Args:
        search: the study.
        budget: of the search.
        sweep_dir: where its trials are.
        stopped: why it ended before its budget; None where it did not.
        best: lines on how to train the best trial anew; not shown where there is none.
        again: the command that goes on.

    Returns:
        Whether all of it is done: no trial failed, and nothing ended it early.
    """
    console = Console()

    def say(line: str) -> None:
        console.print(line, soft_wrap=True, markup=False, highlight=False)

    trials, order = search.trials(), ranked(search)
    if order:
        console.print(_table(order[:SHOWN], search))
        if weights := importances(search):
            say("importance: " + ", ".join(f"{key} {weight:.2f}" for key, weight in weights.items()))
        for line in best:
            say(line)
    for trial in trials:
        if trial.state == "failed":
            say(f"trial {trial.number} failed: {trial.reason} ({sweep_dir / (trial.name or '')})")
    say(f"{_count(search)}, {_spent(search, budget)}: {sweep_dir / CSV_FILE}")
    failed = any(trial.state == "failed" for trial in trials)
    if failed:
        say("failed trials count; to make up for them raise hydra.sweeper.trials.")
    if stopped:
        say(f"stopped before its budget was spent: {stopped}")
    if stopped or any(trial.state == "running" for trial in trials):
        say(f"the same command goes on, with more of hydra.sweeper.hours where those are spent:\n  {again}")
    return not failed and not stopped


def _table(trials: Sequence[Trial], search: Search) -> Table:
    table = Table(box=SIMPLE)
    for heading in ("trial", "score", "epochs", *search.space):
        table.add_column(heading, justify="right", overflow="fold")
    for trial in trials:
        values = [_brief(trial.params.get(key, "-")) for key in search.space]
        table.add_row(str(trial.number), f"{trial.score:.4f}", str(trial.epochs), *values)
    return table


def _brief(value: str) -> str:
    """A long number with four figures."""
    try:
        return f"{float(value):.4g}" if len(value) > 6 else value
    except ValueError:
        return value


def _count(search: Search) -> str:
    counts: Counter[Any] = Counter(trial.state for trial in search.trials())
    told = [f"{counts[state]} {state}" for state in ("done", "pruned", "failed") if counts[state]]
    told += [f"{counts['running']} to go on with"] if counts["running"] else []
    return ", ".join(told) or "nothing done yet"


def _spent(search: Search, budget: Budget) -> str:
    trials = f"{len(search.trials())} of {budget.trials} trials" if budget.trials else "any number of trials"
    hours = f"{search.seconds / 3600:.2f} of {budget.hours:g} hours" if budget.hours else ""
    return ", ".join(filter(None, [trials, hours]))
