"""A data set on disk: a folder of images and a folder of masks, its splits given by folders or by list files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fastfcn.data.decoding import opened
from fastfcn.data.files import FileDataset, id_of_value
from fastfcn.data.pairing import Pair, Unpaired, on_disk, pair, read_lines
from fastfcn.data.palette import Palette, checked_color, checked_palette, distinct_colors, embedded_palette
from fastfcn.data.reading import read_bytes
from fastfcn.errors import BadSampleError, UserError
from fastfcn.types import IGNORE_INDEX, DataFacts, Int16Array

#: How many masks are opened at most for one that tells a palette.
MASKS_ASKED = 8


class FolderDataset(FileDataset):
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
        strict: Refuse what has no partner; else it is left out and told in `findings`.

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
        strict: bool = True,
    ) -> None:
        root = Path(root).expanduser()
        if not root.is_dir():
            raise UserError(f"data.dataset.root={root} does not exist: set it to the folder of the data set.")
        names = _class_names(class_names, root)
        if unknown := [thin for thin in thin_classes if thin not in names]:
            raise UserError(
                f"data.dataset.thin_classes names {unknown[0]!r}, which is not among the classes {', '.join(names)}."
            )
        findings: list[Unpaired] | None = None if strict else []
        samples = pair(root, image_dir=image_dir, mask_dir=mask_dir, split=on_disk(split, splits), findings=findings)

        first = int(reduce_zero_label)  # the mask value of class 0
        known = checked_palette(palette, len(names)) if palette is not None else None
        if known is None and samples:
            known = _palette_of(samples[:MASKS_ASKED], len(names), first=first)
        id_of_color = {color: i for i, color in enumerate(known or ())}
        if ignore_color is not None:
            id_of_color[checked_color(ignore_color, key="data.dataset.ignore_color")] = IGNORE_INDEX
        super().__init__(
            samples,
            facts=DataFacts(
                name=name or root.resolve().name,
                class_names=names,
                palette=known or distinct_colors(len(names)),
                thin_classes=tuple(thin_classes),
            ),
            id_of_value=_with_ignored(id_of_value(len(names), first=first), ignore_index),
            id_of_color=id_of_color,
            ignored=f" nor data.dataset.ignore_index={ignore_index}: correct the mask, data.dataset.class_names or "
            "data.dataset.ignore_index",
            findings=findings or (),
        )


def _palette_of(samples: Sequence[Pair], num_classes: int, *, first: int) -> Palette | None:
    """The palette inside the first mask that can be opened; of those before it is told when they are read."""
    for _, _, mask in samples:
        assert mask is not None, "each image of a folder has a mask"
        try:
            with opened(read_bytes(mask), mask) as file:
                return embedded_palette(file, num_classes, first=first)
        except BadSampleError:
            continue
    return None


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


def _with_ignored(table: Int16Array, ignore_index: int | None) -> Int16Array:
    """The look-up table with the value that counts nowhere."""
    if ignore_index is None:
        return table
    if not 0 <= ignore_index < len(table):
        raise UserError(
            f"data.dataset.ignore_index={ignore_index} cannot stand in a PNG: choose 0 to 65535, or null for none."
        )
    if table[ignore_index] >= 0 and ignore_index != 0:
        raise UserError(
            f"data.dataset.ignore_index={ignore_index} is also the id of a class: choose another value, or null."
        )
    table[ignore_index] = IGNORE_INDEX
    return table
