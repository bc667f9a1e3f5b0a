"""What a finished preparation leaves: a file that says what is there, written last."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from fastfcn.preparation import disk

FILE = "prepared.json"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A prepared data set.

    Attributes:
        dataset: Its short name.
        counts: Images of each split.
        sources: SHA-1 of each file that it was made from, by name; None: none is published.
        fingerprint: SHA-256 over paths and sizes of the images and paths and contents of the labels, 64 hex digits:
            the same for the same data, wherever they lie and however they were fetched.
        version: Of this file's layout.
    """

    dataset: str
    counts: Mapping[str, int]
    sources: Mapping[str, str | None]
    fingerprint: str
    version: int = VERSION


def read(root: Path) -> Prepared | None:
    """What was prepared in a folder; None if nothing was, or its file is damaged or of another version."""
    try:
        content = json.loads((root / FILE).read_text(encoding="utf-8"))
        found = Prepared(**content)
    except (OSError, ValueError, TypeError):
        return None
    return found if found.version == VERSION else None


def write(
    root: Path,
    *,
    dataset: str,
    counts: Mapping[str, int],
    sources: Mapping[str, str | None],
    images: Iterable[Path],
    labels: Iterable[Path],
) -> Prepared:
    """Compute the fingerprint and write the file.

    Args:
        root: Folder of the data set.
        dataset: Its short name.
        counts: Images of each split.
        sources: SHA-1 of each file that it was made from, by name.
        images: The images, under the root; their sizes count, for their archive was checked.
        labels: Masks and lists, under the root; their contents count.
    """
    digest = hashlib.sha256()
    with ThreadPoolExecutor() as pool:
        for kind, paths, describe in (("image", sorted(images), _size), ("label", sorted(labels), _content)):
            for path, description in zip(paths, pool.map(describe, paths), strict=True):
                digest.update(f"{kind} {path.relative_to(root).as_posix()} {description}\n".encode())
    prepared = Prepared(
        dataset=dataset, counts=dict(counts), sources=dict(sources), fingerprint=digest.hexdigest()
    )  # fmt: skip
    temporary = root / f".{FILE}.{os.getpid()}"
    try:
        with disk.writing(root / FILE, kept="everything but this file is there"):
            temporary.write_text(json.dumps(asdict(prepared), indent=2) + "\n", encoding="utf-8")
            temporary.replace(root / FILE)
    finally:
        temporary.unlink(missing_ok=True)
    return prepared


def _size(path: Path) -> str:
    return str(path.stat().st_size)


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
