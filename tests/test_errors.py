"""A user's mistake: one sentence, exit code 1 or 2, no traceback, no half-written results; see test_mistakes.py too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastfcn import cli
from fastfcn.data.scene_drawing import CLASS_NAMES
from fastfcn.errors import UserError
from tests.conftest import FolderMaker
from tests.scripts import TINY, Done, call, start, two_processes

#: A tiny model on a data set of the disk.
FOLDER = (
    "trainer=cpu",
    "trainer.max_epochs=1",
    "backbone=resnet18",
    "upsample=bilinear",
    "head.width=32",
    "data=folder",
    "data.batch_size=4",
    "data.crop_size=64",
    "data.base_size=64",
    "data.num_workers=0",
    "callbacks.show_summary.image_size=[64,64]",
)
SMALL = tuple(override for override in TINY if ".width=" not in override)

Train = Callable[..., Done]


@pytest.fixture
def train(tmp_path: Path, data_dir: Path) -> Train:
    """Runs train.py in this process and looks that a failed run leaves no results."""

    def run(*overrides: str) -> Done:
        folder = tmp_path / "run"
        done = call("train.py", *overrides, f"paths.data_dir={data_dir}", f"hydra.run.dir={folder}")
        assert not (folder / "results.json").exists()
        assert not (folder / "checkpoints").exists()
        return done

    return run


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data=folder"], ["data.dataset.root", "data.dataset.root=..."]),
        (["data=folder", "data.dataset.root=/nowhere"], ["/nowhere", "does not exist"]),
        (["experiment=ade20k/encnet_jpu_r101_finetune"], ["init_from=", ".ckpt"]),
        (["experiment=ade20k/encnet_none_r101_finetune"], ["init_from=", ".ckpt"]),
        ([*SMALL, "upsample=none", "output_stride=32"], ["output_stride=32", "NoUpsample", "8"]),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_mistakes_in_the_configuration(train: Train, overrides: list[str], words: list[str]) -> None:
    sentence = train(*overrides).sentence()
    for word in words:
        assert word in sentence


@two_processes
def test_two_processes(train: Train) -> None:
    sentence = train(*TINY, "trainer.devices=2").sentence()
    assert "trainer=ddp" in sentence
    ddp = (*TINY, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    assert "multiple of 2" in train(*ddp, "data.batch_size=3").sentence()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_no_gpu(train: Train) -> None:
    sentence = train(*TINY, "trainer=gpu").sentence()
    assert "gpu" in sentence
    assert "trainer=default" in sentence


def test_backbone_without_dilation(train: Train) -> None:
    tiny = [override for override in SMALL if not override.startswith("backbone")]
    overrides = ("backbone=timm", "backbone.name=swin_tiny_patch4_window7_224", "upsample=none")
    sentence = train(*tiny, *overrides).sentence()
    assert "swin_tiny" in sentence
    assert "choose" in sentence


@pytest.mark.parametrize("head", ["psp", "aspp"])
def test_one_image_is_no_batch_for_global_pooling(train: Train, head: str) -> None:
    sentence = train(*SMALL, "upsample=bilinear", f"head={head}", "data.batch_size=1").sentence()
    assert "data.batch_size" in sentence
    assert "at least 2" in sentence


def test_loss_that_is_no_number(train: Train) -> None:
    sentence = train(*TINY, "optim.lr=1e30").sentence()
    assert "nan" in sentence
    assert "optim.lr" in sentence


@pytest.mark.parametrize("workers", [0, 1])
def test_mask_value_out_of_range(train: Train, make_folder: FolderMaker, workers: int) -> None:
    root = make_folder("tiny", ("sky", "road"))
    path = root / "masks/train/2.png"
    mask = np.array(Image.open(path))
    mask[3, 4] = 99
    Image.fromarray(mask).save(path)
    sentence = train(*FOLDER, f"data.dataset.root={root}", f"data.num_workers={workers}").sentence()
    for word in (str(path), "99", "2 classes"):
        assert word in sentence


@pytest.mark.parametrize("split", ["train", "val"])
def test_image_and_mask_of_different_sizes(train: Train, make_folder: FolderMaker, split: str) -> None:
    root = make_folder("tiny", ("sky", "road"))
    path = root / "masks" / split / "1.png"
    Image.fromarray(np.array(Image.open(path))[:32]).save(path)
    sentence = train(*FOLDER, f"data.dataset.root={root}").sentence()
    for word in (str(path), "64 x 32", "64 x 64"):
        assert word in sentence


def test_damaged_image(train: Train, make_folder: FolderMaker) -> None:
    root = make_folder("tiny", ("sky", "road"))
    (root / "images/train/3.png").write_bytes(b"no image")
    assert str(root / "images/train/3.png") in train(*FOLDER, f"data.dataset.root={root}").sentence()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_empty_split_shows_before_the_training(train: Train, make_folder: FolderMaker, split: str) -> None:
    root = make_folder("tiny", ("sky", "road"))
    for kind in ("images", "masks"):
        for path in (root / kind / split).iterdir():
            path.unlink()
    done = train(*FOLDER, f"data.dataset.root={root}")
    assert str(root / "images" / split) in done.sentence()
    assert "epoch" not in done.out


def test_missing_split(train: Train, make_folder: FolderMaker) -> None:
    root = make_folder("tiny", ("sky", "road"))
    for kind in ("images", "masks"):
        (root / kind / "test").rename(root / kind / "holdout")
    done = train(*FOLDER, f"data.dataset.root={root}")
    assert "'test'" in done.sentence()
    assert "epoch" not in done.out
    # Without a test at the end nobody needs it.
    overrides = (f"data.dataset.root={root}", "test=false", "debug=fast", f"hydra.run.dir={root}/run")
    call("train.py", *FOLDER, *overrides).check()


@pytest.mark.slow
class TestCheckpoints:
    def test_missing(self, tmp_path: Path) -> None:
        done = call("eval.py", "ckpt_path=/nowhere.ckpt", f"hydra.run.dir={tmp_path}")
        assert "/nowhere.ckpt" in done.sentence()

    def test_not_given(self, tmp_path: Path) -> None:
        assert "ckpt_path=..." in call("eval.py", f"hydra.run.dir={tmp_path}").sentence()

    @pytest.mark.parametrize("size", [0, 10, 100_000])
    def test_truncated(self, train: Train, tmp_path: Path, last: Path, size: int) -> None:
        damaged = tmp_path / "damaged.ckpt"
        damaged.write_bytes(last.read_bytes()[:size])
        sentence = call("eval.py", "trainer=cpu", f"ckpt_path={damaged}", f"hydra.run.dir={tmp_path}/eval").sentence()
        assert str(damaged) in sentence
        assert len(sentence) < 300
        assert str(damaged) in train(*TINY, f"resume={damaged}", "trainer.max_epochs=2").sentence()
        assert not (tmp_path / "eval/results.json").exists()

    def test_foreign(self, train: Train, tmp_path: Path) -> None:
        foreign = tmp_path / "foreign.ckpt"
        torch.save({"state_dict": {"weight": torch.zeros(3)}}, foreign)
        sentence = call("eval.py", "trainer=cpu", f"ckpt_path={foreign}", f"hydra.run.dir={tmp_path}/eval").sentence()
        assert "not written by this project" in sentence
        assert "not written by this project" in train(*TINY, f"resume={foreign}").sentence()

    def test_of_other_classes(self, tmp_path: Path, best: Path, make_folder: FolderMaker) -> None:
        overrides = ("trainer=cpu", f"ckpt_path={best}", "data=folder", f"hydra.run.dir={tmp_path}/eval")
        fewer = make_folder("fewer", ("sky", "road"))
        sentence = call("eval.py", *overrides, f"data.dataset.root={fewer}").sentence()
        assert "11 classes" in sentence
        assert "has 2" in sentence
        renamed = make_folder("renamed", [*CLASS_NAMES[:-1], "insect"])
        sentence = call("eval.py", *overrides, f"data.dataset.root={renamed}").sentence()
        assert "'bird'" in sentence
        assert "'insect'" in sentence

    def test_unknown_split(self, tmp_path: Path, best: Path) -> None:
        done = call("eval.py", "trainer=cpu", f"ckpt_path={best}", "data.split=foo", f"hydra.run.dir={tmp_path}")
        assert "train, val, test" in done.sentence()
        assert not (tmp_path / "results.json").exists()

    def test_resume_of_another_model(self, train: Train, last: Path) -> None:
        sentence = train(*TINY, f"resume={last}", "trainer.max_epochs=2", "upsample.width=64").sentence()
        assert "upsample." in sentence
        assert "another model" in sentence

    def test_resume_of_a_model_that_computes_otherwise(self, train: Train, last: Path) -> None:
        overrides = (*TINY, "trainer.max_epochs=2", "model.align_corners=false", "upsample.align_corners=false")
        sentence = train(*overrides, f"resume={last}").sentence()
        assert (
            "was trained with upsample.align_corners=true (here false), model.align_corners=true (here false)"
            in sentence
        )
        assert f"init_from={last}" in sentence

    def test_resume_of_weights_alone(self, train: Train, last: Path, tmp_path: Path) -> None:
        content = torch.load(last, weights_only=True)
        del content["optimizer_states"]
        torch.save(content, tmp_path / "weights.ckpt")
        sentence = train(*TINY, f"resume={tmp_path}/weights.ckpt", "trainer.max_epochs=2").sentence()
        assert f"init_from={tmp_path}/weights.ckpt" in sentence

    def test_resume_of_a_training_that_is_over(self, train: Train, last: Path) -> None:
        assert "trainer.max_epochs" in train(*TINY, f"resume={last}").sentence()


@pytest.mark.slow
class TestProcesses:
    """The same as real processes, for a sample."""

    def test_wrong_option(self, tmp_path: Path) -> None:
        done = start("train.py", "upsample=jpv", cwd=tmp_path)
        assert done.sentence().startswith("In 'train': Could not find 'upsample/jpv'")
        assert done.out == ""
        assert not list(tmp_path.iterdir())

    def test_missing_folder(self, tmp_path: Path) -> None:
        done = start("train.py", "data=folder", "data.dataset.root=/nowhere", cwd=tmp_path)
        assert done.code == 2
        assert done.err.splitlines() == [f"error: {done.sentence()}"]


def test_full_error_keeps_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken() -> None:
        raise UserError("a mistake.")

    monkeypatch.delenv(cli.ONE_SENTENCE, raising=False)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(UserError):
        cli.run(mistaken)
    monkeypatch.delenv("HYDRA_FULL_ERROR")
    with pytest.raises(SystemExit):
        cli.run(mistaken)


def test_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cli.ONE_SENTENCE, "1")

    @cli.one_sentence
    def faulty() -> None:
        raise ZeroDivisionError("a fault")

    with pytest.raises(ZeroDivisionError):
        faulty()


def test_lost_connection_is_told_in_a_process_of_several(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @cli.one_sentence
    def lonely() -> None:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:61080.")

    monkeypatch.setenv(cli.ONE_SENTENCE, "1")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(RuntimeError):
        lonely()
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit):
        lonely()
    assert capsys.readouterr().err.startswith("stopped: another process")


def test_sentence_of_a_chain() -> None:
    outer = RuntimeError("around it")
    outer.__cause__ = UserError("first line\n  second line.")
    assert cli.explain(outer) == "first line second line."
    assert cli.explain(ValueError("a fault")) is None
