"""Which checkpoint a training goes on from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from fastfcn import beginning, durable
from fastfcn.module import SegmentationModule
from tests.scripts import TINY, Done

pytestmark = pytest.mark.slow  # the checkpoint is of a real training


@pytest.fixture(scope="module")
def module(last: Path) -> SegmentationModule:
    """Of the model that the checkpoints are of."""
    from fastfcn.checkpoint import load_model, read_checkpoint

    return SegmentationModule(model=load_model(last), facts=read_checkpoint(last).facts)


@pytest.fixture
def place(last: Path, tmp_path: Path) -> Path:
    """Checkpoints of steps 1 to 4, of which 3 is in the midst of the second epoch."""
    content: dict[str, Any] = torch.load(last, weights_only=True)
    progress = content["loops"]["fit_loop"]["epoch_progress"]["current"]
    for name, step, epoch, processed in (("a", 1, 0, 0), ("best", 2, 0, 1), ("previous", 3, 1, 1), ("last", 4, 1, 2)):
        progress["processed"] = processed
        durable.write({**content, "global_step": step, "epoch": epoch}, tmp_path / f"checkpoints/{name}.ckpt")
    return tmp_path


def chosen(place: Path, module: SegmentationModule) -> str:
    path = beginning._newest_checkpoint(place, module)
    return Path(path).name if path is not None else ""


def test_the_latest_step_is_the_newest(
    place: Path, module: SegmentationModule, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chosen(place, module) == "last.ckpt"
    assert "goes on after epoch 2 from" in capsys.readouterr().out
    (place / "checkpoints/last.ckpt").unlink()
    assert chosen(place, module) == "previous.ckpt"
    assert "goes on in epoch 2 after step 3 from" in capsys.readouterr().out
    shutil.rmtree(place / "checkpoints")
    assert chosen(place, module) == ""


def test_damaged_files_are_passed_over(
    place: Path, module: SegmentationModule, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place / "checkpoints"
    data = (folder / "last.ckpt").read_bytes()
    (folder / "last.ckpt").write_bytes(data[: len(data) // 2])
    flipped = bytearray((folder / "previous.ckpt").read_bytes())
    flipped[len(flipped) // 2] ^= 8
    (folder / "previous.ckpt").write_bytes(flipped)
    (folder / "best.ckpt").write_bytes(b"")
    assert chosen(place, module) == "a.ckpt"
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["passed over"] * 3 + [lines[-1]]
    for name in ("best", "last", "previous"):
        assert sum(f"{name}.ckpt" in line for line in lines[:3]) == 1


def test_a_moved_run_keeps_its_best(training: Done, last: Path, tmp_path: Path, data_dir: Path) -> None:
    """In another place Lightning would forget the score, and take the next epoch for the best."""
    from tests.scripts import call

    moved = tmp_path / "moved"
    shutil.copytree(last.parents[1], moved)
    content: dict[str, Any] = torch.load(last, weights_only=True)
    [state] = [each for each in content["callbacks"].values() if each.get("monitor") == "val/score"]
    state["best_model_score"] = torch.tensor(0.99)  # no epoch will be better
    for key in list(state["best_k_models"]):
        state["best_k_models"][key] = state["best_model_score"]
    for name in ("last", "best"):
        durable.write(content, moved / f"checkpoints/{name}.ckpt")
    before = (moved / "checkpoints/best.ckpt").read_bytes()
    options = (*TINY, "trainer.max_epochs=2", "test=false", f"paths.data_dir={data_dir}", f"hydra.run.dir={moved}")
    done = call("train.py", *options, "resume=auto").check()
    assert f"the best checkpoint so far is {moved}/checkpoints/best.ckpt (0.9900)" in done.out
    assert (moved / "checkpoints/best.ckpt").read_bytes() == before
    resumed = torch.load(moved / "checkpoints/last.ckpt", weights_only=True)
    assert (resumed["epoch"], resumed["global_step"]) == (1, 4)


def test_killed_between_the_best_and_the_last_of_an_epoch(last: Path, tmp_path: Path, data_dir: Path) -> None:
    """If that was the last epoch, nothing would write the last one."""
    from tests.scripts import call

    run_dir = tmp_path / "run"
    shutil.copytree(last.parents[1], run_dir)
    folder = run_dir / "checkpoints"
    expected = (folder / "best.ckpt").read_bytes()
    older: dict[str, Any] = torch.load(last, weights_only=True)
    durable.write({**older, "global_step": 1}, folder / "last.ckpt")
    call(
        "train.py", *TINY, "test=false", "resume=auto", f"paths.data_dir={data_dir}", f"hydra.run.dir={run_dir}"
    ).check()
    assert (folder / "last.ckpt").read_bytes() == expected
    assert durable.damage(folder / "last.ckpt") is None
    assert torch.load(folder / "previous.ckpt", weights_only=True)["global_step"] == 1
