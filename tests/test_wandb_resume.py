"""Which run of W&B a training belongs to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fastfcn import tracking, wandb_resume
from fastfcn.wandb_logging import wandb_logger
from fastfcn.wandb_resume import next_step
from tests.wandb_records import records


def choose_id(run_dir: Path, *, resume: str | None) -> str:
    file = run_dir / wandb_resume.ID_FILE
    before = file.read_text() if file.exists() else ""
    chosen = wandb_resume.choose_id(run_dir, resume=resume)
    assert chosen.goes_on == (chosen.id in before)
    return chosen.id


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    return tmp_path / "run"


def test_id_goes_on_in_its_own_directory_alone(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = str(run_dir / "checkpoints" / "last.ckpt")
    first = choose_id(run_dir, resume=None)
    assert choose_id(run_dir, resume=last) == first
    assert choose_id(run_dir, resume="auto") == first
    monkeypatch.chdir(run_dir)
    assert choose_id(run_dir, resume="checkpoints/last.ckpt") == first
    other = tmp_path / "other"
    other.mkdir()
    assert choose_id(other, resume=last) != first  # goes on with the training, in another directory
    assert choose_id(run_dir, resume="auto") == first
    again = choose_id(run_dir, resume=None)  # a training from the start is another run
    assert again != first
    assert choose_id(run_dir, resume="auto") == again
    assert choose_id(run_dir, resume=str(other / "last.ckpt")) not in (first, again)


def test_id_travels_with_a_directory_that_moves_and_not_with_a_copy(run_dir: Path, tmp_path: Path) -> None:
    first = choose_id(run_dir, resume=None)
    copy = tmp_path / "copy"
    shutil.copytree(run_dir, copy)
    copied = choose_id(copy, resume="auto")
    assert copied != first
    assert choose_id(copy, resume="auto") == copied
    moved = run_dir.rename(tmp_path / "moved")
    assert choose_id(moved, resume="auto") == first


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": "a"}'])
def test_a_damaged_id_is_replaced(run_dir: Path, text: str) -> None:
    (run_dir / "wandb_run.json").write_text(text)
    fresh = choose_id(run_dir, resume="auto")
    assert choose_id(run_dir, resume="auto") == fresh


def test_ids_differ(tmp_path: Path) -> None:
    assert len({choose_id(tmp_path, resume=None) for _ in range(50)}) == 50


@pytest.mark.slow
@pytest.mark.usefixtures("own_wandb")
def test_parts_of_an_offline_run_count_their_steps_on(run_dir: Path) -> None:
    for resume in (None, "auto", "auto"):
        logger = wandb_logger(project="toy", save_dir=str(run_dir), mode="offline", resume=resume)
        for step in range(3):
            logger.log_metrics({"a": float(step)}, step=step)
        tracking.finish([logger])
    parts = sorted((run_dir / "wandb").glob("offline-run-*"), key=lambda part: part.stat().st_mtime)
    assert len(parts) == 3
    assert len({record["run_id"] for part in parts for record in records(part, "run")}) == 1
    found = sorted(int(record["step"]["num"]) for part in parts for record in records(part, "history"))
    assert found == list(range(9))
    assert next_step(run_dir / "wandb", "another") == 0
