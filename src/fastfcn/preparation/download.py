"""Fetch files that are known by their checksum: from here, from a mirror, or from their public address."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout

from fastfcn.errors import UserError
from fastfcn.preparation.transfer import RefusedError, resume


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file that a data set is made of.

    Attributes:
        file: Its name in the folder of downloads.
        url: Its public address: http(s), file, or the path of a local file.
        sha1: Its SHA-1, 40 hex digits; None where none is published, and it cannot be checked.
    """

    file: str
    url: str
    sha1: str | None = None


class State(NamedTuple):
    """What is here of a file.

    Attributes:
        path: Where it is, or will be.
        status: `complete` (its checksum was not looked at), `partial` or `missing`.
        bytes: How many bytes are here.
    """

    path: Path
    status: Literal["complete", "partial", "missing"]
    bytes: int


def state(source: Source, downloads: Path) -> State:
    """What is here of a file, without reading it."""
    candidates = [downloads / source.file]
    if (local := _local(source.url)) is not None:
        candidates.append(local)
    for path in candidates:
        if path.is_file():
            return State(path, "complete", path.stat().st_size)
    part = _part(downloads / source.file)
    if part.is_file():
        return State(candidates[0], "partial", part.stat().st_size)
    return State(candidates[0], "missing", 0)


def fetch(
    sources: Sequence[Source],
    downloads: Path,
    *,
    mirrors: Sequence[str] = (),
    retries: int = 5,
    timeout: float = 30.0,
    pause: float = 1.0,
) -> list[Path]:
    """Get files, each checked by its SHA-1; what is here is used, what was begun is resumed.

    A local file, given by its path or a `file://` address, is used where it lies.

    Args:
        sources: The files.
        downloads: Folder that they are fetched to; made if missing. Two calls take turns in it.
        mirrors: Addresses or folders under which a file is looked for by its name, before its public address.
        retries: How often a broken transfer is taken up again without any progress.
        timeout: Seconds without an answer after which a transfer counts as broken.
        pause: Seconds before the first of them; each further one waits twice as long.

    Returns:
        Where the files are, in the order of the sources.

    Raises:
        UserError: Files cannot be had: all of them are named, with their addresses and checksums. Or a file is not the
            one that it should be, or the disk is full.
    """
    if not sources:
        return []
    _make_folder(downloads)
    paths: list[Path] = []
    failures: list[tuple[Source, list[str]]] = []
    with _turn(downloads):
        for source in sources:
            reasons: list[str] = []
            path = _here(source, downloads) or _from_anywhere(
                source, downloads, mirrors, reasons, retries=retries, timeout=timeout, pause=pause
            )
            if path is None:
                failures.append((source, reasons))
            else:
                paths.append(path)
    if failures:
        raise UserError(_told(failures, downloads))
    return paths


def _here(source: Source, downloads: Path) -> Path | None:
    """A file that was fetched, or put there by hand.

    Raises:
        UserError: It is another file.
    """
    path = downloads / source.file
    if not path.is_file():
        return None
    if (found := checksum(path)) != source.sha1 and source.sha1 is not None:
        raise UserError(
            f"{path} has the SHA-1 {found}, but {source.sha1} is expected: move it away and run this command again, or "
            "correct the sha1 in prepare.sources."
        )
    return path


def _from_anywhere(
    source: Source,
    downloads: Path,
    mirrors: Sequence[str],
    reasons: list[str],
    *,
    retries: int,
    timeout: float,
    pause: float,
) -> Path | None:
    """Try one address after the other; why each failed is added to the reasons."""
    path = downloads / source.file
    addresses = [f"{mirror.rstrip('/')}/{source.file}" for mirror in mirrors]
    for address in dict.fromkeys([*addresses, source.url]):
        if (local := _local(address)) is not None:
            if not local.is_file():
                reasons.append(f"there is no file {local}")
            elif source.sha1 is not None and (found := _digest(local)) != source.sha1:
                reasons.append(f"{local} has the SHA-1 {found}")
            else:
                return local
            continue
        begun = _part(path).is_file()
        try:
            resume(
                address, _part(path), name=source.file, known=source.sha1 is not None,
                retries=retries, timeout=timeout, pause=pause,
            )  # fmt: skip
            found = _digest(_part(path))
            if begun and source.sha1 not in (None, found):
                _part(path).unlink()  # what was here before may be at fault: once more, from the beginning
                resume(
                    address, _part(path), name=source.file, known=True, retries=retries, timeout=timeout, pause=pause
                )
                found = _digest(_part(path))
        except RefusedError as error:
            reasons.append(str(error))
            continue
        if source.sha1 not in (None, found):
            _part(path).unlink()
            reasons.append(f"{address} gave a file with the SHA-1 {found}")
            continue
        if source.sha1 is None:
            print(f"{source.file}: its SHA-1 is {found}; none is published that it could be compared with.")
        _part(path).replace(path)
        return path
    return None


def _told(failures: Sequence[tuple[Source, Sequence[str]]], downloads: Path) -> str:
    """All that could not be had, and what to do, in one message."""
    files = "; ".join(
        f"({number}) {source.file} from {source.url}, SHA-1 {source.sha1 or 'none published'} [{', '.join(reasons)}]"
        for number, (source, reasons) in enumerate(failures, start=1)
    )
    what = "This file" if len(failures) == 1 else f"These {len(failures)} files"
    it = "it" if len(failures) == 1 else "them"
    return (
        f"{what} could not be fetched: {files}. Fetch {it} on a machine with a network, put {it} into "
        f"{downloads.absolute()} and run this command again; or name another address by prepare.mirrors=[...]."
    )


def checksum(path: Path) -> str:
    """SHA-1 of a file; remembered beside it, so that gigabytes are read once as long as size and time stay."""
    note, stat = path.with_name(f".{path.name}.sha1"), path.stat()
    key = f"{stat.st_size} {stat.st_mtime_ns}"
    try:
        digest, known = note.read_text(encoding="ascii").split(" ", 1)
        if known == key:
            return digest
    except (OSError, ValueError):
        pass  # no note, or another one
    digest = _digest(path)
    with contextlib.suppress(OSError):  # in a folder that must not be written to: the next call reads the file again
        note.write_text(f"{digest} {key}", encoding="ascii")
    return digest


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _local(address: str) -> Path | None:
    """The path that an address means, if it is no http address."""
    parts = urlsplit(address)
    if parts.scheme in ("http", "https"):
        return None
    return Path(unquote(parts.path)) if parts.scheme == "file" else Path(address).expanduser()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be made ({error.strerror}): set prepare.downloads to another folder."
        ) from error


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Wait until no other process fetches to this folder."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another process fetches to {folder}: waiting for it", flush=True)
        lock.acquire()
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written to ({error.strerror}): set prepare.downloads to another folder."
        ) from error
    try:
        yield
    finally:
        lock.release()
