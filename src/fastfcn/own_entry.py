"""What a checkpoint of this project says of its model and its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastfcn.errors import UserError
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


def targets(config: object) -> Iterator[str]:
    """Every ``_target_`` in a nested plain configuration.

    Raises:
        UserError: there is an interpolation, which could make a target that is not to be seen here.
    """
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield str(config["_target_"])
        for key, value in config.items():
            yield from targets(key)
            yield from targets(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from targets(value)
    elif isinstance(config, str) and "${" in config:
        raise UserError(f"the checkpoint's configuration holds the interpolation {config!r}: this project writes none.")
