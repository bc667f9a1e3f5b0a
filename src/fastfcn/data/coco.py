"""Any data set labelled in COCO's layout: a JSON of polygons and run-length codes beside a folder of images."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import numpy as np

from fastfcn.data import coco_file
from fastfcn.data.coco_file import Annotation, CocoFile, CocoImage
from fastfcn.data.coco_regions import Region, region
from fastfcn.data.files import FileDataset, id_of_value
from fastfcn.data.pairing import Pair, Unpaired
from fastfcn.data.palette import checked_palette, distinct_colors
from fastfcn.errors import UnreadableError, UserError
from fastfcn.types import IGNORE_INDEX, DataFacts, Int16Array

#: What a pixel stands for that no annotation covers.
Unlabelled = Literal["background", "ignore"]

#: Which of several annotations a pixel takes its class from: the last of the file, or the smallest.
Overlap = Literal["last", "smallest"]

#: What a region marked as a crowd stands for.
Crowd = Literal["class", "ignore"]


class CocoDataset(FileDataset):
    """Images with the annotations of a JSON of COCO's layout ("instances"), drawn when a sample is read.

    Class ids are in the order of the category ids, or of `categories`; with ``unlabelled="background"`` the background
    is class 0 before them. Where annotations overlap, the last one of the file is drawn over those before it, or with
    ``overlap="smallest"`` the one with the fewest pixels over the larger ones.

    Args:
        split: ``train``, ``val`` or ``test``.
        root: The data set's folder.
        annotations: The JSON file of each split, from `root`; or one file for all, which `val_share` splits.
        image_dir: Folder under `root` that the ``file_name`` of an image starts from, or one per split; `root` itself
            is tried too.
        categories: Names of the categories that count, in the order of their class ids; or the categories of each class
            by its name. None is all. Annotations of other categories are as if they were not there.
        unlabelled: What a pixel without annotation is: ``background``, class 0; or ``ignore``, it counts nowhere.
        background: Name of that class.
        overlap: See above.
        crowd: What a region with ``iscrowd`` is: of its ``class``, or ``ignore``, its pixels count nowhere.
        val_share: Share of the images that are ``val``, chosen by their file names alone, where one file has all.
        exif: Turn images as their EXIF orientation says; the sizes in the JSON tell whether its tool did.
        palette: One (R, G, B) of 0..255 per class; None is one of well-separated colours.
        thin_classes: Names of the classes made of thin structures.
        name: The data set's short name; None is the root folder's.
        strict: Refuse what has no partner; else it is left out and told in `findings`.

    Raises:
        UserError: A file is missing or broken, or an argument contradicts another.
    """

    def __init__(
        self,
        split: str,
        *,
        root: str | Path,
        annotations: Mapping[str, str | None] | str,
        image_dir: Mapping[str, str] | str = "images",
        categories: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        unlabelled: Unlabelled = "background",
        background: str = "background",
        overlap: Overlap = "last",
        crowd: Crowd = "class",
        val_share: float | None = None,
        exif: bool = True,
        palette: Sequence[Sequence[int]] | None = None,
        thin_classes: Sequence[str] = (),
        name: str | None = None,
        strict: bool = True,
    ) -> None:
        for key, value, kind in (("unlabelled", unlabelled, Unlabelled), ("overlap", overlap, Overlap),
                                 ("crowd", crowd, Crowd)):  # fmt: skip
            if value not in get_args(kind):
                raise UserError(f"data.dataset.{key}={value}: choose {' or '.join(get_args(kind))}.")
        root = Path(root).expanduser()
        if not root.is_dir():
            raise UserError(f"data.dataset.root={root} does not exist: set it to the folder of the data set.")
        self._file = coco_file.read(root / _json_of(annotations, split, val_share), strict=strict)
        names, self._id_of_category = _classes(self._file, categories, background, unlabelled)
        if unknown := [thin for thin in thin_classes if thin not in names]:
            raise UserError(
                f"data.dataset.thin_classes names {unknown[0]!r}, which is not among the classes {', '.join(names)}."
            )
        self._unlabelled = 0 if unlabelled == "background" else IGNORE_INDEX
        self._overlap, self._crowd = overlap, crowd
        findings = list(self._file.findings)
        folder = root / (image_dir if isinstance(image_dir, str) else image_dir.get(split, ""))
        share = val_share if isinstance(annotations, str) else None
        self._places, samples = _samples(self._file, (folder, root), split, share, None if strict else findings)
        super().__init__(
            samples,
            facts=DataFacts(
                name=name or root.resolve().name,
                class_names=names,
                palette=distinct_colors(len(names)) if palette is None else checked_palette(palette, len(names)),
                thin_classes=tuple(thin_classes),
            ),
            id_of_value=id_of_value(len(names)),
            exif=exif,
            findings=findings,
        )

    def told(self, index: int) -> str:
        """What the mask of a sample is called in a message."""
        image = self._image(index)
        return f"{self._file.path}: image {image.id} ({image.file_name})"

    def mask(self, index: int) -> Int16Array:
        """Draw the annotations of an image: class ids (H, W) int16.

        Raises:
            BadSampleError: One of them is damaged, or does not fit the image; the annotation is named.
        """
        image = self._image(index)
        mask = np.full(image.size, self._unlabelled, dtype=np.int16)
        regions: list[tuple[int, Region]] = []
        for annotation in self._file.annotations(self._places[index]):
            class_id = self._id_of_category.get(annotation.category)
            if class_id is not None:
                value = IGNORE_INDEX if annotation.crowd and self._crowd == "ignore" else class_id
                regions.append((value, self._region(annotation, image)))
        if self._overlap == "smallest":
            regions.sort(key=lambda found: -found[1].area)  # of the same area in the file's order
        for value, found in regions:
            mask[found.pixels()] = value
        return mask

    def _image(self, index: int) -> CocoImage:
        return self._file.images[self._places[index]]

    def _region(self, annotation: Annotation, image: CocoImage) -> Region:
        try:
            return region(annotation.segmentation, image.size)
        except ValueError as error:
            raise UnreadableError(
                f"{self._file.path}: the segmentation of annotation {annotation.id} of {image.file_name} {error}: "
                "correct it, or take it out."
            ) from error


def _json_of(annotations: Mapping[str, str | None] | str, split: str, val_share: float | None) -> str:
    """The file of a split, from the root."""
    if isinstance(annotations, str):
        if val_share is None or not 0 < val_share < 1:
            raise UserError(
                f"data.dataset.annotations={annotations} has all images: say by data.dataset.val_share=0.2 which share "
                "of them is the split val, or name one file for each split: {train: ..., val: ...}."
            )
        if split not in ("train", "val"):
            raise UserError(f"One file of annotations is split into train and val, there is no {split!r}.")
        return annotations
    if (path := annotations.get(split)) is None:
        known = ", ".join(key for key, value in annotations.items() if value is not None)
        raise UserError(
            f"data.dataset.annotations names no file of the split {split!r}: choose from {known}, or add it."
        )
    return path


def _classes(
    file: CocoFile,
    categories: Sequence[str] | Mapping[str, Sequence[str]] | None,
    background: str,
    unlabelled: Unlabelled,
) -> tuple[tuple[str, ...], dict[int, int]]:
    """The names of the classes, and the class id of each category's that counts."""
    if categories is None:
        categories = tuple(file.categories.values())
    groups = categories if isinstance(categories, Mapping) else {name: [name] for name in categories}
    first = [background] if unlabelled == "background" else []
    names = (*first, *groups)
    known = {name: number for number, name in file.categories.items()}
    chosen: dict[int, int] = {}
    for class_id, members in enumerate(groups.values(), start=len(first)):
        for name in members:
            if name not in known:
                raise UserError(
                    f"data.dataset.categories names {name!r}, which is no category of {file.path} "
                    f"({', '.join(known)}): correct it, or add the category to the file."
                )
            if known[name] in chosen:
                raise UserError(f"data.dataset.categories has {name!r} twice: give it to one class.")
            chosen[known[name]] = class_id
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(
            f"There are two classes {twice!r}: call the one of unlabelled pixels otherwise by data.dataset.background, "
            "or let these count nowhere by data.dataset.unlabelled=ignore."
        )
    return names, chosen


