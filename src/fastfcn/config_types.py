"""Values of the wrong type or out of range in a configuration, found before anything starts."""

from __future__ import annotations

import functools
import pkgutil
import types
import typing
from collections import abc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fastfcn.config_keys import SCRIPT_KEYS
from fastfcn.config_ranges import check_trainer, range_of
from fastfcn.errors import UserError

#: What Hydra itself asks for beside a target's arguments.
OF_TARGETS: Mapping[str, object] = {"_target_": str, "_partial_": bool}

_WORDS: Mapping[object, str] = {
    int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path",
    types.NoneType: "null",
}  # fmt: skip

#: What a plain list and a plain mapping may be asked for as.
_LISTS, _MAPPINGS = (list, tuple, abc.Sequence), (dict, abc.Mapping)


class _Wrong(NamedTuple):
    """A value that cannot be, and what is wanted instead."""

    key: str
    value: object
    wanted: str


def check_types(config: Mapping[str, Any]) -> None:
    """Compare values with what the signatures of the targets ask for, and numbers with their ranges.

    Hydra hands values on as they come: ``optim.lr=abc`` would fail far from here, and not by its name. What a target
    asks for that is neither text, number, flag, nor a list or mapping of these, is left to the target itself.

    Args:
        config: the resolved configuration, plain.

    Raises:
        UserError: a value is of another type or out of range; the key is named.
    """
    wrong = [*_wrong_targets(config, "")]
    for path, hint in SCRIPT_KEYS.items():
        *groups, key = path.split(".")
        section = functools.reduce(_section, groups, config)
        wrong += _wrong_values(section, {key: hint}, "".join(f"{group}." for group in groups), target=None)
    if wrong:
        # Interpolation copies a value to longer keys, backbone.depth to model.backbone.depth: name the short one.
        key, value, wanted = min(wrong, key=lambda found: found.key.count("."))
        raise UserError(f"{key}={shown(value)}: give {wanted}.")
    trainer = config.get("trainer")
    if isinstance(trainer, Mapping):
        timers = (entry for entry in (config.get("callbacks") or {}).values() if isinstance(entry, Mapping))
        check_trainer(trainer, timed=any(str(entry.get("_target_")).endswith(".Timer") for entry in timers))


