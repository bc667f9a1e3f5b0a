from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import fastfcn
from fastfcn.errors import UserError
from fastfcn.optim import SGDPoly, poly
from tests.official import GOLDENS


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(2, 2), nn.Linear(2, 1)


def test_learning_rates_agree_with_the_official_schedule() -> None:
    golden = np.load(GOLDENS / "poly_lr.npz")
    total = int(golden["epochs"] * golden["iters_per_epoch"])
    optimizer, schedule = SGDPoly(lr=float(golden["base_lr"])).build(Tiny(), global_batch=16, total_steps=total)
    for step, expected in enumerate(golden["lr"]):
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(list(expected)), f"step {step}"
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0


def test_poly_falls_to_zero_and_stays() -> None:
    assert poly(0, 10) == 1
    assert poly(10, 10) == poly(11, 10) == 0
    assert poly(5, 10, power=2) == 0.25


def test_rate_scales_with_the_global_batch() -> None:
    optimizer, _ = SGDPoly(lr=0.001).build(Tiny(), global_batch=4, total_steps=10)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.00025, 0.0025])
    optimizer, _ = SGDPoly(lr=0.001, reference_batch=None).build(Tiny(), global_batch=4, total_steps=10)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.001)


def test_every_parameter_is_in_one_group_and_decays() -> None:
    model = fastfcn.build_model(backbone="resnet18", num_classes=3)
    optimizer, _ = SGDPoly().build(model, global_batch=16, total_steps=10)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    assert len(optimizer.param_groups[0]["params"]) == len(list(model.backbone.parameters()))
    assert {group["weight_decay"] for group in optimizer.param_groups} == {1e-4}


def test_a_frozen_backbone_leaves_one_group() -> None:
    model = Tiny()
    model.backbone.requires_grad_(False)
    optimizer, _ = SGDPoly(lr=0.1).build(model, global_batch=16, total_steps=10)
    assert [group["name"] for group in optimizer.param_groups] == ["rest"]
    assert isinstance(optimizer, torch.optim.SGD)


def test_a_rate_that_is_not_positive_is_refused() -> None:
    with pytest.raises(UserError, match=r"optim\.lr=0"):
        SGDPoly(lr=0).build(Tiny(), global_batch=16, total_steps=10)


def steps(optim: SGDPoly, count: int = 3, **arguments: bool) -> tuple[torch.optim.SGD, list[torch.Tensor]]:
    torch.manual_seed(0)
    model = Tiny()
    optimizer, schedule = optim.build(model, global_batch=16, total_steps=10, **arguments)
    for _ in range(count):
        optimizer.zero_grad()
        model.head(model.backbone(torch.ones(4, 2))).square().mean().backward()
        optimizer.step()
        schedule.step()
    return optimizer, [value.detach() for value in model.parameters()]


def test_a_fused_step_is_the_same_step() -> None:
    fused, plain = steps(SGDPoly(lr=0.1)), steps(SGDPoly(lr=0.1, fused=False))
    assert [group["fused"] for group in fused[0].param_groups] == [True, True]
    assert [group["fused"] for group in plain[0].param_groups] == [False, False]
    for a, b in zip(fused[1], plain[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_clipped_gradients_in_mixed_precision_are_not_fused() -> None:
    optimizer, _ = steps(SGDPoly(), clipped_in_mixed_precision=True)
    assert not any(group["fused"] for group in optimizer.param_groups)
    with pytest.raises(UserError, match=r"optim\.fused=true.*gradient_clip_val"):
        steps(SGDPoly(fused=True), clipped_in_mixed_precision=True)


def test_a_checkpoint_does_not_decide_how_a_step_is_made() -> None:
    plain, _ = steps(SGDPoly(fused=False))
    fused, _ = steps(SGDPoly())
    fused.load_state_dict(plain.state_dict())
    assert [(group["fused"], group["foreach"]) for group in fused.param_groups] == [(True, False)] * 2
