"""Pictures are written whole or not at all, in the background as well."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastfcn import png_files
from fastfcn.errors import UserError
from fastfcn.png_files import PngWriter, save
from tests.data.tiny import is_one_sentence_with


def grey(value: int) -> torch.Tensor:
    return torch.full((4, 6), value, dtype=torch.uint8)


def pixels(path: Path) -> int:
    with Image.open(path) as file:
        assert file.size == (6, 4)
        values = np.asarray(file)
    assert values.min() == values.max()
    return int(values[0, 0])


def full_disk(values: np.ndarray, path: Path, *, optimize: bool = False) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_all_is_written_when_the_writer_is_closed(tmp_path: Path) -> None:
    with PngWriter(waiting=3) as writer:
        for number in range(20):
            writer.submit(grey(number), tmp_path / f"folder/{number}.png")
        writer.submit(torch.zeros(4, 6, 3, dtype=torch.uint8), tmp_path / "rgb.png")
    assert [pixels(tmp_path / f"folder/{number}.png") for number in range(20)] == list(range(20))
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".png"}
    writer.close()  # once more does nothing


def test_the_caller_goes_on_until_too_many_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, started = threading.Event(), []

    def slow(values: np.ndarray, path: Path) -> None:
        started.append(path.name)
        assert gate.wait(30)

    monkeypatch.setattr(png_files, "save", slow)
    writer = PngWriter(threads=1, waiting=3)
    for number in range(3):
        writer.submit(grey(number), tmp_path / f"{number}.png")  # returns though nothing is written yet
    fourth = threading.Thread(target=writer.submit, args=(grey(3), tmp_path / "3.png"))
    fourth.start()
    fourth.join(0.2)
    assert fourth.is_alive()  # it waits for the first
    gate.set()
    fourth.join(30)
    writer.close()
    assert started == [f"{number}.png" for number in range(4)]  # in order


def save_one(folder: Path) -> None:
    save(grey(0).numpy(), folder / "0.png")


def save_many(folder: Path) -> None:
    with PngWriter(threads=1, waiting=4) as writer:
        for number in range(100):
            writer.submit(grey(number), folder / f"{number}.png")


def test_a_full_disk_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fails(image: Image.Image, path: Path, **options: object) -> None:
        tried.append(path)
        path.write_bytes(b"half of a pic")
        full_disk(np.zeros(0), path)

    monkeypatch.setattr(Image.Image, "save", fails)
    (tmp_path / "0.png").write_bytes(b"old")
    for write in (save_one, save_many):
        with pytest.raises(UserError) as caught:
            write(tmp_path)
        is_one_sentence_with(caught.value, ["0.png cannot be written", "No space left on device", "run the command"])
        assert [path.name for path in tmp_path.iterdir()] == ["0.png"]  # and nothing half-written
        assert (tmp_path / "0.png").read_bytes() == b"old"
    assert len(tried) < 100  # the rest is not tried


def test_a_failure_is_told_at_the_end_at_the_latest(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    writer = PngWriter()
    writer.submit(grey(0), tmp_path / "file/0.png")
    with pytest.raises(UserError, match=r"file/0\.png cannot be written"):
        writer.close()
    writer.close()


def test_an_error_elsewhere_leaves_out_what_waits(tmp_path: Path) -> None:
    def fails() -> None:
        with PngWriter() as writer:
            writer.submit(grey(1), tmp_path / "1.png")
            raise RuntimeError("elsewhere")

    with pytest.raises(RuntimeError, match="elsewhere"):
        fails()
    assert {path.name for path in tmp_path.iterdir()} <= {"1.png"}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("png")]
