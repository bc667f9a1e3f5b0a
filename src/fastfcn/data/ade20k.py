"""ADE20K as the scene parsing challenge of 2016 released it: 150 classes (Zhou et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastfcn.data.files import FileDataset, id_of_value
from fastfcn.data.pairing import Pair, Unpaired, pair, read_lines
from fastfcn.errors import UserError
from fastfcn.types import DataFacts

#: Folders of the two archives, under the root.
CHALLENGE = "ADEChallengeData2016"
RELEASE_TEST = "release_test"

_NAMES = """
    wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth,
    door, table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug,
    field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column,
    signboard, chest of drawers, counter, sand, sink, skyscraper, fireplace, refrigerator, grandstand, path,
    stairs, runway, case, pool table, pillow, screen door, stairway, river, bridge, bookcase, blind, coffee
    table, toilet, flower, book, hill, bench, countertop, stove, palm, kitchen island, computer, swivel chair,
    boat, bar, arcade machine, hovel, bus, towel, light, truck, tower, chandelier, awning, streetlight, booth,
    television receiver, airplane, dirt track, apparel, pole, land, bannister, escalator, ottoman, bottle,
    buffet, poster, stage, van, ship, fountain, conveyer belt, canopy, washer, plaything, swimming pool, stool,
    barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball, food, step, tank, trade name, microwave,
    pot, animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, tray,
    ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, flag
"""

_COLORS = """
    787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846 08ff33
    ff0652 8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc ff095c 7009ff
    08ffd6 07ffe0 ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14 ff0829 ff0599 0633ff
    eb0cff a09614 00a3ff 8c8c8c fa0a0f 14ff00 1fff00 ff1f00 ffe000 99ff00 0000ff ff4700 00ebff 00adff 1f00ff
    0bc8c8 ff5200 00fff5 003dff 00ff70 00ff85 ff0000 ffa300 ff6600 c2ff00 008fff 33ff00 0052ff 00ff29 00ffad
    0a00ff adff00 00ff99 ff5c00 ff00ff ff00f5 ff0066 ffad00 ff0014 ffb8b8 001fff 00ff3d 0047ff ff00cc 00ffc2
    00ff52 000aff 0070ff 3300ff 00c2ff 007aff 00ffa3 ff9900 00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00 08b8aa
    8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070 5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00 ff00a3
    ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff ff007a fff500 0abed4 d6ff00 00ccff 1400ff ffff00 0099ff 0029ff
    00ffcc 2900ff 29ff00 ad00ff 00f5ff 4700ff 7a00ff 00ffb8 005cff b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff
"""

#: The first name of each line of objectInfo150.txt, in its order: class 0 is the mask value 1.
CLASS_NAMES = tuple(" ".join(_NAMES.split()).split(", "))

#: The colours of the challenge's toolkit (color150.mat), RRGGBB above. Two classes, road and skyscraper, share one.
PALETTE = tuple((red, green, blue) for red, green, blue in map(bytes.fromhex, _COLORS.split()))

#: Folders of images and masks of the labelled splits.
_LABELLED = {"train": ("training",), "val": ("validation",), "trainval": ("training", "validation")}


class ADE20K(FileDataset):
    """Images and masks of ADE20K; the mask value 0, "other", counts nowhere.

    Args:
        split: ``train`` (20,210 images), ``val`` (2,000), ``trainval``, or ``test`` (3,352, without masks).
        root: Folder that holds ``ADEChallengeData2016`` and, for ``test``, ``release_test``.
        thin_classes: Names of the classes made of thin structures, for the thin-class IoU.
        strict: Refuse what has no partner; else it is left out and told in `findings`.

    Raises:
        UserError: There is no such split or class, or the files are not there.
    """

    def __init__(self, split: str, *, root: str | Path, thin_classes: Sequence[str] = (), strict: bool = True) -> None:
        if split not in (*_LABELLED, "test"):
            raise UserError(f"ade20k has no split {split!r}: choose one of {', '.join(_LABELLED)}, test.")
        if unknown := [name for name in thin_classes if name not in CLASS_NAMES]:
            raise UserError(f"data.dataset.thin_classes names {unknown[0]!r}, which is no class of ade20k.")
        root = Path(root).expanduser()
        folder = root / (RELEASE_TEST if split == "test" else CHALLENGE)
        if not folder.is_dir():
            raise UserError(
                f"{folder} does not exist: run `python src/prepare.py data=ade20k`, or set data.dataset.root to the "
                f"folder that holds {folder.name}."
            )
        findings: list[Unpaired] | None = None if strict else []
        samples: list[Pair] = []
        if split == "test":
            samples = _test_images(folder, findings)
        for part in _LABELLED.get(split, ()):
            samples += pair(folder, image_dir="images", mask_dir="annotations", split=part, findings=findings)
        super().__init__(
            samples,
            facts=DataFacts(name="ade20k", class_names=CLASS_NAMES, palette=PALETTE, thin_classes=tuple(thin_classes)),
            id_of_value=id_of_value(len(CLASS_NAMES), first=1),
            exif=False,  # the masks fit the pixels as they are stored
            ignored=" (values 1 to 150; 0 counts nowhere): restore the mask from the archive",
            findings=findings or (),
        )


def _test_images(folder: Path, findings: list[Unpaired] | None) -> list[Pair]:
    """The images of the test server, in the order of its list; where there are findings, without those not there."""
    listed = [line.strip() for line in read_lines(folder / "list.txt")]
    images = [folder / "testing" / name for name in listed]
    missing = [path for path in images if not path.is_file()]
    if findings is not None:
        findings += [
            Unpaired("missing image", f"{path} is missing, which {folder / 'list.txt'} lists.") for path in missing
        ]
        images = [path for path in images if path not in set(missing)]
    elif missing:
        raise UserError(
            f"{missing[0]} is missing, which {folder / 'list.txt'} lists ({len(missing)} of {len(images)} are): run "
            "`python src/prepare.py data=ade20k` on an empty folder, or restore it from release_test.zip."
        )
    return [Pair(path.stem, path, None) for path in images]
