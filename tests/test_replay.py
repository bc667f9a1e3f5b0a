"""train.py where a loss or gradients are not finite: what it leaves, and its replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fastfcn import incident
from fastfcn.errors import UserError
from tests import forked
from tests.scripts import TINY, call, two_processes

SPOILT = (
    *(item for item in TINY if not item.startswith(("trainer=", "data.dataset.counts", "callbacks.show_summary"))),
    "data.dataset.counts={train:20,val:4,test:4}",
    "trainer.log_every_n_steps=1",
    "callbacks.last.every_n_steps=2",
    "~callbacks.show_summary",
    "~callbacks.draw_predictions",
)


def poison(**where: Any) -> str:
    listed = ", ".join(f"{key}: {value}" for key, value in where.items())
    return f"+callbacks.poison={{_target_: tests.poison.Poison, {listed}}}"


def kept(run_dir: Path) -> tuple[Path, dict[str, Any]]:
    """The one batch that a run has kept."""
    [path] = (run_dir / "non_finite").glob("*.json")
    return path, json.loads(path.read_text())


@pytest.mark.slow
def test_a_gradient_stops_it_and_its_replay_names_it(tmp_path: Path, data_dir: Path) -> None:
    run_dir, again, name = tmp_path / "run = 1", tmp_path / "again", "model.head.context.gate.weight"
    spoil = poison(steps=[3], parameter=name)
    done = call(
        "train.py", "trainer=cpu", *SPOILT, spoil, f"paths.data_dir={data_dir}", f"hydra.run.dir='{run_dir}'",
        "trainer.accumulate_grad_batches=1", "logger=csv", "run_name=first",
    )  # fmt: skip
    path, content = kept(run_dir)
    sentence = done.sentence()
    [images] = [batch["images"] for batch in content["ranks"][0]["batches"]]
    assert "norm of nan at epoch 0, step 3" in sentence
    assert all(image["name"] in sentence for image in images)
    assert f"debug.replay={path}" in sentence
    last = torch.load(run_dir / "checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 2
    assert all(value.isfinite().all() for value in last["state_dict"].values())

    (run_dir / "checkpoints/last.ckpt").unlink()  # the replay has a name of its own for it
    done = call("train.py", f"debug.replay={path}", f"hydra.run.dir={again}")
    assert done.code == 1
    assert "goes on in epoch 1 after step 2" in done.out
    loss = content["ranks"][0]["batches"][0]["loss"]
    assert f"loss: {loss}, the same as then" in done.out  # images, augmentations, dropout: to the last bit
    told = f"reproduced, the first number that is not finite is in the gradient of {name}: 1 of 1024 numbers"
    assert done.sentence().startswith(told)

    done = call("train.py", f"debug.replay={path}", f"hydra.run.dir={again}", "callbacks.poison.steps=[]").check()
    assert f"loss: {loss}, the same as then" in done.out
    assert "not reproduced, loss and gradients of epoch 0, step 3 are finite here" in done.out
    assert json.loads((again / "status.json").read_text())["state"] == "done"


@pytest.mark.slow
@two_processes
def test_one_process_of_two_is_hit_and_both_stop(tmp_path: Path, data_dir: Path) -> None:
    run_dir = tmp_path / "run"
    spoil = poison(steps=[1], rank=1, module="model.head.classify")  # behind the last synchronised BatchNorm
    places = (f"paths.data_dir={data_dir}", f"hydra.run.dir={run_dir}")
    first, second = forked.train(tmp_path, *SPOILT, spoil, *places)
    assert (first.code, second.code) == (2, 2)
    path, content = kept(run_dir)
    losses = [rank["batches"][0]["loss"] for rank in content["ranks"]]
    assert losses[1] == "nan" != losses[0]
    hit = [image["name"] for image in content["ranks"][1]["batches"][0]["images"]]
    assert f"The training loss of another process is not finite at epoch 0, step 1 (process 1, images {hit[0]}, " in (
        first.text
    )
    assert "The training loss is nan at epoch 0, step 1 (train/ce nan, " in second.text
    assert "Traceback" not in first.text + second.text
    assert content["checkpoint"] is None  # it was not yet written: the replay begins anew

    again = forked.train(tmp_path, f"debug.replay={path}", f"hydra.run.dir={tmp_path / 'again'}")
    assert [each.code for each in again] == [1, 1]
    for rank, loss in enumerate(losses):
        assert f"loss of process {rank}: {loss}, the same as then" in again[0].text
    told = "the first number of process 1 that is not finite is in the output of model.head.classify"
    assert all(told in each.text for each in again)


def test_the_command_is_that_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "step_000001.json"
    overrides = ["backbone=resnet18", "logger=wandb", "logger.wandb.project=x", "~callbacks.best", "resume=auto",
                 "init_from=a.ckpt", "hydra.run.dir=b", "+trainer.fast=1", "debug=overfit", "test=true"]  # fmt: skip
    entry = incident.Incident("loss", 0, 1, [1], 0, [1], 1, 4, "c'.ckpt", overrides, [])
    incident.write(path, entry)
    arguments = incident.arguments([f"debug.replay={path}", "trainer.accelerator=cpu"])
    begin, end = arguments[:3], arguments[3:]
    assert begin == ["backbone=resnet18", "~callbacks.best", "+trainer.fast=1"]
    assert end[:3] == ["debug=replay", f"replay='{path}'", r"resume='c\'.ckpt'"]
    assert end[-1] == "trainer.accelerator=cpu"
    incident.write(path, entry._replace(checkpoint=None))
    assert {"init_from=a.ckpt", "resume=null"} <= set(incident.arguments([f"debug.replay={path}"]))
    assert incident.arguments(["backbone=resnet18"]) == ["backbone=resnet18"]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"what": "loss"}'])
def test_a_file_of_another_kind_is_told(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "step.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"debug\.replay=.*step\.json cannot be read"):
        incident.arguments([f"debug.replay={path}"])
    assert "step.json cannot be read" in call("train.py", f"debug.replay={path}").sentence()
