"""Two trainings of one seed are the same to the last bit, and the first steps are those of every version before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fastfcn.training import quiet_lightning
from tests.golden_curves import ARMS, FILE, STEPS, curve
from tests.scripts import Done, call
from tests.test_first_version import AS_BEFORE

#: Relative: between threads, kernels and float64 the curves differ by up to 3e-4 in their last steps, and by 1e-6 in
#: the first; a rate or a weight of a loss that is 1% larger differs by more than this.
TOLERANCE = 2e-4


def allowed(step: int) -> float:
    """How far a loss may be from the golden one: what differs at first grows with the steps."""
    return TOLERANCE * (1 + step / 2)


def away(losses: list[float], golden: list[float]) -> int | None:
    """The first step whose loss is another."""
    pairs = enumerate(zip(losses, golden, strict=True))
    return next((step for step, (ours, theirs) in pairs if abs(ours / theirs - 1) > allowed(step)), None)


@pytest.fixture(scope="module")
def golden() -> dict[str, list[float]]:
    curves: dict[str, list[float]] = json.loads(FILE.read_text())
    assert set(curves) == {f"{head}-{upsample}" for head, upsample in ARMS}
    return curves


@pytest.mark.parametrize(("head", "upsample"), ARMS)
def test_the_first_steps_are_the_golden_ones(
    golden: dict[str, list[float]], head: str, upsample: str, data_dir: Path
) -> None:
    losses, _ = curve(head, upsample, folder=data_dir)
    expected = golden[f"{head}-{upsample}"]
    assert len(losses) == STEPS
    step = away(losses, expected)
    assert step is None, (
        f"step {step}: {losses[step]} instead of {expected[step]}; where this is meant, call `python -m "
        "tests.golden_curves` and say why in the commit"
    )
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "change",
    ["optim.lr=0.0101", "loss.aux_weight=0.202", "upsample.dilations=[1,2,4,6]", "data.seed=1"],
)
def test_a_small_change_is_seen(golden: dict[str, list[float]], change: str, data_dir: Path) -> None:
    losses, _ = curve("encoding", "jpu", change, folder=data_dir)
    assert away(losses, golden["encoding-jpu"]) is not None


def test_the_curves_are_of_different_models(golden: dict[str, list[float]]) -> None:
    for name, losses in golden.items():
        assert all(away(losses, other) is not None for key, other in golden.items() if key != name)


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> list[tuple[Path, Done]]:
    """The same training in two directories, with dropout, validation and test."""
    quiet_lightning()
    made = []
    for name in ("a", "b"):
        folder = tmp_path_factory.mktemp(name) / "run"
        counts = ("data.dataset.counts={train:16,val:4,test:4}", "data.batch_size=4", "trainer.max_epochs=2")
        places = (f"hydra.run.dir={folder}", f"paths.data_dir={data_dir}")
        made.append((folder, call("train.py", *AS_BEFORE, *counts, *places, "deterministic=true").check()))
    return made


def plain(value: Any, run: Path) -> Any:
    """What a checkpoint holds, to compare: without its place and its time."""
    if isinstance(value, dict):
        return {plain(key, run): plain(each, run) for key, each in value.items() if "Timer" not in str(key)}
    if isinstance(value, list | tuple):
        return [plain(each, run) for each in value]
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), value.tolist())
    return value.replace(str(run), "RUN") if isinstance(value, str) else value


def test_two_trainings_end_with_the_same_bits(twice: list[tuple[Path, Done]]) -> None:
    first, second = (
        plain(torch.load(run / "checkpoints/last.ckpt", weights_only=True), run) for run, _ in twice
    )  # weights, buffers, momentum, schedule, counters
    assert first["optimizer_states"][0]["state"]
    assert first == second


@pytest.mark.parametrize("file", ["metrics.csv", "pictures/epoch_001.png"])
def test_and_leave_the_same_files(twice: list[tuple[Path, Done]], file: str) -> None:
    (first, _), (second, _) = twice
    [ours], [theirs] = ([path.read_bytes() for path in run.rglob(Path(file).name)] for run in (first, second))
    assert ours == theirs
    assert ours


def test_and_the_same_figures(twice: list[tuple[Path, Done]]) -> None:
    first, second = (json.loads((run / "results.json").read_text()) for run, _ in twice)
    for results in (first, second):
        for key in ("train_seconds", "best_checkpoint"):
            del results[key]
    assert first == second


@pytest.mark.parametrize(("value", "expected"), [("true", (True, False, False)), ("warn", (True, True, False))])
def test_the_algorithms_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data_dir: Path, value: str, expected: tuple[bool, bool, bool]
) -> None:
    import pytorch_lightning as pl

    asked: list[tuple[bool, bool, bool]] = []

    def fit(*_: Any, **__: Any) -> None:
        deterministic, warns = (
            torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(),
        )  # fmt: skip
        asked.append((deterministic, warns, torch.backends.cudnn.benchmark))  # which tries algorithms, were it true

    monkeypatch.setattr(pl.Trainer, "fit", fit)
    try:
        places = (f"hydra.run.dir={tmp_path}", f"paths.data_dir={data_dir}")
        call("train.py", *AS_BEFORE, *places, f"deterministic={value}", "test=false").check()
    finally:
        torch.use_deterministic_algorithms(False)
    assert asked == [expected]
