"""What a run does about a file that is damaged, wrong, missing or cannot be read at the moment: the table of faults."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from fastfcn.data import decoding, reading
from fastfcn.data.batches import BatchLoader
from fastfcn.data.datamodule import SegmentationDataModule
from fastfcn.data.decoding import read_image, read_mask
from fastfcn.data.folder import FolderDataset
from fastfcn.data.reading import PASSING, PAUSES, read_bytes
from fastfcn.errors import BadSampleError, UserError
from fastfcn.types import IGNORE_INDEX, STAND_IN, Enough, RawSample
from tests.data.tiny import CLASSES, Damage, ids, picture, save
from tests.scripts import call
from tests.test_first_version import AS_BEFORE, FIXTURES

SPLITS = ("train", "val", "test")
COUNT = 4
BAD = "1"  # the sample that has the fault


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


def label(path: Path) -> None:
    save(np.full_like(ids(32, 40), 9), path)


#: By name: the file, what happens to it, and what the sentence says of it.
FAULTS: dict[str, tuple[str, Damage, str]] = {
    "truncated JPEG": ("images/{split}/1.jpg", cut, "cannot be read as an image"),
    "empty image": ("images/{split}/1.jpg", lambda path: path.write_bytes(b""), "cannot be read as an image"),
    "empty mask": ("masks/{split}/1.png", lambda path: path.write_bytes(b""), "cannot be read as an image"),
    "mask of another size": ("masks/{split}/1.png", lambda path: save(ids(9, 9), path), "is 9 x 9 pixels, but"),
    "label out of range": ("masks/{split}/1.png", label, "holds the value 9, which is none of the 3 classes"),
    "missing image": ("images/{split}/1.jpg", Path.unlink, "No such file or directory"),
    "missing mask": ("masks/{split}/1.png", Path.unlink, "No such file or directory"),
    "EIO": ("images/{split}/1.jpg", lambda path: None, "Input/output error, 4 times"),
    "ESTALE": ("masks/{split}/1.png", lambda path: None, "4 times"),
}


class Failing(FolderDataset):
    """Files of which reading fails so many times; in each process anew."""

    fails: dict[str, tuple[int, int]]

    def read(self, index: int, *, enough: Enough) -> RawSample:
        whole, fails = Path.read_bytes, self.fails

        def read(path: Path) -> bytes:
            for end, (number, times) in fails.items():
                if str(path).endswith(end) and times:
                    fails[end] = (number, times - 1)
                    raise OSError(number, os.strerror(number))
            return whole(path)

        with mock.patch.object(Path, "read_bytes", read), mock.patch.object(reading, "PAUSES", (0.0, 0.0, 0.0)):
            return super().read(index, enough=enough)


def tree(root: Path) -> Path:
    for split in SPLITS:
        for index in range(COUNT):
            save(picture(32, 40), root / f"images/{split}/{index}.jpg")
            save(ids(32, 40), root / f"masks/{split}/{index}.png")
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return root


def make(root: Path, fails: dict[str, tuple[int, int]] | None = None, **settings: Any) -> SegmentationDataModule:
    def opened(split: str) -> FolderDataset:
        dataset = Failing(split, root=root)
        dataset.fails = dict(fails or {})
        return dataset

    sizes = {"batch_size": COUNT, "crop_size": 16, "base_size": 16, "num_workers": 0}
    return SegmentationDataModule(opened, **{**sizes, **settings})


def with_fault(root: Path, fault: str, split: str, **settings: Any) -> SegmentationDataModule:
    """A DataModule whose split is opened while all is well: the fault comes during the run."""
    file, damage, _ = FAULTS[fault]
    file = file.format(split=split)
    number = getattr(errno, fault, None)
    datamodule = make(root, {} if number is None else {file: (number, 999)}, **settings)
    datamodule.open(split)
    damage(root / file)
    return datamodule


def loader_of(datamodule: SegmentationDataModule, split: str) -> BatchLoader:
    return datamodule.train_dataloader() if split == "train" else datamodule.eval_dataloader(split)


@pytest.mark.parametrize("fault", FAULTS)
def test_error_names_it(tmp_path: Path, fault: str) -> None:
    root = tree(tmp_path)
    for split, workers in (("train", 0), ("val", 0), ("test", 0)):
        datamodule = with_fault(root, fault, split, num_workers=workers)
        with pytest.raises(BadSampleError) as caught:
            list(loader_of(datamodule, split))
        assert str(root / FAULTS[fault][0].format(split=split)) in str(caught.value)
        assert FAULTS[fault][2] in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", FAULTS)
def test_skip_counts_it(tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    root = tree(tmp_path)
    for split in SPLITS:
        caplog.clear()
        datamodule = with_fault(root, fault, split, on_bad_sample="skip")
        batches = [batch for _ in range(2) for batch in loader_of(datamodule, split)]  # twice, and counted once
        names = [name for batch in batches for name in batch["name"]]
        assert BAD not in names
        assert len(names) == 2 * COUNT
        assert names.count(STAND_IN) == (0 if split == "train" else 2)  # the next good one, or nothing at all
        [sentence] = datamodule.skipped[split]
        assert FAULTS[fault][2] in sentence
        told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("skipped")]
        assert told == [f"skipped a sample of the {split} split (1 of at most 20): {sentence}"]
        for batch in batches:
            for name, mask in zip(batch["name"], batch["mask"], strict=True):
                assert bool((mask == IGNORE_INDEX).all()) == (name == STAND_IN)


@pytest.mark.parametrize("fault", ["truncated JPEG", "missing mask", "EIO"])
def test_the_same_in_two_workers(tmp_path: Path, fault: str) -> None:
    root = tree(tmp_path)
    stopped = with_fault(root, fault, "val", num_workers=2, eval_batch_size=1)
    with pytest.raises(BadSampleError) as caught:
        list(stopped.val_dataloader())
    assert FAULTS[fault][2] in str(caught.value)
    assert "\n" not in str(caught.value)
    for split in ("train", "val"):
        skipping = with_fault(tree(tmp_path), fault, split, num_workers=2, eval_batch_size=1, on_bad_sample="skip")
        names = [name for batch in loader_of(skipping, split) for name in batch["name"]]
        assert BAD not in names
        assert len(names) == COUNT
        assert [FAULTS[fault][2] in sentence for sentence in skipping.skipped[split]] == [True]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_that_passes_is_waited_for(tmp_path: Path, workers: int) -> None:
    fails = {"val/1.jpg": (errno.EIO, 2), "val/2.png": (errno.ESTALE, 3)}
    datamodule = make(tree(tmp_path), fails, num_workers=workers)
    assert [name for batch in datamodule.val_dataloader() for name in batch["name"]] == ["0", "1", "2", "3"]
    assert datamodule.skipped["val"] == {}


def test_the_pauses_grow_and_each_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    errors = iter([OSError(errno.EIO, "Input/output error")] * 2)

    def read(path: Path) -> bytes:
        for error in errors:
            raise error
        return b"content"

    monkeypatch.setattr(Path, "read_bytes", read)
    assert read_bytes(tmp_path / "a.jpg") == b"content"
    assert tuple(slept) == PAUSES[:2]
    assert sum(PAUSES) < 5
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "a.jpg could not be read (Input/output error): once more in 0.1 s" in caplog.text


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EISDIR])
def test_what_will_not_pass_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    assert number not in PASSING
    tries: list[Path] = []

    def read(path: Path) -> bytes:
        tries.append(path)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "read_bytes", read)
    with pytest.raises(BadSampleError):
        read_bytes(tmp_path / "a.jpg")
    assert len(tries) == 1


def test_a_split_of_which_nothing_can_be_read_is_no_result(tmp_path: Path) -> None:
    root = tree(tmp_path)
    for path in (root / "images/val").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"None of the images of the val split can be read, the first because .*0\.jpg"):
        list(make(root, on_bad_sample="skip").val_dataloader())


def test_the_first_mask_may_be_the_bad_one(tmp_path: Path) -> None:
    """It is asked for a palette when the split is opened."""
    root = tree(tmp_path)
    for index in range(COUNT):
        image = Image.fromarray(ids(32, 40), "P")
        image.putpalette([index + 1, *range(1, 256), *([0] * 512)])
        save(image, root / f"masks/train/{index}.png")
    (root / "masks/train/0.png").write_bytes(b"")
    datamodule = make(root, on_bad_sample="skip")
    assert datamodule.facts.palette[0] == (2, 1, 2)
    list(datamodule.train_dataloader())
    assert len(datamodule.skipped["train"]) == 1


def every_flipped_bit(data: bytes) -> Callable[[int], bytes]:
    return lambda place: data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


@pytest.mark.parametrize("kind", ["grey", "palette", "filtered"])
def test_no_flipped_bit_of_a_mask_becomes_a_label(tmp_path: Path, kind: str) -> None:
    path, truth = tmp_path / "a.png", ids(24, 16)
    image = Image.fromarray(truth, "P" if kind == "palette" else "L")
    if kind == "palette":
        image.putpalette(list(range(256)) * 3)
    if kind == "filtered":
        image = Image.fromarray((np.add.outer(np.arange(64), np.arange(64)) % 3).astype(np.uint8))
        truth = np.asarray(image)
    image.save(path, optimize=kind == "filtered")
    flipped = every_flipped_bit(path.read_bytes())
    bad = 0
    for place in range(path.stat().st_size):
        path.write_bytes(flipped(place))
        try:
            np.testing.assert_array_equal(read_mask(path), truth)
        except BadSampleError:
            bad += 1
    assert bad > 40


def test_a_header_that_asks_for_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    save(picture(32, 40), tmp_path / "a.jpg")
    with pytest.raises(BadSampleError, match=r"a\.jpg cannot be read as an image .*exceeds limit"):
        read_image(tmp_path / "a.jpg", exif=True)
    rows = b"\0" * 100_000  # deflated to some hundred bytes
    save(ids(8, 8), tmp_path / "m.png")
    data = (tmp_path / "m.png").read_bytes()
    start = data.index(b"IDAT") - 4
    chunk = b"IDAT" + zlib.compress(rows)
    crc = struct.pack(">I", zlib.crc32(chunk))
    bomb = data[:start] + struct.pack(">I", len(chunk) - 4) + chunk + crc + data[-12:]
    assert decoding.plain_png(bomb) is None


def test_an_evaluation_is_as_if_the_image_were_not_there(first_version: Path, tmp_path: Path) -> None:
    """Figures, intervals and pictures; and it says beside them what they are without."""
    damaged, without = (Path(shutil.copytree(FIXTURES / "scenes", tmp_path / name)) for name in ("scenes", "b/scenes"))
    (damaged / "images/test/1.png").write_bytes(b"")
    for kind in ("images", "masks"):
        (without / kind / "test/1.png").unlink()
    found: list[dict[str, Any]] = []
    for name, root in (("damaged", damaged), ("without", without)):
        data = ("data=folder", f"data.dataset.root={root}", "data.crop_size=64", "data.num_workers=0")
        skip = ("data.on_bad_sample=skip",) if name == "damaged" else ()
        places = (f"ckpt_path={first_version}", f"hydra.run.dir={tmp_path}/{name}")
        done = call("eval.py", *places, *data, *skip, "trainer=cpu").check()
        assert ("without 1 sample that cannot be read" in done.out) == (name == "damaged")
        found.append(json.loads((tmp_path / name / "evaluation.json").read_text()))
    told = found[0].pop("skipped")
    assert [str(damaged / "images/test/1.png") in sentence for sentence in told] == [True]
    assert found[1].pop("skipped") == []
    assert found[0] == found[1]
    assert set(found[0]["images"]) == {"0", "2", "3"}
    results = json.loads((tmp_path / "damaged/results.json").read_text())
    assert results["skipped_samples"] == {"test": 1}
    text = (tmp_path / "damaged/evaluation.md").read_text()
    assert "3 images" in text
    assert "**Left out: 1 sample that cannot be read; they count in no figure.**" in text
    assert "1.png cannot be read" in text
    pictures = ("worst.png", "best.png", "boundaries.png", "confusion.png")
    assert all((tmp_path / f"damaged/{p}").read_bytes() == (tmp_path / f"without/{p}").read_bytes() for p in pictures)

    page = (f"checkpoints=[{first_version}]", f"figure={tmp_path}/page.png", "device=cpu", *data, "pick=worst")
    done = call("predict.py", *page, f"data.dataset.root={damaged}", "data.on_bad_sample=skip").check()
    assert "left out:        1 sample of test that cannot be read" in done.out


def test_a_training_tests_without_it_and_says_so(tmp_path: Path) -> None:
    """In training, in the validation of each epoch, and in the test behind it; a training that goes on tells all."""
    root = tmp_path / "scenes"
    for split in SPLITS:
        for kind in ("images", "masks"):
            shutil.copytree(FIXTURES / "scenes" / kind / "test", root / kind / split)
        (root / "images" / split / "2.png").write_bytes(b"")
    shutil.copy(FIXTURES / "scenes/classes.txt", root)
    model = [override for override in AS_BEFORE if not override.startswith(("data.", "optim."))]
    data = ("data=folder", f"data.dataset.root={root}", "data.crop_size=64", "data.base_size=64", "data.num_workers=0")
    run = (*model, *data, "data.batch_size=4", "data.on_bad_sample=skip", f"hydra.run.dir={tmp_path}/run")
    done = call("train.py", *run, "trainer.max_epochs=1").check()
    assert "test of encoding-jpu-timm on folder, center_crop, without 1 sample that cannot be read" in done.out
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["skipped_samples"] == {"train": 1, "val": 1, "test": 1}
    for split in SPLITS:
        (root / "images" / split / "2.png").write_bytes((FIXTURES / "scenes/images/test/2.png").read_bytes())
    done = call("train.py", *run, "trainer.max_epochs=2", "resume=auto", "test=false").check()
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["skipped_samples"] == {"train": 1, "val": 1}  # of the epoch before, though all is well now
