"""Weighted losses and averages on two processes are those on one."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from fastfcn.averaging import AVERAGING_KEY
from fastfcn.losses import SegmentationLoss
from fastfcn.types import SegmentationOutput
from tests import forked
from tests.scripts import TINY, call, two_processes
from tests.test_skewed_losses import OPTIONS, material

pytestmark = [pytest.mark.slow, two_processes]


def half(place: str, variables: dict[str, str]) -> int:
    """The terms of a process's images, with their gradients."""
    os.environ.update(variables)
    dist.init_process_group("gloo")
    found: dict[str, tuple[Tensor, Tensor]] = {}
    rank = dist.get_rank()
    for name, options in OPTIONS.items():
        logits, mask = material((5, 7))
        own = slice(0, 1) if rank == 0 else slice(1, 3)
        loss = SegmentationLoss(**options)(SegmentationOutput(logits[own]), mask[own])["ce"]
        found[name] = loss.detach(), torch.autograd.grad(loss, logits)[0]
    torch.save(found, f"{place}/{rank}.pt")
    dist.destroy_process_group()
    return 0


def test_the_mean_of_two_processes_is_the_loss_of_the_global_batch(tmp_path: Path) -> None:
    for ended in forked.two(partial(half, str(tmp_path)), tmp_path):
        assert ended.code == 0, ended.text
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, options in OPTIONS.items():
        logits, mask = material((5, 7))
        loss = SegmentationLoss(**options)(SegmentationOutput(logits), mask)["ce"]
        torch.testing.assert_close((parts[0][name][0] + parts[1][name][0]) / 2, loss.detach())
        (gradient,) = torch.autograd.grad(loss, logits)
        torch.testing.assert_close((parts[0][name][1] + parts[1][name][1]) / 2, gradient)


def test_a_training_with_weights_counted_and_averaged(tmp_path: Path, data_dir: Path) -> None:
    more = (
        *(item for item in TINY if item != "trainer=cpu"), f"paths.data_dir={data_dir}", "test=false",
        "loss.class_weights=inverse_frequency", "callbacks.average_weights.decay=0.9",
        "callbacks.stop_early.patience=1", "freeze=[stem]",
    )  # fmt: skip
    ended = forked.train(tmp_path, *more, f"hydra.run.dir={tmp_path}/two")
    assert [each.code for each in ended] == [0, 0], ended
    one = call("train.py", "trainer=cpu", *more, f"hydra.run.dir={tmp_path}/one").check()
    told = [line for line in one.out.splitlines() if line.startswith("class weights by")]
    assert told
    assert told[0] in ended[0].text
    assert "class weights by" not in ended[1].text
    first, second = (
        torch.load(tmp_path / f"{name}/checkpoints/last.ckpt", weights_only=True) for name in ("one", "two")
    )
    for name, value in first["state_dict"].items():
        torch.testing.assert_close(second["state_dict"][name], value, rtol=1e-3, atol=1e-4)
    assert first[AVERAGING_KEY]["steps"] == second[AVERAGING_KEY]["steps"] == 2
