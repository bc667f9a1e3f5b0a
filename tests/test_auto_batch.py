"""Batches in parts where memory does not suffice, and the sentence where that was not asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from fastfcn import auto_batch
from fastfcn.auto_batch import AutoBatch
from fastfcn.checkpointing import LastCheckpoint
from fastfcn.errors import UserError
from fastfcn.micro_batches import parts
from fastfcn.sync_norm import SyncNorm
from tests import forked
from tests.poison import Small
from tests.scripts import TINY, call, two_processes
from tests.test_module import batch, datamodule, made, trainer


class Plain(pl.Callback):
    """Lets a part be treated as the whole: nothing is dropped, BatchNorm goes by its running statistics."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        for module in pl_module.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.Dropout2d):
                module.eval()


def trained(images: int | None, *callbacks: pl.Callback, batch_size: int = 4, **options: Any) -> dict[str, Tensor]:
    """The weights after an epoch of eight images."""
    module = made(seed=0)
    module.images_at_once = images
    trainer(max_epochs=1, limit_val_batches=0, callbacks=[*callbacks], **options).fit(
        module, datamodule=datamodule(batch_size)
    )
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_a_batch_in_parts() -> None:
    whole = batch(5)
    parted = parts(whole, 2)
    assert [part["name"] for part in parted] == [["0", "1"], ["2", "3"], ["4"]]
    assert torch.equal(torch.cat([part["image"] for part in parted]), whole["image"])
    assert torch.equal(torch.cat([part["mask"] for part in parted]), whole["mask"])
    assert parts(whole, 5) == parts(whole, None) == [whole]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_gradients_are_those_of_the_whole_batch(accumulate: int) -> None:
    """In double precision (but for the presence loss), over steps: nothing is left of one before, nothing is lost."""
    settings: dict[str, Any] = {"precision": "64-true", "accumulate_grad_batches": accumulate}
    whole = trained(None, Plain(), batch_size=4 // accumulate, **settings)
    parted = trained(1, Plain(), batch_size=4 // accumulate, **settings)
    before = {name: value.double() for name, value in made().state_dict().items()}
    moved = [name for name in whole if not torch.equal(whole[name].double(), before[name])]
    assert len(moved) > 60
    for name, value in whole.items():
        torch.testing.assert_close(parted[name], value, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize(("limit", "at_once"), [(4, 4), (3, 2), (2, 2)])
def test_the_largest_part_that_fits_is_found(
    limit: int, at_once: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    auto = AutoBatch(directory=str(tmp_path), enabled=True)
    found = trained(None, Small(images=limit), auto)
    assert auto.images == at_once
    expected = trained(at_once)
    assert all(torch.equal(found[name], expected[name]) for name in expected)  # the trial has left no trace
    assert ("each batch is made in 2 parts, of at most 2 images per process" in capsys.readouterr().out) == (limit < 4)


def test_not_even_one_image_is_told(tmp_path: Path) -> None:
    auto = AutoBatch(directory=str(tmp_path), enabled=True)
    with pytest.raises(UserError, match=r"auto_batch=true: not even one image fits.*data.crop_size=64.*bf16-mixed"):
        trained(None, Small(images=0), auto)


class BreakOff(pl.Callback):
    """Ends a training in the midst of its epoch."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            raise KeyError("broken off")


def test_a_run_that_goes_on_is_what_it_would_have_been(tmp_path: Path) -> None:
    """Its parts are those of before, though more would fit by now."""

    def fit(place: Path, *callbacks: pl.Callback, limit: int = 1, resume: bool = False) -> dict[str, Tensor]:
        last = LastCheckpoint(dirpath=str(place), minutes=None, every_n_steps=1)
        auto = AutoBatch(directory=str(place), enabled=True)
        run = pl.Trainer(
            accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, max_epochs=2,
            use_distributed_sampler=False, limit_val_batches=0, callbacks=[Small(images=limit), auto, last, *callbacks],
        )  # fmt: skip
        module = made(seed=0)
        run.fit(module, datamodule=datamodule(2), ckpt_path=place / "last.ckpt" if resume else None)
        assert auto.images == 1
        return {name: value.clone() for name, value in module.state_dict().items()}

    whole = fit(tmp_path / "whole")
    with pytest.raises(KeyError):
        fit(tmp_path / "broken", BreakOff())
    rest = fit(tmp_path / "broken", limit=2, resume=True)
    assert all(torch.equal(whole[name], rest[name]) for name in whole)


def test_memory_that_runs_out_later_halves_the_parts_of_the_next_try(tmp_path: Path) -> None:
    auto = AutoBatch(directory=str(tmp_path), enabled=True)
    with pytest.raises(torch.OutOfMemoryError):
        trained(None, Small(images=4, steps=1, later=2), auto)
    assert json.loads((tmp_path / "auto_batch.json").read_text()) == {"images": 2}
    auto = AutoBatch(directory=str(tmp_path), enabled=True)
    trained(None, Small(images=4, steps=1, later=2), auto)
    assert auto.images == 2
    (tmp_path / "auto_batch.json").write_text("{")
    with pytest.raises(UserError, match=r"auto_batch\.json cannot be read"):
        trained(None, AutoBatch(directory=str(tmp_path), enabled=True))


@two_processes
@pytest.mark.slow
def test_processes_agree_where_one_of_them_has_less(tmp_path: Path) -> None:
    """The second takes one image at once, the first its two: both take one, with BatchNorm over both."""

    def run(variables: dict[str, str]) -> int:
        os.environ.update(variables)
        torch.set_num_threads(1)
        auto = AutoBatch(directory=str(tmp_path), enabled=True)
        fitting = pl.Trainer(
            accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False, max_epochs=1,
            enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, limit_val_batches=0,
            callbacks=[Small(images=1, rank=1), auto], plugins=[SyncNorm()], precision="64-true",
        )  # fmt: skip
        module = made(seed=0)
        fitting.fit(module, datamodule=datamodule(4))
        torch.save(module.state_dict(), tmp_path / f"{variables['RANK']}.pt")
        assert auto.images is not None
        return auto.images

    ended = forked.two(run, tmp_path)
    assert [each.code for each in ended] == [1, 1], ended
    assert "each batch is made in 2 parts, of at most 1 images per process" in ended[0].text
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    alone = trained(2, precision="64-true")  # the same parts in one process
    for name, value in alone.items():
        torch.testing.assert_close(first[name], value, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.slow
def test_train_py_says_what_to_change_and_does_it(tmp_path: Path, data_dir: Path) -> None:
    common = (*TINY, "+callbacks.small={_target_: tests.poison.Small, images: 3}", f"paths.data_dir={data_dir}")
    told = call("train.py", *common, f"hydra.run.dir={tmp_path / 'a'}").sentence()
    settings = "auto_batch=true activation_checkpointing=true trainer.precision=bf16-mixed"
    for words in (*settings.split(), "data.batch_size=4", "data.crop_size=64", "trainer.precision=32-true"):
        assert words in told
    assert "data.batch_size=2 with trainer.accumulate_grad_batches=2" in told
    done = call("train.py", *common, f"hydra.run.dir={tmp_path / 'b'}", "auto_batch=true").check()
    assert "each batch is made in 2 parts" in done.out
    assert json.loads((tmp_path / "b/results.json").read_text())["steps"] == 2


def test_an_evaluation_has_settings_of_its_own() -> None:
    run = trainer()
    run.datamodule = datamodule()  # type: ignore[attr-defined]
    auto = AutoBatch(directory=".")
    run.callbacks.append(auto)  # type: ignore[attr-defined]
    auto.stage = "validate"
    told = auto_batch.told(torch.OutOfMemoryError("CUDA out of memory"), run)
    assert "data.eval_batch_size" in str(told)
    with pytest.raises(UserError, match=r"The evaluation \(test\) has filled"), auto_batch.explained(run, "test"):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="shapes"), auto_batch.explained(run, "test"):
        raise RuntimeError("shapes")
    assert auto_batch.told(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), run) is not None
    assert auto_batch.told(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), run) is None
