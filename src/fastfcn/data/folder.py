"""A data set on disk: a folder of images and a folder of masks, its splits given by folders or by list files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from fastfcn.errors import UserError
from fastfcn.types import IGNORE_INDEX, DataFacts, Int16Array, RawSample, UInt8Array

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
#: Where the list file of a split is looked for, from the root; the first found counts.
LIST_FOLDERS = ("", "splits", "ImageSets", "ImageSets/Segmentation")

Color = tuple[int, int, int]
_UNKNOWN = IGNORE_INDEX - 1  # what a mask value stands for that no class and no ignore_index explains


class FolderDataset:
    """Images under `root/images`, masks of the same name under `root/masks`.

    A split is a folder in both (`images/train/a.jpg`, `masks/train/a.png`; sub-folders may follow) or, where there is
    no such folder, a list file (`train.txt`, also in one of LIST_FOLDERS) of one stem or relative path per line.

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
            raise UserError(f"The data folder {self._root} does not exist: set root to the folder of the data set.")
        names = _class_names(class_names, self._root)
        if unknown := [thin for thin in thin_classes if thin not in names]:
            raise UserError(f"thin_classes names {unknown[0]!r}, which is not among the classes {', '.join(names)}.")
        self._samples = _pair(self._root, image_dir, mask_dir, _on_disk(split, splits))

        first_mask = self._samples[0][2]
        known = _checked_palette(palette, len(names)) or _palette_inside(first_mask, len(names), reduce_zero_label)
        self.facts = DataFacts(
            name=name or self._root.resolve().name,
            class_names=names,
            palette=known or distinct_colors(len(names)),
            thin_classes=tuple(thin_classes),
        )
        self._ignore_index = ignore_index
        self._id_of_value = _id_of_value(len(names), ignore_index, reduce_zero_label)
        self._id_of_color = {color: i for i, color in enumerate(known or ())}
        if ignore_color is not None:
            self._id_of_color[_color(ignore_color)] = IGNORE_INDEX

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
                return self._decode_colors(np.asarray(file.convert("RGB")), path)
            values = np.asarray(file).astype(np.int32)
        if values.ndim != 2 or mode == "F":
            raise UserError(f"{path} has pixels of kind {mode}: save the mask as a grey or palette PNG of class ids.")
        mask: Int16Array = self._id_of_value[values.clip(0, len(self._id_of_value) - 1)]
        wrong = values[(mask == _UNKNOWN) | (values < 0)]
        if wrong.size:
            raise UserError(
                f"{path} holds the value {wrong[0]}, which is none of the {self.facts.num_classes} classes nor "
                f"ignore_index={self._ignore_index}: correct the mask, or class_names or ignore_index."
            )
        return mask

    def _decode_colors(self, rgb: UInt8Array, path: Path) -> Int16Array:
        """Class ids, (H, W) int16, from the palette's colours, (H, W, 3)."""
        if not self._id_of_color:
            raise UserError(f"{path} is an RGB mask: save it as a PNG of class ids, or set palette to its colours.")
        weights = np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
        codes = rgb.astype(np.int32) @ weights
        known = np.array(list(self._id_of_color), dtype=np.int32) @ weights
        ids = np.array(list(self._id_of_color.values()), dtype=np.int16)
        order = known.argsort()
        nearest = np.searchsorted(known[order], codes).clip(max=len(known) - 1)
        if (wrong := known[order][nearest] != codes).any():
            color = tuple(int(channel) for channel in rgb[wrong][0])
            raise UserError(f"{path} holds the colour {color}, which is not in palette: add it, or correct the mask.")
        mask: Int16Array = ids[order][nearest]
        return mask


