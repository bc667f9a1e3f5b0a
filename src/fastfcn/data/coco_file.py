"""A JSON file of COCO's layout: its images, categories and annotations, checked and kept small."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastfcn.data.decoding import fits
from fastfcn.data.pairing import Unpaired
from fastfcn.errors import UserError


class CocoImage(NamedTuple):
    """An image of the file.

    Attributes:
        id: As the annotations name it.
        file_name: Its path, from a folder that the file does not tell.
        size: (height, width) in pixels.
    """

    id: int
    file_name: str
    size: tuple[int, int]


class Annotation(NamedTuple):
    """A region of an image.

    Attributes:
        id: In the file.
        category: Id of its category.
        crowd: Whether it marks a group of things as one.
        segmentation: As it stands in the file.
    """

    id: Any
    category: int
    crowd: bool
    segmentation: Any


@dataclass(frozen=True)
class CocoFile:
    """What a file holds.

    The annotations lie image by image as JSON in one block of bytes: as Python's objects they would take ten times the
    memory, and each worker process would come to have a copy of its own.

    Attributes:
        path: Of the file.
        images: In the file's order.
        categories: Name by id, ordered by id.
        findings: What is wrong with single annotations, where that was not to be refused.
        labelled: Whether there are annotations; there are none for images of a test server.
    """

    path: Path
    images: tuple[CocoImage, ...]
    categories: Mapping[int, str]
    findings: tuple[Unpaired, ...]
    labelled: bool
    _block: bytes
    _ends: npt.NDArray[np.int64]

    def annotations(self, index: int) -> list[Annotation]:
        """Those of an image by its position, in the file's order."""
        begin, end = int(self._ends[index]), int(self._ends[index + 1])
        return [Annotation(*fields) for fields in json.loads(self._block[begin:end])]


def read(path: Path, *, strict: bool = True) -> CocoFile:
    """Read a file.

    Args:
        path: Of the JSON.
        strict: Refuse annotations of unknown categories; else they are left out and told in `findings`, as those of
            unknown images are.

    Raises:
        UserError: It is missing, no JSON of this layout, or contradicts itself.
    """
    content = _content(path)
    images = _images(content, path)
    categories = _categories(content, path)
    place = {image.id: index for index, image in enumerate(images)}
    findings: list[Unpaired] = []
    by_image: list[list[Annotation]] = [[] for _ in images]
    for number, entry in enumerate(_entries(content, "annotations", path) if "annotations" in content else ()):
        told = f"{path}: annotation {_id_of(entry, number)}"
        if not _is_whole(entry.get("image_id")) or entry["image_id"] not in place:
            finding = f"{told} belongs to the image {entry.get('image_id')!r}, which the file does not list."
            findings.append(Unpaired("mask without image", finding))
        elif not _is_whole(entry.get("category_id")) or entry["category_id"] not in categories:
            listed = ", ".join(map(str, categories))
            finding = (
                f"{told} is of the category {entry.get('category_id')!r}, which is none of the file's ({listed}): "
                "correct it, or add the category."
            )
            if strict:
                raise UserError(finding)
            findings.append(Unpaired("unknown label", finding))
        else:
            crowd = bool(entry.get("iscrowd", 0))
            fields = Annotation(_id_of(entry, number), entry["category_id"], crowd, entry.get("segmentation"))
            by_image[place[entry["image_id"]]].append(fields)
    blocks = [json.dumps(annotations, separators=(",", ":")).encode() for annotations in by_image]
    ends = np.cumsum([0, *map(len, blocks)])
    return CocoFile(
        path, images, categories, tuple(findings), "annotations" in content, b"".join(blocks), ends.astype(np.int64)
    )


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}): set data.dataset.annotations to the JSON file of this "
            "split."
        ) from error
    except (ValueError, RecursionError) as error:  # not UTF-8 is a ValueError too
        raise UserError(f"{path} is no JSON ({error}): export it again.") from error
    if not isinstance(content, dict) or not {"images", "categories"} <= set(content):
        raise UserError(
            f"{path} is not of COCO's layout, which has the entries images, annotations and categories: export the "
            'labels as "COCO instances" or "COCO segmentation".'
        )
    return content


def _entries(content: Mapping[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    entries = content[key]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path}: {key} is not a list of entries in braces: export it again.")
    return entries


def _images(content: Mapping[str, Any], path: Path) -> tuple[CocoImage, ...]:
    images: list[CocoImage] = []
    for number, entry in enumerate(_entries(content, "images", path)):
        told = f"{path}: image {_id_of(entry, number)}"
        name, size = entry.get("file_name"), (entry.get("height", 0), entry.get("width", 0))
        if not _is_whole(entry.get("id")) or not isinstance(name, str) or not name:
            raise UserError(f"{told} has no whole number as its id, or no file_name: export it again.")
        if not all(_is_whole(side) and side > 0 for side in size) or not fits(*size):
            raise UserError(
                f"{told} ({name}) has no height and width in pixels, or more than an image can have: correct them, or "
                "export it again."
            )
        # Tools on Windows write backslashes.
        images.append(CocoImage(entry["id"], name.replace("\\", "/"), (entry["height"], entry["width"])))
    if not images:
        raise UserError(f"{path} lists no images: add some, or choose another split.")
    for key, values in (("id", [each.id for each in images]), ("file_name", [each.file_name for each in images])):
        if (twice := _first_twice(values)) is not None:
            raise UserError(f"{path} lists two images of the {key} {twice!r}: give each its own.")
    return tuple(images)


def _categories(content: Mapping[str, Any], path: Path) -> dict[int, str]:
    found = [(entry.get("id"), entry.get("name")) for entry in _entries(content, "categories", path)]
    for number, name in found:
        if not _is_whole(number) or not isinstance(name, str) or not name.strip():
            raise UserError(f"{path}: the category {name!r} with the id {number!r} needs a whole number and a name.")
    for key, values in {"id": [number for number, _ in found], "name": [name for _, name in found]}.items():
        if (twice := _first_twice(values)) is not None:
            raise UserError(f"{path} has two categories of the {key} {twice!r}: give each its own.")
    if not found:
        raise UserError(f"{path} has no categories: add the classes' names to it.")
    return {number: str(name).strip() for number, name in sorted(found) if number is not None}


def _first_twice(values: Sequence[Any]) -> Any:
    seen: set[Any] = set()
    return next((value for value in values if value in seen or seen.add(value)), None)  # type: ignore[func-returns-value]


def _id_of(entry: Mapping[str, Any], number: int) -> Any:
    """The id, or where there is none the place in its list."""
    return entry.get("id", f"number {number + 1} of its list")


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)
