"""The paper's experiments from the command line, on small trees in the real formats."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch

from tests.preparation import trees
from tests.scripts import TINY, Done, call

pytestmark = pytest.mark.slow

SMALL = [option for option in TINY if not option.startswith("data.dataset")]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    trees.make_ade20k_tree(tmp_path / "data/ade20k")
    trees.make_pascal_tree(tmp_path / "data/pascal_context")
    return tmp_path / "data"


def train(experiment: str, data_dir: Path, run_dir: Path, *overrides: str) -> Done:
    here = (f"paths.data_dir={data_dir}", f"hydra.run.dir={run_dir}", "data.num_workers=0", "backbone.weights=none")
    return call("train.py", f"experiment={experiment}", *SMALL, *here, *overrides)


def test_pascal_context(data_dir: Path, tmp_path: Path) -> None:
    done = train("pascal_context/encnet_jpu_r50", data_dir, tmp_path / "run").check()
    assert "on pascal_context" in done.out
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert len(results["test"]["IoU"]) == 59
    call("eval.py", "trainer=cpu", f"ckpt_path={results['best_checkpoint']}", f"hydra.run.dir={tmp_path}/eval").check()
    again = json.loads((tmp_path / "eval/results.json").read_text())
    assert again["split"] == "val"
    assert again["val"] == results["test"]


def test_ade20k_to_the_test_server(data_dir: Path, tmp_path: Path) -> None:
    train("ade20k/encnet_jpu_r101", data_dir, tmp_path / "run").check()
    best = tmp_path / "run/checkpoints/best.ckpt"
    train("ade20k/encnet_jpu_r101_finetune", data_dir, tmp_path / "tuned", f"init_from={best}").check()
    last = tmp_path / "tuned/checkpoints/last.ckpt"
    evaluate = ("trainer=cpu", f"ckpt_path={last}", f"hydra.run.dir={tmp_path}/eval")
    chosen = ("data=ade20k", f"paths.data_dir={data_dir}", "data.num_workers=0", "data.split=test")
    sentence = call("eval.py", *evaluate, *chosen).sentence()
    assert "no masks" in sentence
    assert "submission=" in sentence
    done = call("eval.py", *evaluate, *chosen, f"submission={tmp_path}/sent").check()
    assert f"{tmp_path}/sent.zip" in done.out
    with zipfile.ZipFile(tmp_path / "sent.zip") as zipped:
        assert zipped.namelist() == ["ADE_test_00000001.png", "ADE_test_00000002.png"]


def test_begins_with_the_weights_of_a_checkpoint(data_dir: Path, tmp_path: Path) -> None:
    train("ade20k/encnet_jpu_r101", data_dir, tmp_path / "run").check()
    last = tmp_path / "run/checkpoints/last.ckpt"
    still = ("optim.lr=1e-30", "optim.weight_decay=0", "trainer.max_epochs=1", "test=false")
    train("ade20k/encnet_jpu_r101", data_dir, tmp_path / "again", *still, f"init_from={last}").check()
    before, after = (
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
        for folder in (last.parents[1], tmp_path / "again")
    )
    name = (
        "model.head.classifier.weight"
        if "model.head.classifier.weight" in before["state_dict"]
        else "model.backbone.conv1.weight"
    )
    assert torch.equal(before["state_dict"][name], after["state_dict"][name])
    assert (after["epoch"], after["global_step"]) == (0, before["global_step"])
    sentence = train(
        "ade20k/encnet_jpu_r101", data_dir, tmp_path / "no", f"init_from={last}", f"resume={last}"
    ).sentence()
    assert "one of the two" in sentence
    sentence = train(
        "ade20k/encnet_jpu_r101", data_dir, tmp_path / "no", f"init_from={last}", "head.width=16"
    ).sentence()
    assert f"init_from={last} is of another model" in sentence


@pytest.mark.parametrize("name", ["ade20k", "pascal_context"])
def test_missing_data_are_told_with_the_command(name: str, tmp_path: Path) -> None:
    sentence = train(f"{name}/encnet_jpu_r50", tmp_path / "nowhere", tmp_path / "run").sentence()
    assert f"python src/prepare.py data={name}" in sentence


def test_a_split_without_masks_is_told_before_the_training(data_dir: Path, tmp_path: Path) -> None:
    sentence = train("ade20k/encnet_jpu_r50", data_dir, tmp_path / "run", "data.split=test").sentence()
    assert "no masks" in sentence
    assert not (tmp_path / "run/checkpoints").exists()


def test_skipped_samples_are_reported(data_dir: Path, tmp_path: Path) -> None:
    image = data_dir / "ade20k/ADEChallengeData2016/images/training/ADE_train_00000002.jpg"
    image.write_bytes(image.read_bytes()[:600])
    every = "data.batch_size=6"  # of the six images, one is damaged
    assert image.name in train("ade20k/encnet_jpu_r50", data_dir, tmp_path / "error", every).sentence()
    done = train("ade20k/encnet_jpu_r50", data_dir, tmp_path / "run", "data.on_bad_sample=skip", every).check()
    skipped = json.loads((tmp_path / "run/results.json").read_text())["skipped"]
    assert [image.name in sentence for sentence in skipped["train"]] == [True]
    assert "1 sample of train" in done.out
