"""What there is to segment: files, folders, globs, file:// URLs, cameras and standard input."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Literal, NamedTuple

from fastfcn.data.pairing import IMAGE_SUFFIXES
from fastfcn.errors import UserError
from fastfcn.prediction.images import local_path
from fastfcn.prediction.record import RECORD_FILE

#: Files that are taken for videos.
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"})

#: What stands for standard input, and as `out` for standard output.
STANDARD = "-"

Kind = Literal["image", "video"]


class Item(NamedTuple):
    """A file to segment.

    Attributes:
        path: Of the file.
        name: Its path from the folder that was given, without suffix where that is unique; with slashes.
        kind: What it is.
    """

    path: Path
    name: str
    kind: Kind


def camera(place: str) -> int | None:
    """The number of the camera that `webcam` or `webcam:N` stands for; None if it stands for none.

    Raises:
        UserError: What follows the colon is no number.
    """
    if place != "webcam" and not place.startswith("webcam:"):
        return None
    number = place.partition(":")[2] or "0"
    if not re.fullmatch(r"\d{1,3}", number):
        raise UserError(f"input={place}: give the number of the camera, webcam:0 for the first.")
    return int(number)


def find(places: Sequence[str], *, out: Path | None) -> list[Item]:
    """Every image and video of some files, folders, globs and file:// URLs, each once.

    Args:
        places: Which.
        out: Where predictions go; what lies there is left out, as is what predictions before have left elsewhere.

    Raises:
        UserError: A place does not exist, or has no image and no video.
    """
    found: dict[Path, str] = {}
    for place in places:
        more = dict(_files(place, out))
        if not more:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
            raise UserError(f"input={place} holds no image and no video ({kinds}): name another folder or a file.")
        for path, name in more.items():
            found.setdefault(path, name)
    names = unique_names(list(found.values()))
    return [
        # By the name that was given: what a link leads to may have another.
        Item(path, name, "video" if Path(given).suffix.lower() in VIDEO_SUFFIXES else "image")
        for (path, given), name in zip(found.items(), names, strict=True)
    ]


def unique_names(paths: Sequence[str]) -> list[str]:
    """Names for what is written of files: their relative paths without suffix, with it where two would be the same.

    Names that differ in nothing but capital letters count as the same, for some disks do not tell them apart.
    """
    names = [_without_suffix(path) for path in paths]
    for longer in (paths, [f"{path}~{number}" for number, path in enumerate(paths, start=1)]):
        while doubles := _doubles(names, longer):
            for index in doubles:
                names[index] = longer[index]
    return names


def _doubles(names: Sequence[str], longer: Sequence[str]) -> list[int]:
    """Which names are not unique and can still be made longer."""
    counts = Counter(name.casefold() for name in names)
    return [i for i, name in enumerate(names) if counts[name.casefold()] > 1 and name != longer[i] and "~" not in name]


def _without_suffix(path: str) -> str:
    root, suffix = os.path.splitext(path)  # noqa: PTH122 - of a text with slashes, on every system
    return root if suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES else path


def _files(place: str, out: Path | None) -> Iterator[tuple[Path, str]]:
    """Paths of a place, and what they are called from its root on."""
    path = local_path(place).expanduser()
    if path.is_dir():
        for file in sorted(_below(path, out)):
            yield file.resolve(), file.relative_to(path).as_posix()
    elif path.exists():
        yield path.resolve(), path.name
    elif glob.has_magic(str(path)) and "://" not in place:
        yield from _matching(path, out)
    else:
        raise UserError(f"input={place}: there is no such file or folder.")


def _matching(pattern: Path, out: Path | None) -> Iterator[tuple[Path, str]]:
    """The images and videos that a pattern matches, and those in the folders that it matches; no hidden ones."""
    root = Path(*takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    for path in sorted(root.glob(pattern.relative_to(root).as_posix())):
        if any(part.startswith(".") for part in path.relative_to(root).parts):
            continue
        for file in sorted(_below(path, out)) if path.is_dir() else _wanted([path], out):
            yield file.resolve(), file.relative_to(root).as_posix()


def _below(folder: Path, out: Path | None) -> Iterator[Path]:
    """The images and videos in a folder and below; hidden ones and predictions are left out."""
    for at, folders, files in os.walk(folder):
        here = Path(at)
        folders[:] = [
            name for name in folders if not name.startswith(".") and not (here / name / RECORD_FILE).is_file()
        ]
        yield from _wanted((here / name for name in files if not name.startswith(".")), out)


def _wanted(paths: Iterable[Path], out: Path | None) -> Iterator[Path]:
    for path in paths:
        if path.suffix.lower() not in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
            continue
        if out is None or not path.resolve().is_relative_to(out.resolve()):
            yield path
