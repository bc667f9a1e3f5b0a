"""Files that are there whole or not at all: written under another name beside, then renamed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fastfcn.errors import UserError

#: How the name ends under which a file is written, and which a killed process leaves.
PARTIAL = ".partial"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the name to write a file under; whoever looks sees the file before or the new one, never half of one.

    Args:
        path: the file; its folder is made. It stays as it was where writing fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def check_folder(folder: Path, *, key: str) -> None:
    """See that files can be written to a folder, and leave nothing there that was not there before.

    Args:
        folder: need not exist yet.
        key: by which it is chosen, for the message.

    Raises:
        UserError: it cannot be made, or not written to.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{key}={folder} cannot be written to ({error.strerror}): choose a folder of yours that has room."
        ) from error
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()