def _section(config: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    found = config.get(group)
    return found if isinstance(found, Mapping) else {}


def _wrong_targets(config: object, prefix: str) -> Iterator[_Wrong]:
    """Every wrong value of every target in a nested configuration."""
    if not isinstance(config, Mapping):
        return
    if "_target_" in config:
        target = str(config["_target_"])
        yield from _wrong_values(config, {**_hints(target), **OF_TARGETS}, prefix, target=target)
    for key, value in config.items():
        yield from _wrong_targets(value, f"{prefix}{key}.")


def _wrong_values(
    config: Mapping[str, Any], hints: Mapping[str, object], prefix: str, *, target: str | None
) -> Iterator[_Wrong]:
    for name, hint in hints.items():
        if name not in config:
            continue
        key, value = f"{prefix}{name}", config[name]
        if _known(hint) and not _fits(value, hint):
            quotes = " (a number or a flag is text in quotes)" if _mentions(hint, str) and _is_bare(value) else ""
            yield _Wrong(key, value, _in_words(hint) + quotes)
            continue
        for number in _numbers(value, whole=_plain(hint)):
            # A whole number stands for a fraction too: the hint says which of the two it is.
            kind = int if isinstance(number, int) and not _mentions(hint, float) else float
            wanted = range_of(target, key, kind)
            if wanted is not None and number not in wanted:
                yield _Wrong(key, value, f"{_WORDS[kind]} {wanted.words(number)}{_otherwise(hint)}")
                break


def _numbers(value: object, *, whole: bool) -> Iterator[int | float]:
    """The number that a value is or, of a `whole` list or mapping of plain values, all of them."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    if isinstance(value, Mapping) and "_target_" not in value:
        value = list(value.values())
    if whole and isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part, whole=True)


def _parts(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a hint."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _mentions(hint: Any, kind: type) -> bool:
    return hint is kind or any(_mentions(part, kind) for part in typing.get_args(hint))


def _known(hint: Any) -> bool:
    """Whether every alternative of a hint is one of plain values."""
    for part in _parts(hint):
        origin, inner = typing.get_origin(part), typing.get_args(part)
        if origin in _LISTS or origin in _MAPPINGS:
            continue  # of whatever: it is a list or a mapping
        if origin is not typing.Literal and not (isinstance(part, type) and part in _WORDS and not inner):
            return False
    return True


def _plain(hint: Any) -> bool:
    """Whether a hint is known, and what lists and mappings are to hold as well."""
    inner = [
        of for part in _parts(hint) for of in typing.get_args(part) if typing.get_origin(part) is not typing.Literal
    ]
    return _known(hint) and all(of is Ellipsis or _known(of) for of in inner)


def _fits(value: object, hint: Any) -> bool:
    return any(_fits_part(value, part) for part in _parts(hint))


def _fits_part(value: Any, part: Any) -> bool:
    origin, inner = typing.get_origin(part), typing.get_args(part)
    if origin is typing.Literal:
        return value in inner and not (isinstance(value, bool) and True not in inner and False not in inner)
    if isinstance(value, Mapping) and "_target_" in value:  # what it makes is seen when it is made
        return True
    if origin is tuple and Ellipsis not in inner:
        return isinstance(value, list | tuple) and len(value) == len(inner) and all(map(_fits_known, value, inner))
    if origin in _LISTS:
        return isinstance(value, list | tuple) and all(_fits_known(item, inner[0]) for item in value)
    if origin in _MAPPINGS:
        return isinstance(value, Mapping) and all(_fits_known(item, inner[1]) for item in value.values())
    if isinstance(value, bool):  # which Python counts as a whole number
        return part is bool
    if part is Path:
        return isinstance(value, str | Path)
    return isinstance(value, part) or (part is float and isinstance(value, int))


def _fits_known(value: object, hint: Any) -> bool:
    return not _known(hint) or _fits(value, hint)


def _is_bare(value: object) -> bool:
    return isinstance(value, bool | int | float)


def shown(value: object) -> str:
    """A plain value as the command line has it: ``null``, ``true``, ``[1,2]``."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(shown, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _in_words(hint: Any) -> str:
    return " or ".join(dict.fromkeys(_part_in_words(part) for part in _parts(hint)))


def _part_in_words(part: Any) -> str:
    origin, inner = typing.get_origin(part), typing.get_args(part)
    if origin is typing.Literal:
        return " or ".join(map(str, inner))
    if origin in _LISTS or origin in _MAPPINGS:
        of = inner[-1] if origin in _MAPPINGS or Ellipsis not in inner else inner[0]
        kind = "a mapping such as {train: ...}" if origin in _MAPPINGS else "a list such as [...]"
        counted = f"{kind} of {len(inner)}" if origin is tuple and Ellipsis not in inner else kind
        return f"{counted}, each {_in_words(of)}" if _known(of) else counted
    return _WORDS[part]


def _otherwise(hint: Any) -> str:
    """What else than a number may stand there."""
    parts = [part for part in _parts(hint) if _known(part) and not (_mentions(part, int) or _mentions(part, float))]
    others = [_part_in_words(part) for part in parts]
    return "".join(f" or {other}" for other in others)


def _hints(target: str) -> dict[str, Any]:
    """Types of a target's arguments by name; none where they cannot be found out, for Hydra will say why."""
    try:
        found = pkgutil.resolve_name(target)
        return typing.get_type_hints(vars(found).get("__init__", found) if isinstance(found, type) else found)
    except (ImportError, AttributeError, NameError, TypeError, ValueError):
        return {}
