"""Extract an archive that comes from elsewhere: nothing outside the target, no links, all of it or nothing."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from fastfcn.errors import UserError
from fastfcn.preparation import disk
from fastfcn.preparation.progress import track

#: What a damaged archive raises while it is read.
DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError, OSError
)  # fmt: skip

CHUNK = 1 << 20


class Member(NamedTuple):
    """A regular file in an archive.

    Attributes:
        name: Its path, checked.
        size: Bytes once extracted.
        open: Opens its content.
    """

    name: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]


def extract(archive: Path, target: Path, *, keep: Callable[[str], bool] | None = None) -> int:
    """Extract the folder of the target's name from the top of a zip or tar.

    All entries are checked before the first is written. They are written beside the target, which appears by one
    renaming when all are there; what a killed extraction left behind is removed by the next one.

    Args:
        archive: The file.
        target: The folder to make; it must not exist.
        keep: Whether an entry, by its path in the archive, is wanted; None: all are.

    Returns:
        Number of files.

    Raises:
        UserError: The archive is damaged or not to be trusted, holds no such folder, or the disk is full.
    """
    assert not target.exists(), f"{target} is there already"
    staging = target.with_name(f".{target.name}.partial")
    try:
        staging.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staging, ignore_errors=True)
        with _opened(archive) as members:
            wanted = [
                member
                for member in members
                if member.name.parts[0] == target.name and (keep is None or keep(str(member.name)))
            ]
            if not wanted:
                raise UserError(f"{archive} holds no folder {target.name} at its top: it is another archive.")
            size = sum(member.size for member in wanted)
            disk.require(staging.parent, size, what=f"Extracting {archive.name}")
            with track(f"extracting {archive.name}", total=size, unit="bytes") as advance:
                for member in wanted:
                    _write(member, staging / member.name, archive=archive, advance=advance)
        (staging / target.name).replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return len(wanted)


def _write(member: Member, path: Path, *, archive: Path, advance: Callable[[int], None]) -> None:
    with disk.writing(path, kept=f"{archive} is kept and extracted anew"):
        path.parent.mkdir(parents=True, exist_ok=True)
        target = path.open("xb")
    with target:
        written = 0
        with _reading(archive), member.open() as source:
            while chunk := source.read(CHUNK):
                with disk.writing(path, kept=f"{archive} is kept and extracted anew"):
                    target.write(chunk)
                written += len(chunk)
        with disk.writing(path, kept=f"{archive} is kept and extracted anew"):
            target.flush()
    if written != member.size:
        raise _damaged(archive, f"{member.name} has {written} of {member.size} bytes")
    advance(written)


@contextmanager
def _opened(archive: Path) -> Iterator[list[Member]]:
    """The regular files of an archive, all of its entries checked."""
    if zipfile.is_zipfile(archive):
        with _reading(archive):
            zipped = zipfile.ZipFile(archive)
        with zipped:
            yield _unique(archive, [_of_zip(archive, zipped, info) for info in zipped.infolist() if not info.is_dir()])
        return
    if archive.suffix == ".zip":
        raise _damaged(archive, "a zip file's end is missing")
    with _reading(archive):
        tar = tarfile.open(archive)  # noqa: SIM115  # closed below; opening alone is guarded
    with tar:
        with _reading(archive):
            infos = tar.getmembers()
            while tar.fileobj is not None and tar.fileobj.read(CHUNK):
                pass  # to the very end, where a compressed one has its checksum
        yield _unique(archive, [_of_tar(archive, tar, info) for info in infos if not info.isdir()])


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except DAMAGE as error:
        reason = str(error).splitlines()[0].rstrip(":") if str(error) else type(error).__name__
        raise _damaged(archive, reason) from error


def _damaged(archive: Path, reason: str) -> UserError:
    return UserError(f"{archive} is damaged or truncated ({reason}): delete it and run this command again.")


def _of_zip(archive: Path, zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    name = _checked(archive, info.orig_filename)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise _refused(archive, info.filename, "is a link or a device")
    if info.flag_bits & 1:
        raise UserError(f"{archive} is encrypted ({info.filename}): fetch the public archive.")
    return Member(name, info.file_size, lambda: zipped.open(info))


def _of_tar(archive: Path, tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    name = _checked(archive, info.name)
    if not info.isreg():
        raise _refused(archive, info.name, "is a link or a device")

    def content() -> IO[bytes]:
        file = tar.extractfile(info)
        assert file is not None, "a regular file has content"
        return file

    return Member(name, info.size, content)


def _checked(archive: Path, name: str) -> PurePosixPath:
    """The path of an entry, which must stay below the folder that it is extracted to."""
    path = PurePosixPath(name)
    if "\\" in name or "\0" in name or ":" in name or path.is_absolute() or ".." in path.parts or not path.parts:
        raise _refused(archive, name, "leads out of the target folder")
    return path


def _refused(archive: Path, name: str, why: str) -> UserError:
    return UserError(
        f"{archive} holds the entry {name!r}, which {why}: nothing was extracted, do not use this archive."
    )


def _unique(archive: Path, members: list[Member]) -> list[Member]:
    seen: set[PurePosixPath] = set()
    for member in members:
        if member.name in seen:
            raise _refused(archive, str(member.name), "occurs twice")
        seen.add(member.name)
    return members
