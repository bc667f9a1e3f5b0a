"""A data set on disk: a folder of images and a folder of masks, its splits given by folders or by list files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fastfcn.data.pairing import on_disk, pair, read_lines
from fastfcn.data.palette import (
    Palette,
    checked_color,
    checked_palette,
    decode_colors,
    distinct_colors,
    embedded_palette,
)
from fastfcn.errors import UserError
from fastfcn.types import IGNORE_INDEX, DataFacts, Int16Array, RawSample, UInt8Array

_UNKNOWN = IGNORE_INDEX - 1  # what a mask value stands for that no class and no ignore_index explains


class FolderDataset:
    """Images under `root/images`, masks of the same name under `root/masks`.

    A split is a folder in both (`images/train/a.jpg`, `masks/train/a.png`; sub-folders may follow) or, where there is
    no such folder, a list file (`train.txt`, also under `splits/` or `ImageSets/`) of one stem or relative path per
    line.

    Images are turned as their EXIF orientation says, for this is how annotation tools show them; grey, palette and
    16-bit ones become 8-bit RGB, an alpha channel is dropped. Masks are PNG files of class ids: 8 or 16-bit grey
    values, palette indices, or, where a palette is known, its RGB colours.

    The pairing of images and masks is checked here; what needs a file to be read is checked when a sample is.

    Args:
        split: `train`, `val` or `test`.
        root: The data set's folder.
        class_names: One name per class id, or a file of one name per line (looked for as given, then under `root`);
            None is `root/classes.txt`.
        ignore_index: The value of mask pixels that count nowhere; None if there is none.
        palette: One (R, G, B) of 0..255 per class. None takes the one inside the split's first mask if that is a
            palette PNG, else one of well-separated colours.
        ignore_color: The (R, G, B) in RGB masks of pixels that count nowhere.
        thin_classes: Names of the classes made of thin structures.
        name: The data set's short name; None is the root folder's.
        image_dir: Folder of the images under `root`.
        mask_dir: Folder of the masks under `root`.
        splits: What `train`, `val` and `test` are called on disk, where it is something else.
        reduce_zero_label: Mask value 0 counts nowhere and class ids begin at 1, as in ADE20K.

    Raises:
        UserError: A folder, split, class name or mask is missing, or an argument contradicts another.
    """

    def __init__(
        self,
        split: str,
        *,
        root: str | Path,
        class_names: Sequence[str] | str | Path | None = None,
        ignore_index: int | None = 255,
        palette: Sequence[Sequence[int]] | None = None,
        ignore_color: Sequence[int] | None = None,
        thin_classes: Sequence[str] = (),
        name: str | None = None,
        image_dir: str = "images",
        mask_dir: str = "masks",
        splits: Mapping[str, str] | None = None,
        reduce_zero_label: bool = False,
    ) -> None:
        self._root = Path(root)
        if not self._root.is_dir():
            raise UserError(f"data.dataset.root={self._root} does not exist: set it to the folder of the data set.")
        names = _class_names(class_names, self._root)
        if unknown := [thin for thin in thin_classes if thin not in names]:
            raise UserError(
                f"data.dataset.thin_classes names {unknown[0]!r}, which is not among the classes {', '.join(names)}."
            )
        self._samples = pair(self._root, image_dir=image_dir, mask_dir=mask_dir, split=on_disk(split, splits))

        first = int(reduce_zero_label)  # the mask value of class 0
        if palette is not None:
            known: Palette | None = checked_palette(palette, len(names))
        else:
            with _opened(self._samples[0].mask) as file:
                known = embedded_palette(file, len(names), first=first)
        self.facts = DataFacts(
            name=name or self._root.resolve().name,
            class_names=names,
            palette=known or distinct_colors(len(names)),
            thin_classes=tuple(thin_classes),
        )
        self._ignore_index = ignore_index
        self._id_of_value = _id_of_value(len(names), ignore_index, first)
        self._id_of_color = {color: i for i, color in enumerate(known or ())}
        if ignore_color is not None:
            self._id_of_color[checked_color(ignore_color, key="data.dataset.ignore_color")] = IGNORE_INDEX

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> RawSample:
        """Read an image and its mask.

        Raises:
            UserError: A file cannot be read, the two differ in size, or the mask holds a value that is no class.
        """
        name, image_path, mask_path = self._samples[index]
        image, mask = _read_image(image_path), self._read_mask(mask_path)
        if image.shape[:2] != mask.shape:
            raise UserError(
                f"{mask_path} is {mask.shape[1]} x {mask.shape[0]} pixels, but {image_path} is {image.shape[1]} x "
                f"{image.shape[0]} (turned as its EXIF orientation says): make a mask of the image's size."
            )
        return RawSample(image=image, mask=mask, name=name)

    def _read_mask(self, path: Path) -> Int16Array:
        """Class ids, (H, W) int16."""
        with _opened(path) as file:
            mode = file.mode
            if mode in ("RGB", "RGBA"):
                return decode_colors(np.asarray(file.convert("RGB")), self._id_of_color, path=path)
            values = np.asarray(file).astype(np.int32)
        if values.ndim != 2 or mode == "F":
            raise UserError(f"{path} has pixels of kind {mode}: save the mask as a grey or palette PNG of class ids.")
        mask: Int16Array = self._id_of_value[values.clip(0, len(self._id_of_value) - 1)]
        wrong = values[(mask == _UNKNOWN) | (values < 0)]
        if wrong.size:
            raise UserError(
                f"{path} holds the value {wrong[0]}, which is none of the {self.facts.num_classes} classes nor "
                f"data.dataset.ignore_index={self._ignore_index}: correct the mask, data.dataset.class_names or "
                "data.dataset.ignore_index."
            )
        return mask


def _class_names(given: Sequence[str] | str | Path | None, root: Path) -> tuple[str, ...]:
    if given is None or isinstance(given, str | Path):
        path = root / "classes.txt" if given is None else Path(given)
        path = path if path.is_file() else root / path
        if not path.is_file():
            raise UserError(
                f"{path} does not exist: write one class name per line into it, or set data.dataset.class_names."
            )
        given = [line.strip() for line in read_lines(path)]
    names = tuple(given)
    if not names:
        raise UserError("data.dataset.class_names is empty: name at least one class.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"data.dataset.class_names has {twice!r} twice: give each class a name of its own.")
    return names


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image file, open; whatever Pillow finds wrong with it while it is read is the user's mistake."""
    try:
        with Image.open(path) as file:
            yield file
    except (OSError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path} cannot be read as an image ({error}): replace it or take it out of the split."
        ) from error


