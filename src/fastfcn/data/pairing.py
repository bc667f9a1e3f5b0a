"""Which mask belongs to which image: the splits of a data set on disk, by folders or by list files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from fastfcn.errors import UserError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
#: Where the list file of a split is looked for, from the root; the first found counts.
LIST_FOLDERS = ("", "splits", "ImageSets", "ImageSets/Segmentation")


class Pair(NamedTuple):
    """An image file with its mask's.

    Attributes:
        name: Unique in its split: the path without suffix, from the folder that holds the split's images.
        image: Path of the image.
        mask: Path of the mask; None where nothing is known of the image.
    """

    name: str
    image: Path
    mask: Path | None


class Unpaired(NamedTuple):
    """A file, or an annotation, that has no partner.

    Attributes:
        kind: What is wrong.
        text: A sentence that names the file.
    """

    kind: Literal["missing image", "missing mask", "mask without image", "unknown label"]
    text: str


def on_disk(split: str, splits: Mapping[str, str] | None) -> str:
    """What a split is called on disk.

    Args:
        split: `train`, `val` or `test`.
        splits: Other names on disk, for those that have one.

    Raises:
        UserError: The split, or one of those renamed, is none of the three.
    """
    known = {"train": "train", "val": "val", "test": "test"}
    for key in (split, *(splits or ())):
        if key not in known:
            where = "" if key == split else "data.dataset.splits: "
            raise UserError(f"{where}{key!r} is no split: choose from {', '.join(known)}.")
    return {**known, **(splits or {})}[split]


def pair(
    root: Path, *, image_dir: str, mask_dir: str, split: str, findings: list[Unpaired] | None = None
) -> list[Pair]:
    """The samples of a split, in order of the names or of the list file.

    Args:
        root: The data set's folder.
        image_dir: Folder of the images under `root`.
        mask_dir: Folder of the masks under `root`.
        split: What the split is called on disk: a folder in both or, where there is none, a list file.
        findings: Where given, what has no partner is left out and told here: images without mask, masks without
            image, and images that a list file names but that are not there.

    Raises:
        UserError: The split is missing or empty, a list file names what is not there, or an image has no mask.
    """
    folder = Path(split)
    if (root / image_dir / folder).is_dir():
        images = _files(root / image_dir / folder, IMAGE_SUFFIXES)
        names = sorted(images)
        origin = root / image_dir / folder
    else:
        lists = [root / place / f"{split}.txt" for place in LIST_FOLDERS]
        origin = next((path for path in lists if path.is_file()), lists[0])
        if not origin.is_file():
            raise UserError(
                f"{root} has no split {split!r}: make the folder {root / image_dir / folder} or the list file "
                f"{origin}, or say in data.dataset.splits what it is called."
            )
        folder = Path()
        images = _files(root / image_dir, IMAGE_SUFFIXES)
        entries = {line.strip(): _listed(line.strip(), images, image_dir) for line in read_lines(origin)}
        names = [name for line in read_lines(origin) if (name := entries[line.strip()]) is not None]
        for entry in (entry for entry, name in entries.items() if name is None):
            text = f"{origin} lists {entry!r}, but there is no such image in {image_dir}: add it or take out the line."
            if findings is None:
                raise UserError(text)
            findings.append(Unpaired("missing image", text))
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"{origin} lists {twice!r} twice: list each image once.")
    if not names:
        raise UserError(
            f"{origin} holds no image: add some ({', '.join(sorted(IMAGE_SUFFIXES))}) or choose another split."
        )

    masks = _files(root / mask_dir / folder, frozenset({".png"}))
    missing = [name for name in names if name not in masks]
    if findings is not None:
        places = {name: root / mask_dir / folder / f"{name}.png" for name in missing}
        findings += [Unpaired("missing mask", f"{images[name]} has no mask {places[name]}.") for name in missing]
        if folder.parts:  # of a list file's split, the other masks belong to other splits
            lonely = [masks[name] for name in masks if name not in images]
            findings += [Unpaired("mask without image", f"{path} has no image.") for path in lonely]
        return [Pair(name, images[name], masks[name]) for name in names if name in masks]
    if missing:
        raise UserError(
            f"{images[missing[0]]} has no mask {root / mask_dir / folder / missing[0]}.png ({len(missing)} of "
            f"{len(names)} images have none): add the masks or take the images out of the split."
        )
    return [Pair(name, images[name], masks[name]) for name in names]


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank.

    Raises:
        UserError: The file cannot be read as UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text ({error}): correct the file.") from error
    return [line for line in text.splitlines() if line.strip()]


def _files(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    """The files of these kinds below a folder, by their relative path without suffix; hidden ones are left out."""
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in files:
            raise UserError(f"{files[name]} and {path} differ in nothing but the suffix: rename or remove one of them.")
        files[name] = path
    return files


def _listed(entry: str, images: Mapping[str, Path], image_dir: str) -> str | None:
    """The name of the image that a list file's line means: with or without suffix, from `root` or the image folder."""
    path = Path(entry)
    bare = path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path
    for candidate in (path, bare):
        for name in (candidate, candidate.relative_to(image_dir) if candidate.is_relative_to(image_dir) else candidate):
            if name.as_posix() in images:
                return name.as_posix()
    return None
