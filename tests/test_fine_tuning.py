"""Parts that stay as they are, rates of their own, and weights of a model of other classes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fastfcn
from fastfcn.class_entries import entries_of_classes
from fastfcn.errors import UserError
from fastfcn.freezing import freeze
from fastfcn.models.fastfcn import FastFCN
from fastfcn.optim import SGDPoly
from fastfcn.parts import PARTS, modules_of, parameters_of
from tests.scripts import TINY, call

SMALL = ("upsample.width=8", "head.width=16", "head.num_codewords=4")


def small(backbone: str = "resnet18", **names: Any) -> FastFCN:
    return fastfcn.build_model(backbone=backbone, num_classes=3, overrides=SMALL, **names)


@pytest.mark.parametrize("backbone", ["resnet18", "test_resnet", "test_convnext"])
def test_every_parameter_is_in_exactly_one_part(backbone: str) -> None:
    model = small(backbone)
    found = parameters_of(model, key="x")
    assert set(found) == set(PARTS)
    listed = [id(parameter) for parameters in found.values() for parameter in parameters]
    assert sorted(listed) == sorted(map(id, model.parameters()))
    assert all(found.values())
    for level in ("c2", "c3", "c4", "c5"):
        stage = model.backbone.stage(level)  # type: ignore[operator]
        assert {id(p) for p in stage.parameters()} <= {id(p) for p in found[level]}


def test_the_stem_of_a_resnet() -> None:
    model = small()
    net: Any = model.backbone
    assert modules_of(model, ["stem", "c4"], key="x") == {
        "stem": [net.conv1, net.bn1, net.relu, net.maxpool], "c4": [net.layer3],
    }  # fmt: skip


def trained(
    model: nn.Module, optim: SGDPoly | None = None, steps: int = 2
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Entries of the model before and after some steps, with a weight decay that would show."""
    before = copy.deepcopy(dict(model.state_dict()))
    settings = optim or SGDPoly(lr=0.1, weight_decay=0.1)
    optimizer, _ = settings.build(model, global_batch=16, total_steps=10)
    model.train()
    for _ in range(steps):
        output = model(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
        (output.logits.square().mean() + output.aux.square().mean() + output.presence.square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return before, dict(model.state_dict())


@pytest.mark.parametrize(
    ("parts", "prefixes"),
    [
        (["backbone"], ("backbone.",)),
        (["stem", "c2"], ("backbone.conv1", "backbone.bn1", "backbone.layer1.")),
        (["upsample", "aux_head"], ("upsample.", "aux_head.")),
    ],
)
def test_what_is_frozen_stays_to_the_last_bit_and_all_else_moves(parts: list[str], prefixes: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    model = small()
    freeze(model, parts)
    model.eval().train()
    before, after = trained(model)
    for name, value in before.items():
        if name.startswith(prefixes):
            assert torch.equal(value, after[name]), name
        elif "num_batches" not in name:
            assert not torch.equal(value, after[name]), name
    twin = copy.deepcopy(model).train()
    for name, module in twin.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.training == (not name.startswith(prefixes)), name
    assert twin.head.training


def test_frozen_norms_stay_so_where_they_are_replaced() -> None:
    """As torch puts synchronised ones into their places."""
    model = small()
    freeze(model, ["stem"])
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.train()
    assert not model.backbone.bn1.training  # type: ignore[union-attr]
    assert model.backbone.layer1.training  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (["c9"], "names 'c9'"),
        (["aux_head"], "has no aux_head"),
        (["stem", "aux_head"], "has no aux_head"),
        (["backbone", "upsample", "head"], "nothing to train"),
    ],
)
def test_what_cannot_be_frozen(parts: list[str], words: str) -> None:
    model = fastfcn.build_model(backbone="resnet18", num_classes=3, overrides=(*SMALL, "model.aux_head=null"))
    with pytest.raises(UserError, match=words):
        freeze(model, parts)


def test_a_backbone_that_cannot_be_taken_apart_freezes_as_a_whole() -> None:
    model = small("test_efficientnet")
    with pytest.raises(UserError, match="no module of its own for c2"):
        freeze(model, ["c2"])
    freeze(model, ["backbone"])
    assert not any(p.requires_grad for p in model.backbone.parameters())


def test_a_backbone_that_cannot_be_taken_apart_has_one_rate() -> None:
    model = small("test_efficientnet")
    found = rates(SGDPoly(lr=0.1, factors={"backbone": 0.5, "head": 3.0}), model)
    assert found == pytest.approx({"stem": 0.05, "upsample": 1.0, "head": 0.3, "aux_head": 1.0})
    for optim in (SGDPoly(lr=0.1, layer_decay=0.5), SGDPoly(lr=0.1, factors={"c2": 1.0})):
        with pytest.raises(UserError, match="no module of its own for c2"):
            rates(optim, model)


def rates(optim: SGDPoly, model: nn.Module | None = None) -> dict[str, float]:
    optimizer, _ = optim.build(model or small(), global_batch=16, total_steps=10)
    return {group["name"]: group["lr"] for group in optimizer.param_groups}


def test_rates_of_parts() -> None:
    new = {"upsample": 1.0, "head": 1.0, "aux_head": 1.0}
    assert rates(SGDPoly(lr=0.1)) == pytest.approx({"backbone": 0.1, "rest": 1.0})
    assert rates(SGDPoly(lr=0.1, layer_decay=0.5)) == pytest.approx(
        {"c5": 0.1, "c4": 0.05, "c3": 0.025, "c2": 0.0125, "stem": 0.00625, **new}
    )
    assert rates(SGDPoly(lr=0.1, factors={"c2": 3.0, "backbone": 2.0, "head": 5.0})) == pytest.approx(
        {"stem": 0.2, "c2": 0.3, "c3": 0.2, "c4": 0.2, "c5": 0.2, **new, "head": 0.5}
    )
    frozen = small()
    freeze(frozen, ["stem", "c2"])
    assert set(rates(SGDPoly(layer_decay=0.9), frozen)) == {"c3", "c4", "c5", *new}


def test_rates_of_one_make_the_same_steps_as_two_groups() -> None:
    runs = []
    for optim in (SGDPoly(lr=0.1), SGDPoly(lr=0.1, layer_decay=1.0)):
        torch.manual_seed(0)
        runs.append(trained(small(), optim)[1])
    assert all(torch.equal(value, runs[1][name]) for name, value in runs[0].items())


def test_the_state_of_other_groups_is_refused() -> None:
    first, _ = SGDPoly().build(small(), global_batch=16, total_steps=10)
    second, _ = SGDPoly(layer_decay=0.9).build(small(), global_batch=16, total_steps=10)
    with pytest.raises(UserError, match=r"in 2 groups, this one \d+ in 8: go on with the freeze"):
        second.load_state_dict(first.state_dict())


@pytest.mark.slow  # the checkpoint is of a real training
def test_entries_that_tell_classes_apart(best: Path) -> None:
    from fastfcn.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(best)
    state = torch.get_rng_state()
    found = entries_of_classes(checkpoint.model_config, checkpoint.facts)
    layers = ("head.classify.1", "aux_head.classify.1", "head.context.presence")
    assert found == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_a_training_begins_with_all_but_the_classes(best: Path, tmp_path: Path, make_folder: Any) -> None:
    """From scenes to a folder of two classes; frozen as a whole but for what begins anew, so that all else shows."""
    root = make_folder("two", ("sky", "road"))
    own = [item for item in TINY if not item.startswith("data.")]
    data = ("data=folder", f"data.dataset.root={root}", "data.batch_size=4", "data.crop_size=64", "data.base_size=64")
    command = ("train.py", *own, *data, f"init_from={best}", f"hydra.run.dir={tmp_path}/run", "test=false")
    assert "was trained on 11 classes" in (sentence := call(*command).sentence())
    assert "new_classifier=true" in sentence
    done = call(*command, "new_classifier=true", "freeze=[backbone]", "optim.factors={upsample:0.5}").check()
    assert "but for head.context.presence, head.classify.1, aux_head.classify.1, which begin anew" in done.out
    after = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    before = torch.load(best, weights_only=True)["state_dict"]
    assert {group["name"]: group["lr"] for group in after["optimizer_states"][0]["param_groups"]}.keys() == {
        "upsample", "head", "aux_head",
    }  # fmt: skip
    backbone = {name for name in before if name.startswith("model.backbone.")}
    assert all(torch.equal(before[name], after["state_dict"][name]) for name in backbone)
    assert after["state_dict"]["model.head.classify.1.weight"].shape[0] == 2
    assert fastfcn.load_model(tmp_path / "run/checkpoints/best.ckpt").num_classes == 2
    call("eval.py", "trainer=cpu", f"ckpt_path={tmp_path}/run/checkpoints/best.ckpt",
         f"hydra.run.dir={tmp_path}/eval").check()  # fmt: skip
