import os
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch import Tensor

from fastfcn.errors import UserError
from fastfcn.metrics import MeanOfSteps
from fastfcn.non_finite import StopOnNonFinite
from tests import forked
from tests.scripts import two_processes
from tests.toy import Module, loader, trainer


def weights(module: pl.LightningModule) -> list[Tensor]:
    return [value.detach().clone() for value in module.parameters()]


def test_nan_stops_before_the_weights_change(tmp_path: Path) -> None:
    module = Module()
    steps: list[list[Tensor]] = []

    class Record(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            steps.append(weights(module))

    with pytest.raises(UserError) as caught:
        trainer(tmp_path, StopOnNonFinite(), Record()).fit(module, loader(damaged=(5,)))
    assert len(steps) == 3  # the damaged image is in the third batch
    assert all(torch.equal(now, before) for now, before in zip(weights(module), steps[-1], strict=True))
    message = str(caught.value)
    for word in ("nan", "epoch 0", "step 2", "train/ce nan", "image_4, image_5", "optim.lr", "gradient_clip_val"):
        assert word in message


def test_nan_in_an_accumulated_batch_stops_at_that_batch(tmp_path: Path) -> None:
    module = Module()
    before = weights(module)
    with pytest.raises(UserError, match="image_0, image_1"):
        trainer(tmp_path, StopOnNonFinite(), accumulate_grad_batches=4).fit(module, loader(damaged=(0,)))
    assert all(torch.equal(now, then) for now, then in zip(weights(module), before, strict=True))


def test_gradients_stop_before_the_weights_change(tmp_path: Path) -> None:
    """The loss is finite."""
    module = Module(poison_gradients=True)
    before = weights(module)
    with pytest.raises(UserError, match="gradients have a norm of nan at epoch 0, step 0, images image_0, image_1"):
        trainer(tmp_path, StopOnNonFinite()).fit(module, loader())
    assert all(torch.equal(now, then) for now, then in zip(weights(module), before, strict=True))


class AsOnAGPU(StopOnNonFinite):
    """Reads what is known of the gradients a step later."""

    def _reads_at_once(self, value: Tensor) -> bool:
        return False


@pytest.mark.parametrize("batches", [1, 4])
def test_gradients_that_are_read_a_step_later_reach_no_checkpoint(batches: int, tmp_path: Path) -> None:
    last = ModelCheckpoint(dirpath=tmp_path / "checkpoints", filename="last")
    module = Module(poison_gradients=True)
    with pytest.raises(UserError, match="gradients have a norm of nan at epoch 0, step 0, images image_0, image_1"):
        trainer(tmp_path, AsOnAGPU(), last, limit_train_batches=batches).fit(module, loader(), loader())
    assert not list((tmp_path / "checkpoints").glob("*"))


def test_no_checkpoint_of_non_finite_weights(tmp_path: Path) -> None:
    """Gradients are a loss scaler's business where there is one."""
    stop, last = StopOnNonFinite(), ModelCheckpoint(dirpath=tmp_path / "checkpoints", filename="last")
    poisoned = Module(poison_gradients=True)
    run = trainer(tmp_path, stop, last, limit_train_batches=1)
    run.precision_plugin.scaler = object()  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="weights are no longer finite at epoch 0"):
        run.fit(poisoned, loader(), loader())
    assert not list((tmp_path / "checkpoints").glob("*"))


class Steps(Callback):
    """The whole state behind each optimizer step, and the momentum."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        momentum = trainer.optimizers[0].state_dict()["state"]
        self.states.append(
            {name: value.clone() for name, value in pl_module.state_dict().items()}
            | {f"momentum {key}": state["momentum_buffer"].clone() for key, state in momentum.items()}
        )


class WithMomentum(Module):
    """As the recipe trains."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1, fused=True)


