"""sweep=search as it is called, with trials that take no time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import mock

import pytest
from filelock import FileLock

from fastfcn.sweeps import process
from hydra_plugins.fastfcn_sweeper import search as sweeper
from tests.scripts import SRC, TINY, Done, call, environment
from tests.search.fakes import finish, leave, open_search

Call = Callable[..., Done]


@pytest.fixture
def jobs() -> Iterator[list[Sequence[str]]]:
    """The overrides of every trial that was run; it ends with its rate as score."""
    begun: list[Sequence[str]] = []

    def run(script: str, overrides: Sequence[str], *, run_dir: Path, **_: object) -> None:
        assert script == str(SRC / "train.py")
        begun.append(overrides)
        values = dict(item.split("=", 1) for item in overrides)
        finish(run_dir, float(values.get("optim.lr", 0.5)))

    with mock.patch.object(process, "run", run):
        yield begun


# Hydra loads its plugins anew in every call: what is replaced here lies below them.
@pytest.fixture
def searches(tmp_path: Path) -> Call:
    """Calls sweep=search in a directory of its own."""
    return lambda *more: call("train.py", "sweep=search", f"hydra.sweep.dir={tmp_path}", *TINY, *more)


def test_a_search_from_its_call_to_its_report(jobs: list[Sequence[str]], searches: Call, tmp_path: Path) -> None:
    arguments = (
        "optim.lr=interval(0.01,0.1)",
        "loss.aux_weight=0.3",
        "upsample=fpn,jpu",
        "hydra.sweeper.trials=3",
    )
    varied = [item for item in arguments if not item.startswith("hydra")]
    done = searches(*arguments).check()
    assert len(jobs) == 3
    names = sorted(path.name for path in tmp_path.glob("trial-*"))
    assert [name[:10] for name in names] == ["trial-000-", "trial-001-", "trial-002-"]
    assert names[0] in [f"trial-000-encoding-{upsample}-r18-os32-s0" for upsample in ("fpn", "jpu")]
    listed = json.loads((tmp_path / "sweep.json").read_text())
    assert listed["sweep"] == "search"
    for number, (overrides, entry) in enumerate(zip(jobs, listed["jobs"], strict=True)):
        assert {"sweep=search", "loss.aux_weight=0.3", f"callbacks.report_to_study.trial={number}"} <= set(overrides)
        assert {"resume=auto", f"run_name='{names[number]}'"} <= set(overrides)
        assert entry["name"] == entry["directory"] == names[number]
        assert [item for item in overrides if not item.startswith(("resume", "run_name"))] == entry["overrides"]
        assert not set(varied[::2]) & set(overrides)
    rates = [
        float(next(item for item in overrides if item.startswith("optim.lr=")).split("=")[1]) for overrides in jobs
    ]
    assert f"{max(rates):.4f}" in done.out
    # The best one anew: the same settings, none of the search.
    use = ("--config-dir", str(tmp_path), "--config-name", "best")
    assert " ".join(use) in done.out
    again = call("train.py", *use, "seed=7", "--cfg", "job").check().out
    best = jobs[rates.index(max(rates))]
    upsample = next(item for item in best if item.startswith("upsample=")).partition("=")[2]
    assert f"lr: {max(rates)}\n" in again
    assert f"models.upsamplers.{upsample}." in again
    assert "aux_weight: 0.3" in again
    assert "width: 32" in again
    assert "max_epochs: 1\n" in again
    assert "report_to_study" not in again
    assert "seed: 7" in again
    assert "seed: ${seed}" in again
    # The same call has nothing to do; another space is another search.
    searches(*arguments).check()
    assert len(jobs) == 3
    sentence = searches(*arguments, "optim.lr=interval(0.01,0.5)").sentence()
    assert "optim.lr={low: 0.01, high: 0.1}" in sentence
    assert "trainer.max_epochs=1, now it is 2" in searches(*arguments, "trainer.max_epochs=2").sentence()
    assert len(jobs) == 3


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["optim.lrr=interval(0,1)"], ["optim.lrr", "no such key"]),
        (["upsample=jpu,jpuu"], ["jpuu", "jpu_x"]),
        (["upsample=none,jpu"], ["upsample.width"]),  # which none has not
        (["optim.lr=interval(1,0)"], ["optim.lr", "low"]),
        (["hydra.sweeper.trials=null"], ["budget"]),
        (["hydra.sweeper.sampler=grid"], ["sweep=grid"]),
        (["hydra.sweeper.direction=up"], ["hydra.sweeper.direction=up"]),
        (["hydra.sweeper.batch=0"], ["hydra.sweeper.batch=0"]),
    ],
)
def test_mistakes_show_before_anything_starts(
    jobs: list[Sequence[str]], searches: Call, tmp_path: Path, more: list[str], words: list[str]
) -> None:
    sentence = searches(*more).sentence()
    assert [word for word in words if word not in sentence] == [], sentence
    assert jobs == []
    assert list(tmp_path.iterdir()) == []


def test_optuna_is_asked_for_in_one_sentence(tmp_path: Path) -> None:
    script = str(SRC / "train.py")
    arguments = [script, "sweep=search", f"hydra.sweep.dir={tmp_path}"]
    without = f"import runpy, sys; sys.modules['optuna'] = None; sys.argv = {arguments}; "
    command = [sys.executable, "-c", f"{without}runpy.run_path({script!r}, run_name='__main__')"]
    done = subprocess.run(command, cwd=SRC, env=environment(PYTHONPATH=str(SRC)), capture_output=True, text=True)
    sentence = Done(done.returncode, done.stdout, done.stderr).sentence()
    assert sentence == "sweep=search needs Optuna: run `pip install -e .[search]`."


def test_one_call_at_a_time(jobs: list[Sequence[str]], searches: Call, tmp_path: Path) -> None:
    with FileLock(tmp_path / sweeper.LOCK_FILE).acquire():
        assert "is going on" in searches().sentence()
    assert jobs == []


def test_a_failed_trial_is_listed_and_the_exit_code_tells(searches: Call, tmp_path: Path) -> None:
    def run(script: str, overrides: Sequence[str], *, run_dir: Path, **_: object) -> None:
        number = int(run_dir.name.split("-")[1])
        leave("failed", "loss is nan")(run_dir) if number == 1 else finish(run_dir)

    with mock.patch.object(process, "run", run):
        done = searches("hydra.sweeper.trials=3")
    assert done.code == 1
    assert "trial 1 failed: loss is nan" in done.out
    assert "2 done, 1 failed, 3 of 3 trials" in done.out


def test_joblib_runs_trials_side_by_side(searches: Call, tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=60)

    def run(script: str, overrides: Sequence[str], *, run_dir: Path, **_: object) -> None:
        together.wait()
        finish(run_dir)

    with mock.patch.object(process, "run", run):
        searches("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweeper.trials=4").check()
    assert len(list(tmp_path.glob("trial-*/results.json"))) == 4


def test_a_pruned_run_is_no_failed_job(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(SRC)!r})\n"
        "from pathlib import Path\n"
        "from fastfcn import status\n"
        "directory = Path(sys.argv[-1].split('=', 1)[1].strip(\"'\"))\n"
        "status.write(directory, status.Status('pruned', 'poor'))\n"
    )
    assert process.run(script, [], run_dir=tmp_path / "run", cwd=tmp_path) is None


@pytest.mark.parametrize(("handler", "words"), [(signal.default_int_handler, "code 130"), (signal.SIG_IGN, "SIGTERM")])
def test_a_job_is_stopped_when_the_time_is_up(tmp_path: Path, handler: signal._HANDLER, words: str) -> None:
    """Also below a sweep that was started in the background of a shell script, where Ctrl-C is ignored."""
    script = tmp_path / "script.py"
    script.write_text("import time\ntry:\n    time.sleep(100)\nexcept KeyboardInterrupt:\n    raise SystemExit(130)\n")
    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(process.JobFailed, match=words):
            # A moment for the interpreter: before its first line the signal ends it with a traceback.
            process.run(script, [], run_dir=tmp_path / "run", cwd=tmp_path, deadline=time.monotonic() + 3)
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_plugins_do_without_optuna() -> None:
    """Hydra imports them at every start."""
    heavy = "import sys, hydra_plugins.fastfcn_sweeper.search; print('optuna' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", heavy], cwd=SRC, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_search_that_is_open_elsewhere_is_the_same(tmp_path: Path) -> None:
    assert open_search(tmp_path).ask().params == open_search(tmp_path).resume(0).params
