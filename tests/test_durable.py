"""Checkpoint files: whatever happens while one is written, one that loads is there."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastfcn import durable
from fastfcn.errors import UserError
from fastfcn.plain_files import load_plain


def content(number: int) -> dict[str, Any]:
    # By NumPy: a forked process in which torch begins threads anew hangs.
    return {"number": number, "weights": torch.from_numpy(np.full(200_000, number, dtype=np.float32))}


def loads(path: Path) -> int:
    """The number in a file that is whole."""
    assert durable.damage(path) is None
    found = load_plain(path)
    assert found["weights"].eq(found["number"]).all()
    number: int = found["number"]
    return number


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints/last.ckpt"


def write(path: Path, number: int) -> None:
    durable.write(content(number), path, keep=path.with_name("previous.ckpt"))


def test_the_file_before_is_kept(path: Path) -> None:
    for number in (1, 2, 3):
        write(path, number)
    assert (loads(path), loads(path.with_name("previous.ckpt"))) == (3, 2)
    names = sorted(each.name for each in path.parent.iterdir())
    assert names == ["last.ckpt", "last.ckpt.sha256", "previous.ckpt", "previous.ckpt.sha256"]
    for name in ("last.ckpt", "previous.ckpt"):
        [line] = (path.parent / f"{name}.sha256").read_text().splitlines()
        assert line.split()[1] == name  # as sha256sum --check reads it


@pytest.mark.parametrize("with_checksum", [True, False])
@pytest.mark.parametrize("how", ["cut", "flipped", "empty"])
def test_damage_is_seen(how: str, with_checksum: bool, path: Path) -> None:
    write(path, 1)
    if not with_checksum:
        durable.checksum_file(path).unlink()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"cut": bytes(data[: len(data) // 3]), "flipped": bytes(data), "empty": b""}[how])
    with pytest.raises(UserError, match=r"last\.ckpt is no checkpoint") as told:
        load_plain(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_disk_that_fails(call: str, code: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, 1)

    def fail(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    place = {"write": (durable._Hashing, "write"), "fsync": (os, "fsync"), "replace": (Path, "replace")}[call]
    with monkeypatch.context() as patch:
        patch.setattr(*place, fail)
        with pytest.raises(UserError, match=os.strerror(code)) as told:
            write(path, 2)
    assert str(path) in str(told.value)
    assert loads(path) == 1
    assert not list(path.parent.glob(f"*{durable.PARTIAL}"))
    write(path, 3)
    assert (loads(path), loads(path.with_name("previous.ckpt"))) == (3, 1)


def test_where_there_are_no_links(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", fail)
    for number in (1, 2, 3):
        write(path, number)
    assert (loads(path), loads(path.with_name("previous.ckpt"))) == (3, 2)


def test_a_name_that_a_file_has_already_leaves_nothing_beside_it(path: Path) -> None:
    write(path, 0)
    for _ in range(2):  # the second time the two are one file, which the system does not rename to itself
        durable.also_known_as(path, path.with_name("another.ckpt"))
    assert not list(path.parent.glob(f"*{durable.PARTIAL}"))
    assert loads(path.with_name("another.ckpt")) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_twenty_random_moments_while_it_writes(path: Path) -> None:
    begun = time.perf_counter()
    write(path, 0)
    one_write = max(0.01, time.perf_counter() - begun)  # on a busy machine it takes long
    moments = random.Random(0)
    for _ in range(20):
        before = loads(path)
        begun_reading, begun_writing = os.pipe()
        child = os.fork()
        if child == 0:
            number = before
            while True:
                number += 1
                write(path, number)
                os.write(begun_writing, b".")
        if moments.random() < 0.5:  # half of them are killed in their first write, or before it
            os.read(begun_reading, 1)
        for end in (begun_reading, begun_writing):
            os.close(end)
        time.sleep(moments.uniform(0, 4 * one_write))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        newest = loads(path)
        assert newest >= before
        if (kept := path.with_name("previous.ckpt")).exists():
            assert loads(kept) in (newest - 1, newest)  # the same one, where it was about to be replaced
    assert newest > 0
    write(path, newest + 1)
    assert not list(path.parent.glob(f"*{durable.PARTIAL}"))  # what the killed ones left is removed