def test_a_step_that_is_passed_over_leaves_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights, momentum, running statistics; the schedule and the count of steps go on."""
    stop, steps, module = StopOnNonFinite(skip=1, directory=str(tmp_path / "kept")), Steps(), WithMomentum()
    run = trainer(tmp_path, stop, steps, max_epochs=1)
    run.fit(module, loader(damaged=(3,)))
    first, second, third, _ = steps.states
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(torch.equal(second[name], third[name]) for name in second)
    assert all(value.isfinite().all() for value in module.state_dict().values())
    assert (run.global_step, stop.skipped) == (4, 1)
    out = capsys.readouterr().out
    assert out.count("passed over") == 1
    assert "loss is nan at epoch 0, step 1" in out
    assert "images image_2, image_3: passed over this step, 1 of at most 1, kept in" in out
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["step_000001.json"]


def test_gradients_are_passed_over_and_the_first_step_too(tmp_path: Path) -> None:
    class Once(WithMomentum):
        def on_after_backward(self) -> None:
            self.poison_gradients = self.global_step == 0
            super().on_after_backward()

    module, steps = Once(), Steps()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trainer(tmp_path, StopOnNonFinite(skip=1), steps, max_epochs=1).fit(module, loader())
    assert all(torch.equal(before[name], steps.states[0][name]) for name in before)
    assert all(value.isfinite().all() for value in module.state_dict().values())


@pytest.mark.parametrize("damaged", [0, 3])
def test_accumulated_batches_are_passed_over_together(damaged: int, tmp_path: Path) -> None:
    steps, module = Steps(), WithMomentum()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    run = trainer(tmp_path, StopOnNonFinite(skip=1), steps, max_epochs=1, accumulate_grad_batches=2)
    run.fit(module, loader(damaged=(damaged,)))
    assert all(torch.equal(before[name], steps.states[1][name]) for name in before)
    assert all(value.isfinite().all() for value in steps.states[3].values())
    assert run.global_step == 2


def test_more_than_may_be_passed_over_stop_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"images image_4, image_5: .* 1 steps were passed over before"):
        trainer(tmp_path, StopOnNonFinite(skip=1)).fit(WithMomentum(), loader(damaged=(0, 5)))


def test_what_was_passed_over_counts_when_it_goes_on(tmp_path: Path) -> None:
    first, last = StopOnNonFinite(skip=1), ModelCheckpoint(dirpath=tmp_path, filename="last")
    trainer(tmp_path, first, last, max_epochs=1).fit(WithMomentum(), loader(damaged=(0,)), loader())
    again = trainer(tmp_path, StopOnNonFinite(skip=1), last, max_epochs=2)
    with pytest.raises(UserError, match="at epoch 1, step 4"):
        again.fit(WithMomentum(), loader(damaged=(0,)), loader(), ckpt_path=tmp_path / "last.ckpt")


def test_a_negative_number_is_told() -> None:
    with pytest.raises(UserError, match="skip=-1"):
        StopOnNonFinite(skip=-1)


def test_the_mean_of_an_epoch_leaves_out_what_is_not_finite() -> None:
    mean = MeanOfSteps()
    for value, images in ((1.0, 2), (float("nan"), 2), (float("inf"), 1), (4.0, 1)):
        mean.add(torch.tensor(value), images=images, shown=torch.tensor(value))
    assert mean.compute().item() == 2.0


def test_finite_training_is_left_alone(tmp_path: Path) -> None:
    pl.seed_everything(0)
    plain, watched = Module(), Module()
    watched.load_state_dict(plain.state_dict())
    trainer(tmp_path).fit(plain, loader())
    trainer(tmp_path, StopOnNonFinite()).fit(watched, loader())
    assert all(torch.equal(a, b) for a, b in zip(weights(plain), weights(watched), strict=True))


@two_processes
@pytest.mark.slow
@pytest.mark.parametrize("skip", [0, 1])
def test_all_processes_decide_the_same(skip: int, tmp_path: Path) -> None:
    """Under DDP the damaged image reaches the second process alone; the first must not wait for it for ever."""

    def run(variables: dict[str, str]) -> int:
        os.environ.update(variables, PL_GLOBAL_SEED="0")  # which images go where
        torch.set_num_threads(1)
        module, stop = WithMomentum(), StopOnNonFinite(skip=skip)
        fitting = trainer(tmp_path, stop, strategy="ddp", devices=2, max_epochs=1)
        try:
            fitting.fit(module, loader(damaged=(3,)))
        except UserError as error:
            print(error, flush=True)
        torch.save(module.state_dict(), tmp_path / f"{variables['RANK']}.pt")
        fitting.strategy.barrier()  # a process that has not stopped would never come here
        return stop.skipped

    first, second = forked.two(run, tmp_path)
    assert (first.code, second.code) == (skip, skip)
    hit = "image_0, image_3"
    if skip:
        assert f"another process is not finite at epoch 0, step 0 (process 1, images {hit}): passed" in (first.text)
        assert "passed over" not in second.text  # told once
    else:
        assert "The training loss of another process is not finite at epoch 0, step 0 (process 1, " in first.text
        assert f"The training loss is nan at epoch 0, step 0 (train/ce nan), images {hit}" in second.text
    states = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]) or "norm.running" in name  # of each process's images
        assert skip == 0 or value.isfinite().all()