def distinct_colors(count: int) -> tuple[Color, ...]:
    """The same `count` well-separated colours each time, none of them near black.

    Each is the colour, on a grid over RGB, that lies farthest from black and from all before it in CIELAB, in which
    distance is near to what the eye sees.
    """
    levels = np.linspace(0, 255, 16, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)  # (4096, 3)
    lab = cv2.cvtColor(grid[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    distance = np.linalg.norm(lab, axis=1)  # black is the origin
    colors: list[Color] = []
    for _ in range(count):
        farthest = int(distance.argmax())
        colors.append(_color(grid[farthest].tolist()))
        distance = np.minimum(distance, np.linalg.norm(lab - lab[farthest], axis=1))
    return tuple(colors)


def _class_names(given: Sequence[str] | str | Path | None, root: Path) -> tuple[str, ...]:
    if given is None or isinstance(given, str | Path):
        path = root / "classes.txt" if given is None else Path(given)
        path = path if path.is_file() else root / path
        if not path.is_file():
            raise UserError(f"{path} does not exist: write one class name per line into it, or set class_names.")
        given = [line.strip() for line in _lines(path)]
    names = tuple(given)
    if not names:
        raise UserError("class_names is empty: name at least one class.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"class_names has {twice!r} twice: give each class a name of its own.")
    return names


def _on_disk(split: str, splits: Mapping[str, str] | None) -> str:
    """What a split is called on disk."""
    known = {"train": "train", "val": "val", "test": "test"}
    for key in (split, *(splits or ())):
        if key not in known:
            raise UserError(f"{key!r} is no split: choose from {', '.join(known)}.")
    return {**known, **(splits or {})}[split]


def _pair(root: Path, image_dir: str, mask_dir: str, split: str) -> list[tuple[str, Path, Path]]:
    """Name, image and mask of each sample of a split, in order of the names or of the list file."""
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
                f"{origin}, or say in splits what it is called."
            )
        folder = Path()
        images = _files(root / image_dir, IMAGE_SUFFIXES)
        names = [_listed(line.strip(), images, origin, image_dir) for line in _lines(origin)]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"{origin} lists {twice!r} twice: list each image once.")
    if not names:
        raise UserError(
            f"{origin} holds no image: add some ({', '.join(sorted(IMAGE_SUFFIXES))}) or choose another split."
        )

    masks = _files(root / mask_dir / folder, frozenset({".png"}))
    if missing := [name for name in names if name not in masks]:
        raise UserError(
            f"{images[missing[0]]} has no mask {root / mask_dir / folder / missing[0]}.png ({len(missing)} of "
            f"{len(names)} images have none): add the masks or take the images out of the split."
        )
    return [(name, images[name], masks[name]) for name in names]


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


def _listed(entry: str, images: Mapping[str, Path], origin: Path, image_dir: str) -> str:
    """The name of the image that a list file's line means: with or without suffix, from `root` or the image folder."""
    path = Path(entry)
    bare = path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path
    for candidate in (path, bare):
        for name in (candidate, candidate.relative_to(image_dir) if candidate.is_relative_to(image_dir) else candidate):
            if name.as_posix() in images:
                return name.as_posix()
    raise UserError(
        f"{origin} lists {entry!r}, but there is no such image in {image_dir}: add it or take out the line."
    )


def _lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text ({error}): correct the file.") from error
    return [line for line in text.splitlines() if line.strip()]


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


def _id_of_value(num_classes: int, ignore_index: int | None, reduce_zero_label: bool) -> Int16Array:
    """Look-up table, (65536,), from a mask's value to the class id, IGNORE_INDEX or _UNKNOWN."""
    first = int(reduce_zero_label)
    table = np.full(1 << 16, _UNKNOWN, dtype=np.int16)
    table[first : first + num_classes] = np.arange(num_classes)
    table[:first] = IGNORE_INDEX
    if ignore_index is not None:
        if not 0 <= ignore_index < len(table):
            raise UserError(f"ignore_index={ignore_index} cannot stand in a PNG: choose 0 to 65535, or null for none.")
        table[ignore_index] = IGNORE_INDEX
    return table


def _color(values: Sequence[int]) -> Color:
    if len(values) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in values):
        raise UserError(f"The colour {list(values)} must be three whole numbers from 0 to 255.")
    return values[0], values[1], values[2]


def _checked_palette(palette: Sequence[Sequence[int]] | None, num_classes: int) -> tuple[Color, ...] | None:
    if palette is None:
        return None
    colors = tuple(_color(values) for values in palette)
    if len(colors) != num_classes or len(set(colors)) < num_classes:
        raise UserError(
            f"palette has {len(set(colors))} different colours for {num_classes} classes: give each its own."
        )
    return colors


def _palette_inside(path: Path, num_classes: int, reduce_zero_label: bool) -> tuple[Color, ...] | None:
    """The classes' colours from a palette PNG; None if it is none or does not tell the classes apart."""
    with _opened(path) as file:
        values = (file.getpalette("RGB") or []) if file.mode == "P" else []
    colors = [_color(values[i : i + 3]) for i in range(0, len(values), 3)]
    chosen = tuple(colors[int(reduce_zero_label) :][:num_classes])
    return chosen if len(set(chosen)) == num_classes else None
