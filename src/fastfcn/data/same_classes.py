"""All splits of a data set have the same classes."""

from __future__ import annotations

from collections.abc import Mapping

from fastfcn.errors import UserError
from fastfcn.types import SegmentationDataset


def check(opened: Mapping[str, SegmentationDataset], split: str, dataset: SegmentationDataset) -> None:
    """Compare a split with those that were opened before.

    Raises:
        UserError: It has other classes than one of them; the first difference is named.
    """
    here = dataset.facts.class_names
    for other, known in opened.items():
        there = known.facts.class_names
        if here == there:
            continue
        index = next(i for i in range(max(len(here), len(there))) if here[i : i + 1] != there[i : i + 1])
        first, second = (repr(names[index]) if index < len(names) else "none" for names in (there, here))
        raise UserError(
            f"The splits {other} and {split} have different classes, class {index} is {first} and {second}: let both "
            "have the same ones in the same order (data=coco: name them by data.dataset.categories=[...])."
        )
