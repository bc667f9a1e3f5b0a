"""From the labels of Pascal Context to masks: 8-bit palette PNG of the classes 0 to 59, made by several processes."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection
from pathlib import Path

from PIL import Image

from fastfcn.data.decoding import DAMAGE
from fastfcn.data.pascal_context import PALETTE
from fastfcn.errors import UserError
from fastfcn.preparation import disk, processes
from fastfcn.preparation.pascal_labels import Labels, Regions, StoredMap
from fastfcn.whole_files import PARTIAL, replacing

#: Masks to a process below which starting it takes longer than it saves.
WORTH_A_PROCESS = 250

Job = tuple[Regions | StoredMap, Path, Path]


def convert(
    labels: Labels,
    stems: Collection[str],
    *,
    images: Path,
    masks: Path,
    workers: int | None,
    done: Callable[[], object],
) -> None:
    """Write the masks that are not there yet.

    A mask appears under its name when it is complete, so that what an interrupted call left counts.

    Args:
        labels: Where the labels come from.
        stems: The images that need a mask.
        images: Folder of `<stem>.jpg`.
        masks: Folder to write `<stem>.png` to; made if it is not there.
        workers: Processes; None: the cores, and no more than are worth their start.
        done: Called for each mask, also for one that was there.

    Raises:
        UserError: An image has no labels or another size than its labels, labels are damaged, or the disk is full.
    """
    masks.mkdir(parents=True, exist_ok=True)
    sweep(masks)
    there = {entry.name for entry in os.scandir(masks)}
    missing = {stem for stem in stems if f"{stem}.png" not in there}
    for _ in range(len(stems) - len(missing)):
        done()
    jobs = ((label, images / f"{stem}.jpg", masks / f"{stem}.png") for stem, label in labels.maps(missing))
    for target in processes.spread(
        write_mask, jobs, workers=processes.number(workers, jobs=len(missing), worth=WORTH_A_PROCESS)
    ):
        missing.discard(target.stem)
        done()
    if missing:
        raise UserError(
            f"{labels.path} has no labels of the image {min(missing)} ({len(missing)} of {len(stems)} images have "
            "none): use the complete labels."
        )


def sweep(folder: Path) -> None:
    """Remove what an interrupted conversion was writing."""
    for path in folder.glob(f".*{PARTIAL}"):
        path.unlink(missing_ok=True)


def write_mask(job: Job) -> Path:
    """Decode labels, compare their size with the image's and store them."""
    labels, image, target = job
    mask = labels.read()
    try:
        with Image.open(image) as file:  # the header alone
            width, height = file.size
    except DAMAGE as error:
        raise UserError(
            f"{image} cannot be read as an image: delete the folder of the images and prepare the data again."
        ) from error
    if mask.shape != (height, width):
        raise UserError(
            f"The labels of {image} are {mask.shape[1]} x {mask.shape[0]} pixels, but the image is {width} x {height}: "
            "use the images of VOC2010 and the labels made for them."
        )
    picture = Image.fromarray(mask)
    picture.putpalette(_flat_palette())  # makes it a palette image of the same values
    with disk.writing(target, kept="the masks that are there are kept"), replacing(target) as partial:
        picture.save(partial, format="PNG")
    return target


@functools.cache
def _flat_palette() -> bytes:
    return bytes(channel for color in PALETTE for channel in color)