def _samples(
    file: CocoFile, folders: Sequence[Path], split: str, val_share: float | None, findings: list[Unpaired] | None
) -> tuple[tuple[int, ...], list[Pair]]:
    """Position in the file, and paths, of each image of a split; where there are findings, without those not there."""
    places, samples = [], []
    for place, image in enumerate(file.images):
        if val_share is not None and (_drawn(image.file_name) < val_share) != (split == "val"):
            continue
        path = next((folder / image.file_name for folder in folders if (folder / image.file_name).is_file()), None)
        if path is None:
            told = (
                f"{file.path}: image {image.id} is missing, {folders[0] / image.file_name}: set data.dataset.image_dir "
                "to the folder that file_name starts from, or add the image."
            )
            if findings is None:
                raise UserError(told)
            findings.append(Unpaired("missing image", told))
            continue
        places.append(place)
        # Predictions are written under this name: it must not lead out of their folder.
        inside = [part for part in PurePosixPath(image.file_name).parts if part not in ("/", "//", "..")]
        name = PurePosixPath(*inside).with_suffix("").as_posix()
        samples.append(Pair(name, path, file.path if file.labelled else None))
    if not samples and not findings:
        raise UserError(f"The split {split} of {file.path} has no image: choose another data.dataset.val_share.")
    names = [sample.name for sample in samples]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{file.path} lists two images {twice} that differ in the suffix alone: rename one.")
    return tuple(places), samples


def _drawn(file_name: str) -> float:
    """A number in [0, 1) that a file name alone decides."""
    return zlib.crc32(file_name.encode()) / 2**32
