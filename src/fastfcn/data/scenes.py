"""The embedded data set: landscapes that the program draws itself, the same ones for the same seed."""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastfcn.data.scene_drawing import CLASS_NAMES, DRAWING_VERSION, draw_scene
from fastfcn.errors import UserError
from fastfcn.types import DataFacts, RawSample

log = logging.getLogger(__name__)

_SPLITS = ("train", "val", "test")
DEFAULT_COUNTS: Mapping[str, int] = {"train": 512, "val": 96, "test": 128}
Records = npt.NDArray[np.void]


class Scenes:
    """Stylised landscapes with water and land, things that stand in them, and thin structures.

    They are made so that the point of an upsampling module shows within minutes of training: a boat and a car look the
    same and only the region around them tells which it is, and poles, wires, branches and birds are two to seven pixels
    wide at 128 px, which a map of stride 32 loses.

    A scene depends on seed, split and index alone (and its sharpness on the size), not on the counts or the process.
    All scenes of a split are drawn when the data set is made and kept in one file per split, size and seed; later ones
    map this file into memory. A damaged file is drawn anew, a shorter one extended. Processes that start together each
    draw the same file; that is safe, and they do not wait for one another.

    Args:
        split: ``train``, ``val`` or ``test``.
        size: side of the images in pixels, 64 to 512.
        counts: images per split; a split that is not named has its default count.
        seed: chooses another set of scenes; 0 or more.
        cache_dir: folder of the files, made where it is missing; None keeps the scenes in memory alone.

    Raises:
        UserError: an unknown split, a size, count or seed out of range, or a folder that cannot be written.
    """

    facts: ClassVar[DataFacts] = DataFacts(
        name="scenes",
        class_names=CLASS_NAMES,
        palette=(
            (158, 206, 240),  # sky
            (142, 124, 160),  # mountain
            (46, 116, 182),  # water
            (150, 196, 98),  # grass
            (122, 118, 116),  # road
            (38, 108, 66),  # tree
            (250, 202, 62),  # boat
            (222, 70, 58),  # car
            (44, 46, 66),  # pole
            (140, 88, 48),  # branch
            (236, 104, 180),  # bird
        ),
        thin_classes=("pole", "branch", "bird"),
    )

    def __init__(
        self,
        split: str,
        *,
        size: int = 128,
        counts: Mapping[str, int] = DEFAULT_COUNTS,
        seed: int = 0,
        cache_dir: str | Path | None = None,
    ) -> None:
        if split not in _SPLITS:
            raise UserError(f"scenes have no split {split!r}: choose one of {', '.join(_SPLITS)}.")
        if not 64 <= size <= 512:
            raise UserError(f"the size of scenes is {size}: choose one from 64 to 512 (pixels).")
        if seed < 0:
            raise UserError(f"the seed of scenes is {seed}: choose 0 or more.")
        for name, count in counts.items():
            if name not in _SPLITS:
                raise UserError(f"counts of scenes name the split {name!r}: choose among {', '.join(_SPLITS)}.")
            if count < 1:
                raise UserError(f"counts of scenes give {count} images to {name!r}: give it at least 1.")
        self.split = split
        self.size = size
        self.seed = seed
        self._count = counts.get(split, DEFAULT_COUNTS[split])
        self._path = None if cache_dir is None else Path(cache_dir).expanduser() / _file_name(split, size, seed)
        self._records = self._prepare()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> RawSample:
        """Return scene ``index``: arrays that the caller may change."""
        if not 0 <= index < self._count:
            raise IndexError(f"scene {index} of {self._count}")
        record = self._records[index]
        return RawSample(
            image=np.array(record["image"]),
            mask=record["mask"].astype(np.int16),
            name=f"scenes/{self.split}/{index:05d}",
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the scenes that a worker process can map from the file itself."""
        return self.__dict__ | ({} if self._path is None else {"_records": None})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._records is None:
            self._records = self._prepare()

    def _prepare(self) -> Records:
        """Return the records of the split, drawing those that the cached file does not hold."""
        dtype = _record_dtype(self.size)
        cached = np.empty(0, dtype) if self._path is None else _read(self._path, dtype)
        usable = [_checksum(record) == record["checksum"] for record in cached[: self._count]]
        missing = self._count - sum(usable)
        if missing == 0:
            return cached
        log.info("Drawing %d %s scenes of %d px.", missing, self.split, self.size)
        if self._path is None:
            drawn = np.empty(self._count, dtype)
            for index in range(self._count):
                drawn[index] = self._draw(index)
            return drawn
        usable += [False] * (self._count - len(usable))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # A name of its own for each process, then one atomic rename: whoever reads the file sees a whole one, and
            # two processes that draw the same split at once write the same bytes.
            temporary = self._path.with_suffix(f".{uuid.uuid4().hex}.part")
            try:
                with temporary.open("wb") as file:
                    np.lib.format.write_array_header_1_0(file, _header(dtype, max(self._count, len(cached))))
                    for index, whole in enumerate(usable):
                        file.write((cached[index] if whole else self._draw(index)).tobytes())
                    file.write(cached[self._count :].tobytes())
                # Mapped before the rename: another process with smaller counts may put a shorter file in its place.
                records = _read(temporary, dtype)
                os.replace(temporary, self._path)  # noqa: PTH105 - the idiom by its name
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"the cache_dir {str(self._path.parent)!r} of scenes cannot be written ({error.strerror}): "
                "choose another folder, or null to keep the scenes in memory."
            ) from error
        return records

    def _draw(self, index: int) -> np.void:
        """Draw one scene. The spawn key gives each split and index a random stream of its own."""
        seed = np.random.SeedSequence(self.seed, spawn_key=(_SPLITS.index(self.split), index))
        record: np.void = np.zeros(1, _record_dtype(self.size))[0]
        record["image"], record["mask"] = draw_scene(seed, size=self.size)
        record["checksum"] = _checksum(record)
        return record


def _file_name(split: str, size: int, seed: int) -> str:
    """Return the name of a split's file, another one whenever its pixels would be others."""
    version = hashlib.sha256(f"{DRAWING_VERSION} {seed} {size}".encode()).hexdigest()[:12]
    return f"{split}-{size}px-seed{seed}-{version}.npy"


def _record_dtype(size: int) -> np.dtype[np.void]:
    """Return the layout of one scene in the file; the checksum tells a whole record from a damaged one."""
    return np.dtype([("image", np.uint8, (size, size, 3)), ("mask", np.uint8, (size, size)), ("checksum", np.uint32)])


def _checksum(record: np.void) -> int:
    return zlib.crc32(record["mask"].tobytes(), zlib.crc32(record["image"].tobytes()))


def _header(dtype: np.dtype[np.void], count: int) -> dict[str, Any]:
    """Return the header of an ``.npy`` file of records, so that they can be written one by one."""
    return {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}


def _read(path: Path, dtype: np.dtype[np.void]) -> Records:
    """Map a file of records into memory; one that is missing, cut short or no such file gives no records."""
    try:
        records = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError, SyntaxError, TypeError) as error:
        if not isinstance(error, FileNotFoundError):
            log.warning("%s is damaged and will be drawn anew (%s).", path, error)
        return np.empty(0, dtype)
    return records if records.dtype == dtype and records.ndim == 1 else np.empty(0, dtype)
