"""Weights as safetensors: whatever takes a checkpoint for its weights takes the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import fastfcn
from fastfcn import weights_file
from fastfcn.beginning import choose
from fastfcn.checkpoint import read_checkpoint
from fastfcn.conversion import convert
from fastfcn.errors import UserError
from tests.scripts import call
from tests.test_first_version import AS_BEFORE, FIXTURES

DATA = ("data=folder", f"data.dataset.root={FIXTURES / 'scenes'}", "data.crop_size=64", "data.num_workers=0")


@pytest.fixture(scope="module")
def weights(first_version: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "best.safetensors"
    done = call("export.py", f"ckpt_path={first_version}", "to=safetensors", f"out={path}").check()
    assert done.out == f"written: {path}\n"
    return path


def test_it_says_what_the_checkpoint_says(first_version: Path, weights: Path) -> None:
    ours, theirs = read_checkpoint(weights), read_checkpoint(first_version)
    assert ours._replace(weights={}, resumable=True, behind=theirs.behind) == theirs._replace(weights={})
    assert ours.weights.keys() == theirs.weights.keys()
    assert all(torch.equal(value, theirs.weights[name]) for name, value in ours.weights.items())
    assert not ours.resumable


def test_other_programs_read_it(weights: Path, first_version: Path) -> None:
    with safe_open(weights, framework="np") as file:
        about = json.loads(file.metadata()["fastfcn"])
        names = set(file.keys())
    assert about["facts"]["class_names"][:2] == ["sky", "mountain"]
    assert about["model"]["upsample"]["_target_"] == "fastfcn.models.upsamplers.jpu.JPU"
    model = fastfcn.load_model(first_version)
    assert names == set(model.state_dict())
    model.load_state_dict({name: torch.zeros_like(value) for name, value in model.state_dict().items()})
    with safe_open(weights, framework="pt") as file:
        model.load_state_dict({name: file.get_tensor(name) for name in names})


def test_load_model(weights: Path, first_version: Path) -> None:
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(fastfcn.load_model(weights)(image).logits, fastfcn.load_model(first_version)(image).logits)


def test_eval_and_predict(weights: Path, first_version: Path, tmp_path: Path) -> None:
    found = []
    for path in (weights, first_version):
        folder = tmp_path / path.suffix[1:]
        call("eval.py", f"ckpt_path={path}", *DATA, "trainer=cpu", f"hydra.run.dir={folder}").check()
        found.append(json.loads((folder / "results.json").read_text())["test"])
    assert found[0] == found[1]
    figure = tmp_path / "page.png"
    checkpoints = f"checkpoints=[{weights},{first_version}]"
    call("predict.py", f"figure={figure}", checkpoints, "count=1", "device=cpu", *DATA).check()
    assert figure.is_file()


def test_a_training_begins_with_it(weights: Path, tmp_path: Path) -> None:
    places = (f"hydra.run.dir={tmp_path}/run", f"paths.data_dir={tmp_path}")
    counts = "data.dataset.counts={train:8,val:4,test:4}"
    more = (counts, "optim.lr=1e-9", "trainer.max_epochs=1", "test=false")
    call("train.py", *AS_BEFORE, *more, *places, f"init_from={weights}").check()
    before, after = read_checkpoint(weights).weights, read_checkpoint(tmp_path / "run/checkpoints/last.ckpt").weights
    for name, value in before.items():
        if name.split(".")[-1] not in ("running_mean", "running_var", "num_batches_tracked", "std_lambda"):
            torch.testing.assert_close(value, after[name], atol=1e-6, rtol=0)
    done = call("train.py", *AS_BEFORE, *more, *places, f"resume={weights}")
    assert "holds weights alone: begin a training with them by init_from=" in done.sentence()


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped weight", "flipped fact", "text"])
def test_a_damaged_file_is_known(weights: Path, tmp_path: Path, damage: str) -> None:
    path = Path(shutil.copy(weights, tmp_path / "a.safetensors"))
    data = bytearray(path.read_bytes())
    if damage == "flipped weight":
        data[-1000] ^= 1
    elif damage == "flipped fact":
        data[data.index(b"mountain")] ^= 1
    path.write_bytes({"cut": bytes(data[:-100]), "empty": b"", "text": b"no weights"}.get(damage, bytes(data)))
    with pytest.raises(UserError, match=r"a\.safetensors is no file of weights: damaged") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="was not written by this project"):
        read_checkpoint(tmp_path / "a.safetensors")


def test_any_order_in_memory_and_shared_storage(tmp_path: Path) -> None:
    shared = torch.arange(48.0)
    before = {
        "last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "a": shared,
        "b": shared[:5],
        "number": torch.tensor(7),
    }
    weights_file.write(tmp_path / "a.safetensors", before, {})
    after, about = weights_file.read(tmp_path / "a.safetensors")
    assert about == {}
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_name_that_would_not_be_known_again(first_version: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"let it end in \.safetensors"):
        convert(ckpt_path=str(first_version), official=None, to="safetensors", out=str(tmp_path / "a.bin"))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ("classes", "was trained on 11 classes (scenes), toy has 10"),
        ("names", "was trained with class 0 = 'sky' (scenes), in toy it is 'a'"),
        ("head", "is of another model, they differ in head."),
        ("data", "was trained on scenes, this training is on toy: choose the data that it was trained on"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    first_version: Path, tmp_path: Path, changed: str, words: str
) -> None:
    import pytorch_lightning as pl

    from fastfcn.module import SegmentationModule
    from fastfcn.types import DataFacts

    facts = read_checkpoint(first_version).facts
    names = {"classes": facts.class_names[1:], "names": ("a", *facts.class_names[1:])}.get(changed, facts.class_names)
    parts = ["upsample.width=8", "head.width=16", "head.num_codewords=4"]
    head = "encoding"
    if changed == "head":
        head, parts = "fcn", parts[:1]
    model = fastfcn.build_model(backbone="test_efficientnet", head=head, num_classes=len(names), overrides=[*parts])
    data = DataFacts("toy", names, facts.palette[: len(names)])
    module = SegmentationModule(model=model, facts=data)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=20)
    with pytest.raises(UserError) as caught:
        choose(trainer, module, run_dir=tmp_path, resume=str(first_version), init_from=None)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    if changed == "data":  # its weights may begin another training
        choose(trainer, module, run_dir=tmp_path, resume=None, init_from=str(first_version))
