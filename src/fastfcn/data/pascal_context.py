"""Pascal Context: the images of VOC2010 with labels of the whole scene (Mottaghi et al. 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastfcn.data.files import FileDataset, id_of_value
from fastfcn.data.pairing import Unpaired, pair
from fastfcn.errors import UserError
from fastfcn.types import DataFacts

#: Where images and masks lie under the root; the lists of the splits lie in the root itself.
IMAGE_DIR = "VOCdevkit/VOC2010/JPEGImages"
MASK_DIR = "masks"

_CATEGORIES = """
    0 2 9 18 19 22 23 25 31 33 34 44 45 46 59 65 68 72 80 85 98 104 105 113 115 144 158 159 162 187 189 207 220
    232 258 259 260 284 295 296 308 324 326 347 349 354 355 360 366 368 397 415 416 420 424 427 440 445 454 458
"""

_NAMES = """
    background, aeroplane, bag, bed, bedclothes, bench, bicycle, bird, boat, book, bottle, building, bus,
    cabinet, car, cat, ceiling, chair, cloth, computer, cow, cup, curtain, dog, door, fence, floor, flower,
    food, grass, ground, horse, keyboard, light, motorbike, mountain, mouse, person, plate, platform,
    pottedplant, road, rock, sheep, shelves, sidewalk, sign, sky, snow, sofa, table, track, train, tree, truck,
    tvmonitor, wall, water, window, wood
"""

#: The ids, among the 459 categories of the data set, of the sixty that count: the position in this list is the class
#: that stands in a mask. 0 is the background: everything else.
CATEGORY_IDS = tuple(map(int, _CATEGORIES.split()))

#: Names by the same position, as the data set's list of 459 categories gives them.
CLASS_NAMES = tuple(" ".join(_NAMES.split()).split(", "))


def _voc_color(index: int) -> tuple[int, int, int]:
    """The colour of a class in the VOC toolkit: its bits, dealt to red, green and blue from the highest down."""
    color = [0, 0, 0]
    for shift in range(7, -1, -1):
        for channel in range(3):
            color[channel] |= (index >> channel & 1) << shift
        index >>= 3
    return color[0], color[1], color[2]


#: The official code paints Pascal Context in the colours of VOC.
PALETTE = tuple(_voc_color(index) for index in range(len(CLASS_NAMES)))

_SPLITS = ("train", "val")


class PascalContext(FileDataset):
    """Images and masks of Pascal Context, as `prepare.py` leaves them.

    Args:
        split: ``train`` (4,998 images) or ``val`` (5,105), which the paper reports on; there is no test split.
        root: Folder that holds ``VOCdevkit``, ``masks``, ``train.txt`` and ``val.txt``.
        classes: 59: the background counts nowhere, neither in training nor in a score, as in the paper's Table 1.
            60: the background is class 0.
        thin_classes: Names of the classes made of thin structures, for the thin-class IoU.
        strict: Refuse what has no partner; else it is left out and told in `findings`.

    Raises:
        UserError: There is no such split or class, or the files are not there.
    """

    def __init__(
        self,
        split: str,
        *,
        root: str | Path,
        classes: int = 59,
        thin_classes: Sequence[str] = (),
        strict: bool = True,
    ) -> None:
        if split not in _SPLITS:
            raise UserError(f"pascal_context has no split {split!r}: choose one of {', '.join(_SPLITS)}.")
        if classes not in (59, 60):
            raise UserError(f"data.dataset.classes={classes}: choose 59 (without background) or 60 (with it).")
        first = len(CLASS_NAMES) - classes  # the mask value of class 0
        if unknown := [name for name in thin_classes if name not in CLASS_NAMES[first:]]:
            raise UserError(
                f"data.dataset.thin_classes names {unknown[0]!r}, which is none of the {classes} classes of "
                "pascal_context."
            )
        root = Path(root).expanduser()
        for needed in (root / IMAGE_DIR, root / MASK_DIR, root / f"{split}.txt"):
            if not needed.exists():
                raise UserError(
                    f"{needed} does not exist: run `python src/prepare.py data=pascal_context`, or set "
                    "data.dataset.root to the folder where it was prepared."
                )
        findings: list[Unpaired] | None = None if strict else []
        super().__init__(
            pair(root, image_dir=IMAGE_DIR, mask_dir=MASK_DIR, split=split, findings=findings),
            facts=DataFacts(
                name="pascal_context",
                class_names=CLASS_NAMES[first:],
                palette=PALETTE[first:],
                thin_classes=tuple(thin_classes),
            ),
            id_of_value=id_of_value(classes, first=first),
            exif=False,  # the masks fit the pixels as they are stored
            ignored=" (values 0 to 59): delete the folder of masks and prepare the data again",
            findings=findings or (),
        )
