"""The study: what it keeps, what it refuses, and what its trials see of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastfcn.errors import UserError
from fastfcn.pruning import ReportToStudy
from fastfcn.search import report
from fastfcn.search.driver import Budget
from fastfcn.search.journal import STUDY_FILE
from fastfcn.search.reporter import Reporter
from fastfcn.search.space import Choice, Parameter, Range
from fastfcn.search.strategy import Strategy
from fastfcn.search.study import Search
from fastfcn.status import Pruned
from tests.search.fakes import SPACE, open_search


def test_values_are_of_the_space_and_as_the_command_line_has_them(tmp_path: Path) -> None:
    space: dict[str, Parameter] = {
        "a": Range(1e-4, 0.1, log=True), "b": Range(16, 64, step=16), "c": Range(0.0, 0.3, step=0.1),
        "d": Choice(("null", "[1,2]", "true")), "e": Range(1, 64, log=True),
    }  # fmt: skip
    search = open_search(tmp_path, space=space)
    for _ in range(12):
        params = search.ask().params
        assert 1e-4 <= float(params["a"]) <= 0.1
        assert int(params["b"]) in (16, 32, 48, 64)
        assert min(abs(float(params["c"]) - value) for value in (0.0, 0.1, 0.2, 0.3)) < 1e-9
        assert params["d"] in ("null", "[1,2]", "true")
        assert 1 <= int(params["e"]) <= 64


def test_a_trial_that_was_killed_while_it_was_asked_for_gets_the_rest_of_its_values(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    half = search.study.ask()
    half.suggest_float("optim.lr", 1e-4, 0.1, log=True)
    trial = open_search(tmp_path).resume(half.number)
    assert float(trial.params["optim.lr"]) == half.params["optim.lr"]
    assert trial.params["upsample"] in ("none", "jpu")


def test_a_line_that_was_not_written_to_its_end_is_cut_off(tmp_path: Path) -> None:
    open_search(tmp_path).ask()
    with (tmp_path / STUDY_FILE).open("a") as file:
        file.write('{"op_code": 5, "worker')
    open_search(tmp_path).ask()
    assert len(open_search(tmp_path).trials()) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"space": {**SPACE, "optim.lr": Range(0.01, 0.1)}}, r"over optim.lr=\{low: 0.0001, high: 0.1, log: True\}"),
        ({"space": {"optim.lr": SPACE["optim.lr"]}}, r"over upsample=\[none, jpu\], now it is nothing"),
        ({"settings": {"trainer.max_epochs": 5}}, "with trainer.max_epochs=3, now it is 5"),
        ({"maximize": False}, "to maximize and not to minimize"),
    ],
)
def test_another_search_in_the_same_place_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    open_search(tmp_path).ask()
    same = {"space": SPACE, "settings": {"trainer.max_epochs": 3}, "maximize": True, "strategy": Strategy()}
    assert len(Search(tmp_path, **same).trials()) == 1  # type: ignore[arg-type]
    with pytest.raises(UserError, match=words) as error:
        Search(tmp_path, **{**same, **change})
    assert "hydra.sweep.dir=" in str(error.value)


def test_trials_without_their_study_are_refused(tmp_path: Path) -> None:
    (tmp_path / "trial-000-encoding").mkdir()
    for _ in range(2):
        with pytest.raises(UserError, match=r"study\.journal is gone"):
            open_search(tmp_path)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sampler": "grid"}, "sweep=grid"),
        ({"sampler": "cma"}, "choose one of tpe, random"),
        ({"pruner": "mean"}, "choose one of median, halving, hyperband, none"),
        ({"pruner": "hyperband"}, "trainer.max_epochs"),
        ({"startup_trials": 0}, "hydra.sweeper.startup_trials=0"),
        ({"seed": "x"}, "hydra.sweeper.seed=x"),
    ],
)
def test_a_strategy_that_there_is_not(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Strategy(**given).check()


def test_tpe_goes_where_good_trials_were(tmp_path: Path) -> None:
    search = open_search(tmp_path, space={"x": Range(0.0, 1.0)}, sampler="tpe", startup_trials=8)
    for _ in range(24):
        trial = search.ask()
        search.tell(trial.number, "done", score=-abs(float(trial.params["x"]) - 0.25))
    distances = [-(trial.score or 0.0) for trial in search.trials()]
    assert sum(distances[16:]) / 8 < 0.5 * sum(distances[:8]) / 8


@pytest.mark.parametrize(
    ("pruner", "stops"), [("median", True), ("halving", True), ("hyperband", True), ("none", False)]
)
def test_pruners_stop_the_poor_and_not_the_good(tmp_path: Path, pruner: str, stops: bool) -> None:
    search = open_search(tmp_path, pruner=pruner, startup_trials=2, epochs=3)
    for score in (0.5, 0.6, 0.7):
        trial = search.ask()
        reporter = Reporter(tmp_path, trial.number)
        for epochs in (1, 2, 3):
            assert not reporter.report(score, epochs=epochs)
        search.tell(trial.number, "done", score=score)
    heard = []
    for _ in range(3):  # hyperband's brackets have their own first rungs
        trial = search.ask()
        reporter = Reporter(tmp_path, trial.number)
        heard.append(any(reporter.report(0.1, epochs=epochs) for epochs in (1, 2)))
    assert any(heard) == stops


#: The callback asks nothing of it.
MODULE: Any = SimpleNamespace()


class _Strategy:
    def broadcast(self, value: object, src: int) -> object:
        return value


def _trainer(score: float, epoch: int, **more: Any) -> Any:
    standing = {"is_global_zero": True, "sanity_checking": False, "max_epochs": 4, **more}
    return SimpleNamespace(
        callback_metrics={"val/score": score}, current_epoch=epoch, state=SimpleNamespace(fn="fit"),
        strategy=_Strategy(), **standing,
    )  # fmt: skip


def _poor_trial(tmp_path: Path) -> ReportToStudy:
    """A trial beside a good one."""
    search = open_search(tmp_path, pruner="median", startup_trials=1)
    good = search.ask()
    for epochs in (1, 2, 3, 4):
        Reporter(tmp_path, good.number).report(0.5, epochs=epochs)
    search.tell(good.number, "done", score=0.5)
    poor = search.ask()
    callback = ReportToStudy(run_dir=str(tmp_path / "trial-001"), monitor="val/score", trial=poor.number)
    callback.on_fit_start(_trainer(0.0, 0), MODULE)
    return callback


def test_the_callback_reports_and_stops_a_poor_trial(tmp_path: Path) -> None:
    callback = _poor_trial(tmp_path)
    callback.on_validation_end(_trainer(0.1, 0, sanity_checking=True), MODULE)
    callback.on_validation_end(_trainer(0.6, 0), MODULE)
    callback.on_fit_start(_trainer(0.0, 0), MODULE)
    callback.on_validation_end(_trainer(0.1, 0), MODULE)  # a resumed one repeats an epoch
    [_, trial] = open_search(tmp_path).trials()
    assert (trial.epochs, trial.score) == (1, 0.6)
    # The best so far counts, as in the median pruner of Optuna: 0.6 stays in front.
    callback.on_validation_end(_trainer(0.1, 1), MODULE)


def test_pruning_says_why_and_spares_the_last_epoch(tmp_path: Path) -> None:
    callback = _poor_trial(tmp_path)
    with pytest.raises(Pruned, match=r"val/score 0.1000 after 1 epoch, by pruner=median"):
        callback.on_validation_end(_trainer(0.1, 0), MODULE)
    callback.on_validation_end(_trainer(0.1, 3), MODULE)


def test_other_processes_hear_the_first(tmp_path: Path) -> None:
    class Told(_Strategy):
        def broadcast(self, value: object, src: int) -> object:
            assert (value, src) == (None, 0)
            return "poor"

    _poor_trial(tmp_path)
    other = ReportToStudy(run_dir=str(tmp_path / "trial-001"), monitor="val/score", trial=1)
    trainer = _trainer(0.1, 0, is_global_zero=False)
    trainer.strategy = Told()
    other.on_fit_start(trainer, MODULE)
    with pytest.raises(Pruned, match="poor"):
        other.on_validation_end(trainer, MODULE)


def test_the_callback_outside_a_search(tmp_path: Path) -> None:
    silent = ReportToStudy(run_dir=str(tmp_path / "run"), monitor="val/score")
    silent.on_fit_start(_trainer(0.1, 0), MODULE)
    silent.on_validation_end(_trainer(0.1, 0), MODULE)
    lost = ReportToStudy(run_dir=str(tmp_path / "run"), monitor="val/score", trial=3)
    with pytest.raises(UserError, match="sweep=search makes both"):
        lost.on_fit_start(_trainer(0.1, 0), MODULE)
    open_search(tmp_path)
    with pytest.raises(UserError, match="no such trial"):
        lost.on_fit_start(_trainer(0.1, 0), MODULE)


def test_a_figure_that_is_not_logged(tmp_path: Path) -> None:
    callback = _poor_trial(tmp_path)
    callback.monitor = "val/iou"
    with pytest.raises(UserError, match=r"monitor=val/iou.*val/score"):
        callback.on_validation_end(_trainer(0.1, 0), MODULE)


def test_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = open_search(tmp_path)
    for number in range(12):
        trial = search.ask()
        search.name(number, f"trial-{number:03d}")
        search.tell(number, "done", score=0.9 if trial.params["upsample"] == "jpu" else 0.1)
    search.ask()
    search.tell(12, "failed", reason="loss, nan")
    weights = report.importances(search)
    assert weights["upsample"] > weights["optim.lr"]
    report.write_csv(search, tmp_path / report.CSV_FILE)
    lines = (tmp_path / report.CSV_FILE).read_text().splitlines()
    assert lines[0] == "trial,state,score,epochs,seconds,directory,reason,optim.lr,upsample"
    assert len(lines) == 14
    assert '"loss, nan"' in lines[-1]
    show = {"sweep_dir": tmp_path, "best": ["anew"], "again": "the command"}
    assert not report.show_end(search, Budget(13), stopped=None, **show)  # type: ignore[arg-type]
    told = capsys.readouterr().out
    assert "12 done, 1 failed, 13 of 13 trials" in told
    assert "trial 12 failed: loss, nan" in told
    assert "importance: upsample" in told
    assert told.count("0.9000") == min(10, sum(",0.9," in line for line in lines))
