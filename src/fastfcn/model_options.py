"""What two models of the same weights may still differ in: options that change no shape of any of them."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

TARGET = "_target_"

#: Where weights come from before a training, which says nothing of what the model computes.
_BEGINNING = "backbone.weights"

#: Parts that are groups of the configuration, and keys of their own there.
_GROUPS = ("backbone", "upsample", "head")

#: Options that the configuration gives by a key of its root.
_AT_THE_ROOT = {"backbone.output_stride": "output_stride", "head.kernel_size": "head_kernel_size"}

_UNKNOWN = object()


class Difference(NamedTuple):
    """An option that differs.

    Attributes:
        key: As it is given on the command line: ``backbone.dilate``, ``model.align_corners``; it ends with `TARGET`
            where the two have other parts there.
        own: The value here.
        theirs: The value there.
    """

    key: str
    own: Any
    theirs: Any


def differences(own: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Difference]:
    """Compare two models' configurations, resolved and plain; the classes that the first one names can be imported.

    An option that one of them does not name has the default of its class; where there is none, nothing is said.
    """
    return list(_compare(own, theirs, ())) if own else []  # a program's own model has no configuration


def _compare(own: Mapping[str, Any], theirs: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Difference]:
    if own.get(TARGET) != theirs.get(TARGET):
        yield Difference(_key((*path, TARGET)), own.get(TARGET), theirs.get(TARGET))
        return
    defaults = _defaults(own.get(TARGET))
    for name in dict.fromkeys([*own, *theirs]):
        key = _key((*path, name))
        value, other = (_plain(config.get(name, defaults.get(name, _UNKNOWN))) for config in (own, theirs))
        if name.startswith("_") or key == _BEGINNING or _UNKNOWN in (value, other):
            continue
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            yield from _compare(value, other, (*path, name))
        elif value != other:
            yield Difference(key, value, other)


def _key(path: tuple[str, ...]) -> str:
    key = ".".join(path if path[0] in _GROUPS else ("model", *path))
    return _AT_THE_ROOT.get(key, key)


def _defaults(target: str | None) -> dict[str, Any]:
    """The defaults of a class's arguments."""
    if target is None:
        return {}
    parameters = inspect.signature(pkgutil.resolve_name(target)).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}


def _plain(value: Any) -> Any:
    """Defaults are tuples where files have lists."""
    return list(value) if isinstance(value, tuple) else value
