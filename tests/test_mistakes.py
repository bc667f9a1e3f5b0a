"""Every wrong input of the table ends in one sentence with the remedy, exit code 2, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra._internal.hydra import Hydra
from hydra.types import RunMode
from PIL import Image

from fastfcn import conversion
from fastfcn.errors import UserError
from tests.conftest import FolderMaker
from tests.mistakes import TABLE, Mistake
from tests.scripts import TINY, Done, call, start

#: What each script is called with beside the mistake; it would succeed without the mistake, but for the scripts that
#: have nothing to do then.
BASE = {
    "train.py": (*TINY, "hydra.run.dir=run"),
    "eval.py": ("trainer=cpu", "hydra.run.dir=run"),
    "predict.py": ("figure=page.png", "checkpoints=[{best}]", "device=cpu", "count=1", "candidates=2"),
    "prepare.py": (),
    "export.py": (),
    "report.py": ("out=report", "device=cpu"),
    "benchmark.py": ("device=cpu", "repeats=3", "seconds=0.1", "warmup_seconds=0.01", "backbone=resnet18", "out=bench"),
    "web.py": ("checkpoints=[{best}]", "device=cpu"),
}
#: Those that read data of their own.
WITH_DATA = ("train.py", "prepare.py", "benchmark.py")

Fill = Callable[[str], str]


@pytest.fixture(autouse=True)
def composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra composes all twice, at first to see whether it is to sweep: no row here is."""
    monkeypatch.setattr(Hydra, "get_mode", lambda *_, **__: RunMode.RUN)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def fill(best: Path, run_dir: Path, data_dir: Path, tmp_path: Path) -> Fill:
    """Puts the paths of this session into a row."""
    text = tmp_path / "text.ckpt"
    text.write_text("no checkpoint\n")
    places = {"{best}": best, "{run}": run_dir, "{data}": data_dir, "{text}": text}

    def filled(word: str) -> str:
        for name, path in places.items():
            word = word.replace(name, str(path))
        return word

    return filled


def attempt(script: str, *overrides: str, fill: Fill, data_dir: Path) -> Done:
    """Call a script with what it needs, which the overrides may replace."""
    given = {item.partition("=")[0] for item in overrides}
    kept = [item for item in BASE[script] if item.partition("=")[0] not in given]
    kept += [f"paths.data_dir={data_dir}"] if script in WITH_DATA and "paths.data_dir" not in given else []
    return call(script, *map(fill, (*kept, *overrides)))


def what_lies_in(folder: Path) -> dict[str, float]:
    """Every path below, with the time of its last change."""
    return {str(path.relative_to(folder)): path.stat().st_mtime for path in folder.rglob("*")}


def refused(done: Done) -> str:
    """The sentence, which must be all that there is on standard error."""
    sentence = done.sentence()
    assert done.code == UserError.exit_code
    assert done.err == f"error: {sentence}\n"
    assert len(sentence) < 700, sentence
    return sentence


def test_size_of_the_table() -> None:
    assert len(TABLE) >= 250
    assert len(set(map(str, TABLE))) == len(TABLE)
    assert {row.script for row in TABLE} == set(BASE)


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_refused_in_one_sentence_and_nothing_left(
    row: Mistake, place: Path, fill: Fill, run_dir: Path, data_dir: Path
) -> None:
    before = what_lies_in(run_dir), what_lies_in(data_dir)
    sentence = refused(attempt(row.script, *row.overrides, fill=fill, data_dir=data_dir))
    for word in (*row.names, *row.remedy):
        assert fill(word) in sentence, sentence
    assert list(place.iterdir()) == []
    assert (what_lies_in(run_dir), what_lies_in(data_dir)) == before


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(BASE))
def test_the_same_as_a_process(script: str, place: Path) -> None:
    chosen = ["data=scenes"] if script == "prepare.py" else []
    assert "'no.such" in refused(start(script, *chosen, "no.such.key=1", cwd=place))
    assert not list(place.iterdir())


