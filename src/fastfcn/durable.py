"""Checkpoint files that a crash does not damage: written aside, flushed to the disk, renamed, with a checksum beside.

Beside ``last.ckpt`` lies ``last.ckpt.sha256``, which ``sha256sum --check`` reads. A file and its checksum cannot be
replaced in one step; so while a file is replaced its checksum's file holds two lines, the new one and that of the file
before, and whichever of the two a crash leaves is known.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

import torch
from pytorch_lightning.plugins import TorchCheckpointIO
from typing_extensions import override

from fastfcn.errors import UserError

#: In ``storage_options``: where the file that is replaced is kept.
KEEP = "keep"

#: How the name of a file ends that is being written.
PARTIAL = ".partial"


class DurableCheckpointIO(TorchCheckpointIO):
    """Lightning's plugin that writes checkpoints; a reader finds the file before or the new one, whole."""

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: what is written, by ``torch.save``.
            path: of the file; its folder is made if missing.
            storage_options: ``{"keep": path}`` keeps the file that is replaced, if there is one, under another name.

        Raises:
            UserError: the disk is full, or failed; the file before is as it was.
        """
        write(checkpoint, Path(path), keep=(storage_options or {}).get(KEEP))

    @override
    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint, and its checksum."""
        super().remove_checkpoint(path)
        checksum_file(Path(path)).unlink(missing_ok=True)


def write(checkpoint: Any, path: Path, *, keep: str | os.PathLike[str] | None = None) -> None:
    """Write a file of torch.save; see DurableCheckpointIO."""
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path, keep)
        with partial.open("wb") as file:
            hashing = _Hashing(file)
            torch.save(checkpoint, cast("IO[bytes]", hashing))
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            _keep(path, Path(keep))
        with _announced(path, hashing.digest()):
            partial.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        # torch turns what a write raised into a RuntimeError of its own.
        cause = error if isinstance(error, OSError) else error.__cause__ or error.__context__
        with contextlib.suppress(OSError):
            _remove_abandoned(path, keep)
        if not isinstance(cause, OSError):
            raise
        raise UserError(
            f"{path} could not be written ({cause.strerror or cause}), the checkpoint before is whole: see to "
            "the disk, and go on by resume=auto."
        ) from error


def adopt(path: Path, name: Path, *, keep: Path) -> None:
    """Give a file another name too, and what had that name before the name to keep, where it is whole."""
    if name.exists() and damage(name) is None:
        _keep(name, keep)
    _keep(path, name)
    _sync_folder(name.parent)


def also_known_as(path: Path, name: Path) -> None:
    """Give a file a second name, and its checksum: what replaces it under the first one leaves it there."""
    _keep(path, name)
    _sync_folder(name.parent)


def checksum_file(path: Path) -> Path:
    """Where the checksum of a file is kept."""
    return path.with_name(f"{path.name}.sha256")


def damage(path: Path) -> str | None:
    """What shows that a file is not what was written, by its checksum or by those inside; None where nothing does."""
    if path.stat().st_size == 0:
        return "it is empty"
    known = _known(path)
    if known:
        told = f"its checksum is not that in {checksum_file(path).name}; remove that if you changed it"
        return None if _digest(path) in known else told
    try:
        if not zipfile.is_zipfile(path):
            return None  # torch's format of old; what reads it will say
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None if damaged is None else f"the checksum of {damaged} in it is another"


class _Hashing:
    """A file to write to that knows the checksum of what was written; torch.save writes from front to back."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def digest(self) -> str:
        return self._hash.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _known(path: Path) -> list[str]:
    """The checksums that a file may have; none where there is no file of them."""
    try:
        lines = checksum_file(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
    return [line.split()[0] for line in lines if line.split()]


def _keep(path: Path, kept: Path) -> None:
    """Give a file a second name, in place of what had it before."""
    known = _known(path)
    partial = kept.with_name(f"{kept.name}.{os.getpid()}{PARTIAL}")
    partial.unlink(missing_ok=True)
    try:
        os.link(path, partial)
    except OSError:  # a file system without links
        with path.open("rb") as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
    with _announced(kept, *known):
        partial.replace(kept)
        partial.unlink(missing_ok=True)  # two names of one file are not renamed to each other


@contextlib.contextmanager
def _announced(path: Path, *new: str) -> Iterator[None]:
    """Let a file's checksums be those before and the new ones while it is replaced, and the new ones afterwards."""
    before = _known(path) or ([_digest(path)] if path.exists() else [])
    _write_checksums(path, [*new, *before])
    yield
    _write_checksums(path, new)


def _write_checksums(path: Path, digests: Iterable[str]) -> None:
    target = checksum_file(path)
    lines = "".join(f"{digest}  {path.name}\n" for digest in dict.fromkeys(digests))
    if not lines:  # of a file that had none
        target.unlink(missing_ok=True)
        return
    partial = target.with_name(f"{target.name}.{os.getpid()}{PARTIAL}")
    with partial.open("w", encoding="ascii") as file:
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)


def _sync_folder(folder: Path) -> None:
    """Make renames last; where a folder cannot be opened (Windows) the system does so by itself."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_abandoned(*paths: str | os.PathLike[str] | None) -> None:
    """Remove what was begun of these files and their checksums, by killed processes too: it would fill the disk."""
    for path in (Path(each) for each in paths if each is not None):
        for abandoned in path.parent.glob(f"{path.name}.*{PARTIAL}"):
            abandoned.unlink(missing_ok=True)
