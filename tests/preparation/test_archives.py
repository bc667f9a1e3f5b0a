from __future__ import annotations

import io
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import textwrap
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from fastfcn.errors import UserError
from fastfcn.preparation.archives import extract
from tests.data.tiny import is_one_sentence_with
from tests.scripts import SRC

FILES = {
    "top/a.txt": b"first",
    "top/deep/b.bin": np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes(),
    "top/deep/empty": b"",
    "other/c.txt": b"of another folder",
}
Writer = Callable[[Path, Mapping[str, bytes]], Path]


def zipped(path: Path, files: Mapping[str, bytes]) -> Path:
    path = path.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("top/"), b"")
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | 0o4777) << 16  # a setuid file, as an archive may claim
            archive.writestr(info, data)
    return path


def tarred(path: Path, files: Mapping[str, bytes], *, mode: str = "w") -> Path:
    path = path.with_suffix(".tar" if mode == "w" else ".tar.gz")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        folder = tarfile.TarInfo("top")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o4777
            archive.addfile(info, io.BytesIO(data))
    return path


def gzipped(path: Path, files: Mapping[str, bytes]) -> Path:
    return tarred(path, files, mode="w:gz")


FORMATS = pytest.mark.parametrize("write", [zipped, tarred, gzipped])


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@FORMATS
def test_the_folder_of_the_targets_name(tmp_path: Path, write: Writer) -> None:
    archive = write(tmp_path / "x", FILES)
    target = tmp_path / "new" / "top"
    assert extract(archive, target) == 3
    assert tree(target) == {"a.txt": FILES["top/a.txt"], "deep/b.bin": FILES["top/deep/b.bin"], "deep/empty": b""}
    assert [path.name for path in target.parent.iterdir()] == ["top"]
    assert not any(path.stat().st_mode & stat.S_ISUID for path in target.rglob("*"))


@FORMATS
def test_only_what_is_wanted(tmp_path: Path, write: Writer) -> None:
    archive = write(tmp_path / "x", FILES)
    assert extract(archive, tmp_path / "out/top", keep=lambda name: name.endswith(".txt")) == 1
    assert set(tree(tmp_path / "out/top")) == {"a.txt"}
    with pytest.raises(UserError, match="holds no folder nothing at its top"):
        extract(archive, tmp_path / "out/nothing")


@FORMATS
@pytest.mark.parametrize("name", ["../evil", "top/../../evil", "/evil", "top/..\\evil", "C:/evil", "top/deep/../../.."])
def test_an_entry_that_leads_out(tmp_path: Path, write: Writer, name: str) -> None:
    archive = write(tmp_path / "x", {**FILES, name: b"evil"})
    with pytest.raises(UserError) as caught:
        extract(archive, tmp_path / "out/top")
    is_one_sentence_with(caught.value, [str(archive), repr(name), "leads out"])
    assert not list((tmp_path / "out").iterdir())
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_link_or_device_in_a_tar(tmp_path: Path, kind: bytes) -> None:
    archive = tarred(tmp_path / "x", FILES)
    with tarfile.open(archive, "a") as more:
        info = tarfile.TarInfo("top/link")
        info.type, info.linkname = kind, "/etc/passwd"
        more.addfile(info)
    with pytest.raises(UserError, match=r"'top/link', which is a link or a device"):
        extract(archive, tmp_path / "out/top")
    assert not list((tmp_path / "out").iterdir())


def test_a_link_in_a_zip(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "x", FILES)
    with zipfile.ZipFile(archive, "a") as more:
        info = zipfile.ZipInfo("top/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        more.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match=r"'top/link', which is a link or a device"):
        extract(archive, tmp_path / "out/top")


def test_two_entries_of_one_name(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "x", {**FILES, "top/./a.txt": b"second"})
    with pytest.raises(UserError, match=r"'top/a.txt', which occurs twice"):
        extract(archive, tmp_path / "out/top")


@pytest.mark.parametrize(
    ("write", "damage"),
    # A plain tar has no checksum of its contents, and so nothing to tell a flipped byte by.
    [
        (write, damage)
        for write in (zipped, tarred, gzipped)
        for damage in ("half", "last", "flipped", "none of it")
        if (write, damage) != (tarred, "flipped")
    ],
)
def test_a_damaged_archive(tmp_path: Path, write: Writer, damage: str) -> None:
    archive = write(tmp_path / "x", FILES)
    data = bytearray(archive.read_bytes())
    middle = len(data) // 2
    data[middle] ^= 0xFF
    cut = {"half": data[:middle], "last": data[: -len(data) // 3], "flipped": data, "none of it": b"<html>"}[damage]
    archive.write_bytes(bytes(cut))
    with pytest.raises(UserError) as caught:
        extract(archive, tmp_path / "out/top")
    is_one_sentence_with(caught.value, [str(archive), "damaged or truncated", "delete it"])
    assert not list((tmp_path / "out").iterdir())


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


@FORMATS
def test_room_is_asked_for_first(tmp_path: Path, write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write(tmp_path / "x", FILES)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(UserError, match=r"Extracting x\S* needs 0.00 GB in .* make room"):
        extract(archive, tmp_path / "out/top")
    assert not list((tmp_path / "out").iterdir())


SCRIPT = """
    import resource, sys, time
    from pathlib import Path
    sys.path.insert(0, {src!r})
    from fastfcn import cli
    from fastfcn.preparation import archives
    if {limit}:
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
    if {slow}:
        archives.CHUNK = 1000
        write = archives.disk.writing
        archives.disk.writing = lambda *args, **options: (time.sleep(0.02), write(*args, **options))[1]
    cli.run(cli.one_sentence(lambda: archives.extract(Path({archive!r}), Path({target!r}))))
"""


def process(archive: Path, target: Path, *, limit: int = 0, slow: bool = False) -> subprocess.Popen[str]:
    code = SCRIPT.format(src=str(SRC), limit=limit, slow=slow, archive=str(archive), target=str(target))
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stderr=subprocess.PIPE, text=True)


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path) -> None:
    archive, target = zipped(tmp_path / "x", FILES), tmp_path / "out/top"
    running = process(archive, target, limit=200_000)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 2
    assert err.startswith("error: ")
    assert "the disk is full" in err
    assert len(err.strip().splitlines()) == 1
    assert not list(target.parent.iterdir())
    assert extract(archive, target) == 3


def test_a_killed_extraction_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    archive, target = zipped(tmp_path / "x", FILES), tmp_path / "out/top"
    running = process(archive, target, slow=True)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").rglob("b.bin")) and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=60)
    assert [path.name for path in target.parent.iterdir()] == [".top.partial"]
    assert extract(archive, target) == 3
    assert [path.name for path in target.parent.iterdir()] == ["top"]
    assert tree(target)["deep/b.bin"] == FILES["top/deep/b.bin"]
