"""Values of the wrong type in a configuration, found before anything starts."""

from __future__ import annotations

import pkgutil
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from fastfcn.errors import UserError

#: Keys of the scripts themselves, which no signature tells about.
SCRIPT_KEYS: Mapping[str, object] = {
    "seed": int,
    "output_stride": int,
    "head_kernel_size": int,
    "test": bool,
    "whole": bool | None,
    "channels_last": bool,
    "compile": bool,
    "deterministic": bool,
}

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", types.NoneType: "null"}


def check_types(config: Mapping[str, Any]) -> None:
    """Compare numbers and flags with what the signatures of the targets ask for.

    Hydra hands values on as they come: ``optim.lr=abc`` would fail far from here, and not by its name. Text, lists and
    types of more structure are left to the targets themselves.

    Args:
        config: the resolved configuration, plain.

    Raises:
        UserError: a value is of another type; the key is named.
    """
    own = {key: hint for key, hint in SCRIPT_KEYS.items() if key in config}
    wrong = [*_wrong_values(config, own, ""), *_wrong_targets(config, "")]
    if wrong:
        # Interpolation copies a value to longer keys, backbone.depth to model.backbone.depth: name the short one.
        key, value, wanted = min(wrong, key=lambda found: found[0].count("."))
        shown = "null" if value is None else value
        raise UserError(f"{key}={shown}: give {' or '.join(_WORDS[kind] for kind in wanted)}.")


def _wrong_targets(config: object, prefix: str) -> Iterator[tuple[str, object, tuple[type, ...]]]:
    """Key, value and the types wanted, of every wrong value of every target in a nested configuration."""
    if not isinstance(config, Mapping):
        return
    if "_target_" in config:
        yield from _wrong_values(config, _hints(str(config["_target_"])), prefix)
    for key, value in config.items():
        yield from _wrong_targets(value, f"{prefix}{key}.")


def _wrong_values(
    config: Mapping[str, Any], hints: Mapping[str, object], prefix: str
) -> Iterator[tuple[str, object, tuple[type, ...]]]:
    for key, hint in hints.items():
        wanted = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
        if key not in config or not all(isinstance(kind, type) and kind in _WORDS for kind in wanted):
            continue
        value = config[key]
        if not isinstance(value, wanted) and not (float in wanted and isinstance(value, int)):
            yield f"{prefix}{key}", value, wanted


def _hints(target: str) -> dict[str, Any]:
    """Types of a target's arguments by name; none where they cannot be found out, for Hydra will say why."""
    try:
        found = pkgutil.resolve_name(target)
        return typing.get_type_hints(vars(found).get("__init__", found) if isinstance(found, type) else found)
    except (ImportError, AttributeError, NameError, TypeError, ValueError):
        return {}
