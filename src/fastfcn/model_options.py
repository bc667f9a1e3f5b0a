"""What two models of the same weights may still differ in: options that change no shape of any of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

#: Where weights come from before a training, which says nothing of what the model computes.
_BEGINNING = frozenset({"weights"})

#: Parts that are groups of the configuration, and keys of their own there.
_GROUPS = ("backbone", "upsample", "head")


class Difference(NamedTuple):
    """An option that differs.

    Attributes:
        key: As it is given on the command line: ``backbone.dilate``, ``model.align_corners``.
        own: The value here.
        theirs: The value there.
    """

    key: str
    own: Any
    theirs: Any


def differences(own: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Difference]:
    """Compare two models' configurations, resolved and plain, by the options that both have.

    An option that one of them does not name came into being after it was written, or is a default: nothing is said.
    """
    return list(_compare(own, theirs, ()))


def _compare(own: Mapping[str, Any], theirs: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Difference]:
    for name, value in own.items():
        if name not in theirs or name in _BEGINNING:
            continue
        other, here = theirs[name], (*path, name)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            yield from _compare(value, other, here)
        elif value != other:
            yield Difference(".".join(here if here[0] in _GROUPS else ("model", *here)), value, other)
