from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import fastfcn
from fastfcn.checkpoint import read_checkpoint
from fastfcn.conversion import convert
from fastfcn.errors import UserError
from fastfcn.official import read_official, to_official
from tests import official
from tests.data.tiny import is_one_sentence_with
from tests.scripts import call


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("original") / "model_best.pth.tar"
    state = official.official_state("encnet_jpu_resnet50_pcontext")
    torch.save({"epoch": 79, "state_dict": state, "best_pred": np.float64(0.65)}, path)
    return path


def test_there_and_back(original: Path, tmp_path: Path) -> None:
    done = call("export.py", f"official={original}", "to=ckpt", f"out={tmp_path}/model_best.ckpt").check()
    assert done.out == f"written: {tmp_path}/model_best.ckpt\n"
    ours, theirs = fastfcn.load_model(tmp_path / "model_best.ckpt"), fastfcn.load_official(original)
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(ours(image).logits, theirs(image).logits)
    back = convert(ckpt_path=str(tmp_path / "model_best.ckpt"), official=None, to="official")
    assert back == tmp_path / "model_best.pth.tar"
    before = official.official_state("encnet_jpu_resnet50_pcontext")
    content = torch.load(back, weights_only=True)
    after = content["state_dict"]
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())  # also those that are never used
    assert (content["epoch"], content["best_pred"]) == (79, 0.65)
    assert read_official(back).facts.name == "pascal_context"
    plain = convert(ckpt_path=None, official=str(original), to="safetensors", out=str(tmp_path / "a.safetensors"))
    state = to_official(read_checkpoint(plain), path=plain)
    assert all(
        torch.equal(value, state[name]) for name, value in before.items() if not name.startswith("pretrained.fc")
    )
    assert not list(tmp_path.glob(".*"))


def test_the_score_of_a_training_goes_with_its_weights(original: Path, tmp_path: Path) -> None:
    path = convert(ckpt_path=None, official=str(original), to="ckpt", out=str(tmp_path / "a.ckpt"))
    trained = torch.load(path, weights_only=True)
    del trained["original"]
    for name, score in (("bare", None), ("best", 0.72)):
        state = {"monitor": "val/score", "best_model_score": None if score is None else torch.tensor(score)}
        torch.save({**trained, "epoch": 9, "callbacks": {"ModelCheckpoint{}": state}}, tmp_path / f"{name}.ckpt")
        back = convert(ckpt_path=str(tmp_path / f"{name}.ckpt"), official=None, to="official")
        content = torch.load(back, weights_only=True)
        assert content["epoch"] == 10  # the original counts those that are done
        assert content["best_pred"] == pytest.approx(score or 0.0)
        assert not content["state_dict"]["pretrained.fc.weight"].any()


def test_weights_alone_cannot_be_resumed(original: Path, tmp_path: Path) -> None:
    path = convert(ckpt_path=None, official=str(original), to="ckpt", out=str(tmp_path / "a.ckpt"))
    assert not read_checkpoint(path).resumable


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"to": "h5", "official": "x", "ckpt_path": None},
            ["to=h5: choose one of ckpt, official, safetensors, onnx, openvino, torch_export, hub."],
        ),
        ({"to": "ckpt", "official": None, "ckpt_path": "x"}, ["to=ckpt needs official="]),
        ({"to": "official", "official": "x", "ckpt_path": "y"}, ["to=official needs ckpt_path="]),
        ({"to": "ckpt", "official": "/no/where.pth.tar", "ckpt_path": None}, ["there is no such file"]),
    ],
)
def test_what_makes_no_sense(given: dict[str, str | None], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        convert(**given)  # type: ignore[arg-type]
    is_one_sentence_with(caught.value, words)


def test_nothing_is_written_over(original: Path, tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_text("mine")
    with pytest.raises(UserError, match=r"a\.ckpt is there already"):
        convert(ckpt_path=None, official=str(original), to="ckpt", out=str(tmp_path / "a.ckpt"))
    assert (tmp_path / "a.ckpt").read_text() == "mine"