def _read_image(path: Path) -> UInt8Array:
    """RGB, (H, W, 3) uint8."""
    with _opened(path) as file:
        ImageOps.exif_transpose(file, in_place=True)
        if file.mode == "F":
            raise UserError(f"{path} has floating-point pixels: save it with 8 or 16 bits per channel.")
        if file.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion would cut off at 255
            return np.repeat((np.asarray(file) >> 8).astype(np.uint8)[..., None], 3, axis=2)
        return np.array(file.convert("RGB"))


def _id_of_value(num_classes: int, ignore_index: int | None, first: int) -> Int16Array:
    """Look-up table, (65536,), from a mask's value to the class id, IGNORE_INDEX or _UNKNOWN."""
    table = np.full(1 << 16, _UNKNOWN, dtype=np.int16)
    table[first : first + num_classes] = np.arange(num_classes)
    table[:first] = IGNORE_INDEX
    if ignore_index is not None:
        if not 0 <= ignore_index < len(table):
            raise UserError(
                f"data.dataset.ignore_index={ignore_index} cannot stand in a PNG: choose 0 to 65535, or null for none."
            )
        if first <= ignore_index < first + num_classes and ignore_index != 0:
            raise UserError(
                f"data.dataset.ignore_index={ignore_index} is also the id of a class: choose another value, or null."
            )
        table[ignore_index] = IGNORE_INDEX
    return table
