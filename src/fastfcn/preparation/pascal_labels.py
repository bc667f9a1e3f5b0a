"""The labels of Pascal Context in the three forms in which they are spread: one JSON, `.mat` files, PNG masks."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat

from fastfcn.data.coco_regions import region
from fastfcn.data.decoding import opened
from fastfcn.data.pascal_context import CATEGORY_IDS
from fastfcn.errors import UserError
from fastfcn.types import UInt8Array

#: The forms.
KINDS = ("json", "mat", "png")

#: What may stand in masks: classes 0 to 59, or ids of the 459 categories.
MASK_IDS = (60, 459)

NUM_CLASSES = len(CATEGORY_IDS)  # with the background

#: (65536,): from an id among the 459 categories to the class 0 to 59. What is none of the sixty is background.
CLASS_OF_CATEGORY = np.zeros(1 << 16, dtype=np.uint8)
CLASS_OF_CATEGORY[list(CATEGORY_IDS)] = np.arange(NUM_CLASSES)


@dataclass(frozen=True)
class Regions:
    """The annotations of one image in the JSON.

    Attributes:
        stem: The image's name without suffix.
        size: (H, W) in pixels.
        regions: Class and run-length code of each annotation, in order.
    """

    stem: str
    size: tuple[int, int]
    regions: tuple[tuple[int, Mapping[str, Any]], ...]

    def read(self) -> UInt8Array:
        """Draw the regions, each over those before it: (H, W) uint8 of classes 0 to 59, 0 where there is none.

        Raises:
            UserError: A region has another size, or its code is damaged.
        """
        mask = np.zeros(self.size, dtype=np.uint8)
        for index, code in self.regions:
            try:
                found = region(code, self.size)
            except ValueError as error:
                raise UserError(
                    f"An annotation of {self.stem} {error}: the JSON of the labels is damaged, fetch it again."
                ) from error
            np.copyto(mask, np.uint8(index), where=found.pixels())
        return mask


@dataclass(frozen=True)
class StoredMap:
    """A label map that is a file of its own.

    Attributes:
        path: Where it lies; behind the archive's own path, if it lies in one.
        data: Its content; None: it is read when it is needed.
        ids: 60 where the values are classes, 459 where they are ids of categories.
    """

    path: Path
    data: bytes | None
    ids: int

    def read(self) -> UInt8Array:
        """Decode the file: (H, W) uint8 of classes 0 to 59.

        Raises:
            UserError: It is damaged, or a value is no class.
        """
        data = self.path.read_bytes() if self.data is None else self.data
        values = self._mat(data) if self.path.suffix.lower() == ".mat" else self._png(data)
        if values.ndim != 2 or values.dtype.kind not in "ui" or values.min(initial=0) < 0:
            raise UserError(f"{self.path} does not hold one whole number per pixel: restore the file.")
        if self.ids == 459:
            classes: UInt8Array = CLASS_OF_CATEGORY[values]
            return classes
        if values.max(initial=0) >= NUM_CLASSES:
            raise UserError(
                f"{self.path} holds the value {values.max()}, which is no class from 0 to {NUM_CLASSES - 1}: choose "
                "prepare.png_ids=459 if the masks hold ids of the 459 categories, or correct the mask."
            )
        return values.astype(np.uint8)

    def _mat(self, data: bytes) -> npt.NDArray[np.integer]:
        try:
            return np.asarray(loadmat(io.BytesIO(data))["LabelMap"])
        except Exception as error:  # scipy raises what its parser stumbles over: a dozen kinds
            raise UserError(
                f"{self.path} cannot be read as a MATLAB file with the array LabelMap ({error}): restore the file."
            ) from error

    def _png(self, data: bytes) -> npt.NDArray[np.integer]:
        with opened(data, self.path) as file:
            return np.asarray(file)


class JsonLabels:
    """`trainval_merged.json`: images with their split, annotations as run-length codes.

    Args:
        path: The file.

    Raises:
        UserError: It is no such file.
    """

    kind: Literal["json"] = "json"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identity = self.sha1 = _sha1_of(path)
        try:
            with path.open(encoding="utf-8") as file:
                content = json.load(file)
            images = {image["image_id"]: image for image in content["images"]}
            regions: defaultdict[object, list[tuple[int, Any]]] = defaultdict(list)
            self.unknown: Counter[int] = Counter()
            for region in content["annos_segmentation"]:
                category = region["category_id"]
                self.unknown[category] += category not in CATEGORY_IDS
                regions[region["image_id"]].append((int(CLASS_OF_CATEGORY[category]), region["segmentation"]))
            self._images: dict[str, Regions] = {}
            self.splits: dict[str, list[str]] | None = {"train": [], "val": []}
            for key, image in images.items():
                if image["phase"] in self.splits:
                    stem = PurePosixPath(image["file_name"]).stem
                    self._images[stem] = Regions(stem, (image["height"], image["width"]), tuple(regions[key]))
                    self.splits[image["phase"]].append(stem)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise UserError(
                f"{path} is not the JSON of Pascal Context's labels ({type(error).__name__}: {error}): fetch it again."
            ) from error

    def maps(self, stems: Collection[str]) -> Iterator[tuple[str, Regions]]:
        """Stem and labels of these images; what is not there is left out."""
        return ((stem, labels) for stem, labels in self._images.items() if stem in stems)

    @property
    def notes(self) -> list[str]:
        """What is odd about the content, one sentence each."""
        if not (count := self.unknown.total()):
            return []
        ids = sorted(category for category, found in self.unknown.items() if found)
        shown = ", ".join(map(str, ids[:8])) + (", ..." if len(ids) > 8 else "")
        return [f"{count} annotations are of categories that are none of the sixty ({shown}): drawn as background."]


class StoredLabels:
    """One file per image, `<stem>.mat` or `<stem>.png`, in a folder or an archive.

    Nothing of an archive is written to disk.

    Args:
        path: Folder, zip or tar.
        kind: `mat` or `png`.
        ids: 60 where the values are classes, 459 where they are ids of categories.

    Raises:
        UserError: There is no such folder or archive.
    """

    splits = None
    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, kind: Literal["mat", "png"], *, ids: int = 459) -> None:
        assert ids in MASK_IDS
        if not path.exists():
            raise UserError(f"{path} does not exist: name the folder or archive of the {kind} files of the labels.")
        self.path, self.kind, self._ids = path, kind, ids
        self.sha1 = None if path.is_dir() else _sha1_of(path)
        content = f"{kind} {ids} {self.sha1 or self._listing()}"
        self.identity = hashlib.sha1(content.encode(), usedforsecurity=False).hexdigest()

    def maps(self, stems: Collection[str]) -> Iterator[tuple[str, StoredMap]]:
        """Stem and labels of these images, in the order in which they are stored; what is not there is left out.

        Raises:
            UserError: The archive is damaged, or holds two files of one stem.
        """
        seen: dict[str, Path] = {}
        for path, data in self._files(stems):
            if path.stem in seen:
                raise UserError(f"{seen[path.stem]} and {path} have the same name: keep one folder of masks only.")
            seen[path.stem] = path
            yield path.stem, StoredMap(path, data, self._ids)

    def _files(self, stems: Collection[str]) -> Iterator[tuple[Path, bytes | None]]:
        def wanted(name: str) -> bool:
            path = PurePosixPath(name)
            return path.suffix.lower() == f".{self.kind}" and path.stem in stems

        if self.path.is_dir():
            yield from ((path, None) for path in sorted(self.path.rglob("*.*")) if wanted(path.name))
            return
        try:
            if zipfile.is_zipfile(self.path):
                with zipfile.ZipFile(self.path) as zipped:
                    yield from ((self.path / name, zipped.read(name)) for name in zipped.namelist() if wanted(name))
                return
            with tarfile.open(self.path) as tar:
                for member in tar:
                    if member.isfile() and wanted(member.name) and (file := tar.extractfile(member)):
                        yield self.path / member.name, file.read()
        except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, ValueError) as error:
            raise UserError(f"{self.path} is damaged ({error}): delete it and fetch it again.") from error

    def _listing(self) -> str:
        """Names, sizes and times of a folder's files."""
        files = (path for path in sorted(self.path.rglob("*.*")) if path.suffix.lower() == f".{self.kind}")
        listed = [(path.name, path.stat()) for path in files]
        return " ".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in listed)


Labels = JsonLabels | StoredLabels


def _sha1_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()
