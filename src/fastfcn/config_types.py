"""Values of the wrong type in a configuration, found before anything starts."""

from __future__ import annotations

import functools
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
    "fit": bool,
    "test": bool,
    "fine_tune": bool,
    "channels_last": bool,
    "compile": bool,
    "activation_checkpointing": bool | list[str],
    "auto_batch": bool,
    "deterministic": bool | typing.Literal["warn"],
    "paths.outside": bool,
    "num_classes": int,
    "repeats": int,
    "seconds": float,
    "warmup_seconds": float,
    "matrix_side": int | None,
    "prepare.check": bool,
    "prepare.workers": int | None,
    "errors": bool,
    "count": int,
    "candidates": int,
    "latency.measure": bool | typing.Literal["auto"],
    "latency.warmup": int,
    "latency.repeats": int,
    "latency.seconds": float,
    "figure.images": int,
    "figure.candidates": int,
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
    wrong = [*_wrong_targets(config, "")]
    for path, hint in SCRIPT_KEYS.items():
        *groups, key = path.split(".")
        section = functools.reduce(lambda node, group: node.get(group) or {}, groups, config)
        wrong += _wrong_values(section, {key: hint}, "".join(f"{group}." for group in groups))
    if wrong:
        # Interpolation copies a value to longer keys, backbone.depth to model.backbone.depth: name the short one.
        key, value, wanted = min(wrong, key=lambda found: found[0].count("."))
        raise UserError(f"{key}={'null' if value is None else value}: give {wanted}.")


def _wrong_targets(config: object, prefix: str) -> Iterator[tuple[str, object, str]]:
    """Key, value and what is wanted, of every wrong value of every target in a nested configuration."""
    if not isinstance(config, Mapping):
        return
    if "_target_" in config:
        yield from _wrong_values(config, _hints(str(config["_target_"])), prefix)
    for key, value in config.items():
        yield from _wrong_targets(value, f"{prefix}{key}.")


def _wrong_values(
    config: Mapping[str, Any], hints: Mapping[str, object], prefix: str
) -> Iterator[tuple[str, object, str]]:
    for key, hint in hints.items():
        parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
        if key in config and all(_known(part) for part in parts):
            value = config[key]
            if not any(_fits(value, part) for part in parts):
                yield f"{prefix}{key}", value, " or ".join(_in_words(part) for part in parts)


def _known(part: object) -> bool:
    return typing.get_origin(part) is typing.Literal or (isinstance(part, type) and part in _WORDS)


def _fits(value: object, part: Any) -> bool:
    if typing.get_origin(part) is typing.Literal:
        return value in typing.get_args(part)
    if isinstance(value, bool):  # which Python counts as a whole number
        return part is bool
    return isinstance(value, part) or (part is float and isinstance(value, int))


def _in_words(part: Any) -> str:
    return _WORDS[part] if part in _WORDS else " or ".join(map(str, typing.get_args(part)))


def _hints(target: str) -> dict[str, Any]:
    """Types of a target's arguments by name; none where they cannot be found out, for Hydra will say why."""
    try:
        found = pkgutil.resolve_name(target)
        return typing.get_type_hints(vars(found).get("__init__", found) if isinstance(found, type) else found)
    except (ImportError, AttributeError, NameError, TypeError, ValueError):
        return {}
