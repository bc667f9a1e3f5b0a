"""What a checkpoint of this project says of its model and its data."""

from __future__ import annotations

from typing import Any

from fastfcn.types import DataFacts

#: Where a checkpoint keeps it, and the version of its layout.
CHECKPOINT_KEY = "fastfcn"
CHECKPOINT_VERSION = 1


def own_entry(config: dict[str, Any], facts: DataFacts) -> dict[str, Any]:
    """The entry, in plain types.

    Args:
        config: plain dictionaries ``model`` and ``data``.
        facts: of the data set.
    """
    return {
        "version": CHECKPOINT_VERSION,
        **config,
        "facts": {
            "name": facts.name,
            "class_names": list(facts.class_names),
            "palette": [list(colour) for colour in facts.palette],
            "thin_classes": list(facts.thin_classes),
        },
    }