@pytest.mark.parametrize(
    "overrides", [("optim.lr=abc",), ("trainer.devices=10000",), ("resume=/nowhere.ckpt",)], ids=str
)
def test_what_a_run_has_left_before_stays(overrides: tuple[str, ...], place: Path, fill: Fill, data_dir: Path) -> None:
    """All but Hydra's record of the call, its log and the status, which tells how the last call ended."""
    folder = place / "run"
    for name in ("config.yaml", "results.json", "metrics.csv", "checkpoints/last.ckpt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name} of a run before")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    refused(attempt("train.py", *overrides, fill=fill, data_dir=data_dir))
    assert {path: path.read_bytes() for path in before} == before
    new = {path.name for path in folder.iterdir()} - {"config.yaml", "results.json", "metrics.csv", "checkpoints"}
    assert new <= {".hydra", ".lock", "status.json", "train.log"}
    assert '"failed"' in (folder / "status.json").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize(
    ("script", "overrides", "words"),
    [
        ("train.py", ("trainer=gpu",), ("trainer.accelerator=gpu", "trainer=cpu")),
        ("train.py", ("trainer.accelerator=cuda", "trainer.devices=[7]"), ("trainer.accelerator=cuda", "trainer=cpu")),
        ("eval.py", ("trainer=gpu", "ckpt_path={best}"), ("trainer.accelerator=gpu", "trainer=cpu")),
        ("predict.py", ("device=cuda",), ("device=cuda", "cpu")),
        ("report.py", ("device=cuda:7", "runs={run}"), ("device=cuda:7", "cpu")),
        ("benchmark.py", ("device=cuda",), ("device=cuda", "cpu")),
    ],
)
def test_a_gpu_that_is_not_there(
    script: str, overrides: tuple[str, ...], words: tuple[str, ...], place: Path, fill: Fill, data_dir: Path
) -> None:
    sentence = refused(attempt(script, *overrides, fill=fill, data_dir=data_dir))
    assert all(word in sentence for word in words), sentence
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("devices", ["3", "0", "[0,2]", "[]", "[-1]"])
def test_more_gpus_than_there_are(
    devices: str, place: Path, fill: Fill, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    overrides = ("trainer=gpu", f"trainer.devices={devices}")
    sentence = refused(attempt("train.py", *overrides, fill=fill, data_dir=data_dir))
    assert "trainer.devices=" in sentence
    assert "2 GPUs" in sentence
    assert list(place.iterdir()) == []


def test_a_port_in_use(place: Path, fill: Fill, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        overrides = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=1")
        done = attempt("train.py", *overrides, fill=fill, data_dir=data_dir)
    assert "MASTER_PORT" in done.sentence()
    assert not list(place.glob("run/*.ckpt"))


@contextmanager
def little_room(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: as a full disk, and for root too, but of another error number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("script", "size", "overrides"),
    [
        ("train.py", 100_000, ("trainer.log_every_n_steps=1",)),
        ("eval.py", 20_000, ("ckpt_path={best}",)),
        ("predict.py", 1_000, ()),
        ("prepare.py", 100, ("data=scenes", "prepare.check=true", "prepare.out=check", "data.dataset.size=64")),
        ("export.py", 1_000, ("to=official", "ckpt_path={best}", "out=there/model.pth.tar")),
        ("export.py", 1_000, ("to=safetensors", "ckpt_path={best}", "out=there/model.safetensors")),
        ("export.py", 1_000, ("to=onnx", "ckpt_path={best}", "out=there/model.onnx", "export.size=[64,64]")),
        ("report.py", 1_000, ("runs={run}", "latency=null", "figure=null")),
    ],
)
def test_a_full_disk(
    script: str,
    size: int,
    overrides: tuple[str, ...],
    place: Path,
    fill: Fill,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Files of a run that has begun may be there, each whole; no checkpoint, no result, no partial file."""
    if script == "prepare.py":
        overrides = (*overrides, "data.dataset.counts={train:8,val:4,test:4}")
    # The model of this session is none that the original code has.
    monkeypatch.setattr(conversion, "_as_official", lambda *_: {"state_dict": {"weight": torch.zeros(10_000)}})
    with little_room(size):
        done = attempt(script, *overrides, fill=fill, data_dir=data_dir)
    sentence = done.sentence()
    assert any(word in sentence for word in ("room", "limit on a file's size", "see to the disk")), sentence
    left = [path for path in place.rglob("*") if path.is_file()]
    unwanted = ("results.json", "evaluation.json", "report.md", "page.png", "check.json")
    assert [
        path for path in left if path.suffix in (".ckpt", ".tar", ".safetensors", ".onnx", ".partial", ".part", ".tmp")
    ] == []
    assert [path for path in left if path.name in unwanted] == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind root")
def test_folders_that_may_not_be_read_or_written(
    place: Path, fill: Fill, data_dir: Path, make_folder: FolderMaker
) -> None:
    closed = make_folder("closed", ("sky", "road"))
    (closed / "images/train").chmod(0)
    place.chmod(0o500)
    try:
        refused(attempt("train.py", "data=folder", f"data.dataset.root={closed}", fill=fill, data_dir=data_dir))
        assert str(place) in refused(attempt("train.py", f"hydra.run.dir={place}/run", fill=fill, data_dir=data_dir))
    finally:
        place.chmod(0o700)
        (closed / "images/train").chmod(0o700)


#: A small training on the images of a folder, whole images in validation and test.
ON_IMAGES = ("data=folder", "upsample=bilinear", "data.batch_size=4", "data.base_size=64", "data.whole_eval=true")


def odd_images(folder: Path) -> None:
    """Make the images of each split unusual, and valid: 1 pixel, alpha, 16 bits, animated, a line."""
    for split in ("train", "val", "test"):
        images, masks = folder / "images" / split, folder / "masks" / split
        Image.new("RGB", (1, 1), "red").save(images / "0.png")
        Image.new("L", (1, 1), 1).save(masks / "0.png")
        Image.open(images / "1.png").convert("RGBA").save(images / "1.png")
        Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save(images / "2.png")
        frames = [Image.new("RGB", (300, 2), color) for color in ("green", "blue")]
        frames[0].save(images / "3.png", save_all=True, append_images=frames[1:])
        Image.new("L", (300, 2), 1).save(masks / "3.png")


def test_odd_images_are_trained_on_tested_and_drawn(place: Path, fill: Fill, make_folder: FolderMaker) -> None:
    root = make_folder("odd", ("sky", "road"))
    odd_images(root)
    own = [item for item in TINY if not item.startswith(("data.", "upsample."))]
    call("train.py", *own, *ON_IMAGES, "data.crop_size=64", f"data.dataset.root={root}", "hydra.run.dir=run").check()
    best = "run/checkpoints/best.ckpt"
    call("eval.py", "trainer=cpu", f"ckpt_path={best}", "inference=slide", "hydra.run.dir=eval").check()
    call("predict.py", f"checkpoints=[{best}]", "figure=page.png", "device=cpu").check()
    call("prepare.py", "data=folder", f"data.dataset.root={root}", "prepare.check=true", "prepare.out=out").check()


@pytest.mark.parametrize("content", [b"a text file", b""], ids=["text", "empty"])
def test_what_is_no_image_stops_each_script_by_its_name(
    content: bytes, place: Path, fill: Fill, make_folder: FolderMaker
) -> None:
    """In a training it shows when the image's turn comes: the run has begun, and its status says how it failed."""
    root = make_folder("damaged", ("sky", "road"))
    for split in ("train", "val"):
        (root / "images" / split / "2.png").unlink()
        (root / "images" / split / "2.jpg").write_bytes(content)
    data = ("data=folder", f"data.dataset.root={root}")
    own = [item for item in TINY if not item.startswith(("data.", "upsample."))]
    done = call("train.py", *own, *ON_IMAGES, "data.crop_size=64", data[1], "hydra.run.dir=run")
    assert str(root / "images/train/2.jpg") in done.sentence()
    assert not {"results.json", "checkpoints"} & {path.name for path in Path("run").iterdir()}
    assert "2.jpg" in json.loads(Path("run/status.json").read_text())["reason"]
    done = call("prepare.py", *data, "prepare.check=true", "prepare.out=out")
    assert done.code == 1
    assert "2.jpg" in done.out
