"""What a training step keeps, waits for and makes again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import fastfcn
from fastfcn.errors import UserError
from fastfcn.losses import SegmentationLoss
from fastfcn.models.fastfcn import FastFCN
from fastfcn.models.recompute import STAGES, recompute
from fastfcn.module import SegmentationModule
from fastfcn.sync_norm import CPUSyncBatchNorm
from tests.test_module import batch, datamodule, made, small_model, trainer


def kept_by(model: FastFCN, stages: bool | Sequence[str]) -> tuple[int, dict[str, Tensor]]:
    """Bytes kept for the backward pass; and all gradients and entries of the model after one."""
    recompute(model, stages)
    torch.manual_seed(1)
    kept: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        terms = SegmentationLoss()(model.train()(batch()["image"], full_size=False), batch()["mask"])
        loss = torch.stack(list(terms.values())).sum()
    weights = {value.untyped_storage().data_ptr() for value in model.parameters()}
    size = sum(size for pointer, size in kept.items() if pointer not in weights)
    loss.backward()
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return size, {"loss": loss.detach(), **gradients, **{f"{name} itself": v for name, v in model.state_dict().items()}}


@pytest.mark.parametrize("synchronised", [False, True])
@pytest.mark.parametrize("stages", [True, ["c4", "c5"], ["head"]])
def test_stages_that_run_again_change_no_bit(stages: bool | list[str], synchronised: bool) -> None:
    """Gradients, running statistics and their counts, and what dropout drew."""
    models = small_model(), small_model()
    if synchronised:
        for model in models:
            for norm in model.modules():
                if isinstance(norm, nn.BatchNorm2d):
                    cast("nn.Module", norm).__class__ = CPUSyncBatchNorm
    (all_kept, plain), (kept, again) = kept_by(models[0], False), kept_by(models[1], stages)
    assert plain.keys() == again.keys()
    for name, value in plain.items():
        assert torch.equal(value, again[name]), name
    assert kept < (0.5 if stages is True else 0.97) * all_kept  # the stem is no stage


def test_what_is_recomputed_keeps_its_names_and_survives_a_copy() -> None:
    import copy

    model = small_model()
    names = list(model.state_dict())
    recompute(model, True)
    copied = copy.deepcopy(model)
    assert list(copied.state_dict()) == names
    with torch.no_grad():
        copied.backbone.layer4[0].conv1.weight.zero_()  # type: ignore[union-attr,index]
        assert not torch.equal(model.eval()(batch()["image"]).logits, copied.eval()(batch()["image"]).logits)


@pytest.mark.parametrize("name", ["convnext_atto", "resnet26d"])
def test_timm_stages_run_again(name: str) -> None:
    model = fastfcn.build_model(backbone=name, upsample="jpu", num_classes=11)
    kept, _ = kept_by(model, ["c3", "c4", "c5"])
    assert kept < kept_by(fastfcn.build_model(backbone=name, upsample="jpu", num_classes=11), False)[0]


@pytest.mark.parametrize("stages", [["c6"], "c4", ["c4", "layer4"], 3, None])
def test_a_stage_that_does_not_exist_is_told(stages: Any) -> None:
    with pytest.raises(UserError, match=r"activation_checkpointing=.*" + ", ".join(STAGES)):
        made(activation_checkpointing=stages)


def test_a_backbone_without_such_a_stage_is_told() -> None:
    model = small_model()
    model.backbone.stage = lambda level: None  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"activation_checkpointing=\['c4'\]: this backbone has no module"):
        recompute(model, ["c4"])


class NoWait(TorchDispatchMode):
    """Refuses what makes a host wait for its device."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "bincount", "unique")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.overloadpacket.__name__
        assert not name.startswith(self.WAITING), f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


def test_a_training_step_does_not_wait_for_the_device() -> None:
    """Loss, logs, gradients and the optimizer's step, as Lightning runs them."""
    waits, stack = NoWait(), ExitStack()  # type: ignore[no-untyped-call]

    class Watched(SegmentationModule):
        def on_train_batch_start(self, *arguments: Any) -> None:
            super().on_train_batch_start(*arguments)
            stack.enter_context(waits)

        def on_train_batch_end(self, *arguments: Any) -> None:
            stack.close()

    plain = made()
    module = Watched(model=plain.model, facts=plain.facts, loss=plain.loss, optim=plain.optim, seed=0)
    fitting = trainer(max_epochs=1, limit_val_batches=0)
    fitting.fit(module, datamodule=datamodule())
    assert fitting.global_step == 4


def test_what_waits_is_noticed() -> None:
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NoWait():  # type: ignore[no-untyped-call]
        torch.ones(1).item()


def test_a_step_makes_no_logits_of_the_images_size() -> None:
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor) and out.ndim == 4 and out.shape[1] == 11:
                largest = max(largest, out.shape[-1])
            return out

    with Watch():  # type: ignore[no-untyped-call]
        made().training_step(batch(), 0)["loss"].backward()
    assert largest == 64 // 8


def test_a_step_is_that_of_logits_of_the_images_size() -> None:
    """Same weights, same dropout: the loss and all gradients, but for the order of sums."""
    ours, plain = small_model().train(), small_model().train()
    losses = []
    for network, full_size in ((ours, False), (plain, True)):
        torch.manual_seed(1)
        terms = SegmentationLoss()(network(batch()["image"], full_size=full_size), batch()["mask"])
        losses.append(torch.stack(list(terms.values())).sum())
        losses[-1].backward()
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=0)
    for (name, a), b in zip(ours.named_parameters(), plain.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert (a.grad - b.grad).abs().max() <= 2e-5 * b.grad.abs().max(), name


@pytest.mark.parametrize("layout", [True, False])
def test_bfloat16_computes_loss_and_encoding_in_float32(layout: bool) -> None:
    module = made(channels_last=layout)
    module.setup("fit")
    types: dict[str, torch.dtype] = {}
    encoding = module.model.get_submodule("head.context.encoding")
    encoding.register_forward_hook(lambda *arguments: types.update(encoding=arguments[2].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        outputs = module.training_step(batch(), 0)
    outputs["loss"].backward()
    assert types == {"encoding": torch.float32}
    assert {term.dtype for term in outputs["terms"].values()} == {torch.float32}
    exact = made(channels_last=layout).training_step(batch(), 0)["loss"]
    torch.testing.assert_close(outputs["loss"], exact, rtol=2e-2, atol=0)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("stages", [False, ["c5", "head"]])
def test_a_compiled_step_agrees(stages: bool | list[str]) -> None:
    """Both entries of the model are compiled; stages that run again are left out of it."""
    plain, compiled = made(), made(compile_model=True, activation_checkpointing=stages)
    compiled.setup("fit")
    losses = []
    for module in (plain, compiled):
        for dropout in module.modules():
            if isinstance(dropout, nn.Dropout2d):
                dropout.p = 0.0  # a compiler draws otherwise
        losses.append(module.training_step(batch(), 0)["loss"])
        losses[-1].backward()
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=0)
    for (name, a), b in zip(plain.model.named_parameters(), compiled.model.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert (a.grad - b.grad).abs().max() <= 5e-4 * a.grad.abs().max(), name
    for (name, ours), theirs in zip(plain.model.named_buffers(), compiled.model.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4, msg=name)
