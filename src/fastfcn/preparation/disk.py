"""Room on the disk: asked for before it is needed, and one sentence where it runs out all the same."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastfcn.errors import UserError

#: Of a full disk, a full quota, a file-size limit.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def require(folder: Path, needed: int, *, what: str) -> None:
    """See that a folder's disk has room.

    Args:
        folder: It exists.
        needed: Bytes.
        what: What they are for.

    Raises:
        UserError: There is less.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{what} needs {needed / 1e9:.2f} GB in {folder}, where {free / 1e9:.2f} GB are free: make room, or choose "
            "another folder by paths.data_dir=..."
        )


@contextmanager
def writing(path: Path, *, kept: str) -> Iterator[None]:
    """Tell a write that fails in one sentence.

    Args:
        path: What is written.
        kept: What is left of it, for the sentence.

    Raises:
        UserError: The disk is full, or the folder must not be written to.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise UserError(
                f"{path} cannot be written, the disk is full ({error.strerror}): make room and run this command again; "
                f"{kept}."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(
                f"{path} cannot be written ({error.strerror}): correct the rights, or choose another folder by "
                "paths.data_dir=..."
            ) from error
        raise
