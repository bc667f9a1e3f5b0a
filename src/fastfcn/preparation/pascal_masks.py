"""The masks of Pascal Context and the lists of its splits: made once, and known by the labels they were made from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from fastfcn.data.pairing import read_lines
from fastfcn.data.pascal_context import IMAGE_DIR, MASK_DIR
from fastfcn.errors import UserError
from fastfcn.preparation import steps
from fastfcn.preparation.pascal_conversion import convert
from fastfcn.preparation.pascal_labels import Labels
from fastfcn.preparation.progress import track

SPLITS = ("train", "val")

#: VOC2010's own lists, which are those of Pascal Context.
VOC_LISTS = {split: f"VOCdevkit/VOC2010/ImageSets/Main/{split}.txt" for split in (*SPLITS, "trainval")}

#: In the folder of the masks: which labels they were made from.
MADE_FROM = ".labels.json"


class MadeFrom(NamedTuple):
    """Which labels the masks were made from.

    Attributes:
        kind: `json`, `mat` or `png`.
        file: Name of the file or folder.
        sha1: Of the file; None for a folder.
        identity: As the labels tell it.
    """

    kind: str
    file: str
    sha1: str | None
    identity: str


def made_from(root: Path) -> MadeFrom | None:
    """Which labels the masks were made from; None where there are none, or they do not say."""
    try:
        return MadeFrom(**json.loads((root / MASK_DIR / MADE_FROM).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def make(root: Path, labels: Labels, counts: Mapping[str, int], *, processes: int | None) -> None:
    """Convert the labels of all images, in a folder that gets its name when it is complete.

    Args:
        root: Folder of the data set, with the images.
        labels: The labels.
        counts: Expected images of each split.
        processes: Processes that convert; None: the cores, and no more than it is worth.

    Raises:
        UserError: A count is wrong, an image is missing, or labels and images do not fit.
    """
    splits = labels.splits or {split: _voc_list(root / VOC_LISTS[split]) for split in SPLITS}
    for split, names in splits.items():
        origin = labels.path if labels.splits else root / VOC_LISTS[split]
        if (wrong := _wrong_count(origin, len(set(names)), split, counts)) is not None:
            raise UserError(wrong)
    stems = {stem for names in splits.values() for stem in names}
    if missing := stems - steps.stems(root / IMAGE_DIR, ".jpg"):
        raise UserError(_no_image(root, missing, len(stems)))
    for note in labels.notes:
        print(note)

    masks = root / MASK_DIR
    origin_of_masks = MadeFrom(labels.kind, labels.path.name, labels.sha1, labels.identity)
    unfinished = masks if masks.exists() else root / f".{MASK_DIR}-{labels.identity[:12]}"
    if masks.exists() and made_from(root) != origin_of_masks:
        raise UserError(
            f"{masks} is not complete and was made from other labels than {labels.path}: delete it and run the command "
            "again."
        )
    with track("masks", total=len(stems)) as advance:
        convert(labels, stems, images=root / IMAGE_DIR, masks=unfinished, workers=processes, done=advance)
    for split, names in splits.items():
        steps.write_text(root / f"{split}.txt", "".join(f"{stem}\n" for stem in sorted(names)))
    steps.write_text(unfinished / MADE_FROM, json.dumps(origin_of_masks._asdict()) + "\n")
    unfinished.replace(masks)
    for left in root.glob(f".{MASK_DIR}-*"):  # begun from other labels and never ended
        shutil.rmtree(left)


def are_missing(root: Path) -> bool:
    """Whether there is still a mask, or a list, to make."""
    lists = [root / f"{split}.txt" for split in SPLITS]
    if not (root / MASK_DIR).is_dir() or not all(path.is_file() for path in lists):
        return True
    masks = steps.stems(root / MASK_DIR, ".png")
    return any(stem not in masks for path in lists for stem in read_lines(path))


def refuse_others(root: Path, labels: str) -> None:
    """Masks that are there are kept, so nothing that is asked for may contradict them.

    Args:
        root: Folder of the data set.
        labels: The form of labels that is asked for: `auto`, `json`, `mat` or `png`.

    Raises:
        UserError: The masks are of unknown origin, or were made from another form.
    """
    masks = root / MASK_DIR
    if not masks.exists():
        return
    if (origin := made_from(root)) is None:
        raise UserError(
            f"{masks} was not made by this program: rename it and name it by prepare.png=..., with prepare.png_ids=459 "
            "if it holds ids of the 459 categories."
        )
    if labels not in ("auto", origin.kind):
        raise UserError(
            f"{masks} was made from the labels {origin.kind}, but prepare.labels={labels}: delete it and run the "
            "command again, or leave out prepare.labels."
        )


def fault(root: Path, counts: Mapping[str, int]) -> str | None:
    """What is wrong with a prepared Pascal Context, in one sentence; None if all is there.

    Args:
        root: Folder of the data set.
        counts: Expected images of each split.
    """
    images, masks = steps.stems(root / IMAGE_DIR, ".jpg"), steps.stems(root / MASK_DIR, ".png")
    for split in SPLITS:
        path = root / f"{split}.txt"
        if not path.is_file():
            return f"{path} is missing: run the command again."
        stems = set(read_lines(path))
        if (wrong := _wrong_count(path, len(stems), split, counts)) is not None:
            return wrong
        if missing := stems - images:
            return _no_image(root, missing, len(stems))
        if missing := stems - masks:
            return f"{root / MASK_DIR / min(missing)}.png is missing ({len(missing)} are): run the command again."
    return None


def _voc_list(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(
            f"{path} is missing, which tells the splits of labels that are not in the JSON: restore it from VOC2010's "
            "archive."
        )
    return [line.split()[0] for line in read_lines(path)]


def _wrong_count(origin: Path, found: int, split: str, counts: Mapping[str, int]) -> str | None:
    if found == counts[split]:
        return None
    return (
        f"{origin} names {found:,} {split} images, but {counts[split]:,} are expected: restore the original file, or "
        f"correct prepare.counts.{split}."
    )


def _no_image(root: Path, missing: Collection[str], total: int) -> str:
    return (
        f"{root / IMAGE_DIR / min(missing)}.jpg is missing ({len(missing):,} of {total:,} images are): delete "
        f"{(root / IMAGE_DIR).parent} and run the command again, which extracts it anew."
    )
