"""What a search may vary: ranges of numbers, and choices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastfcn.errors import UserError

_FORMS = "{low: 1e-4, high: 0.1, log: true} or a list of values"


class Range(NamedTuple):
    """Numbers from ``low`` to ``high``, both included; whole ones where all of its fields are whole.

    Attributes:
        low: the smallest.
        high: the largest.
        log: every factor is as likely as another, instead of every difference.
        step: distance of the numbers that may be taken; None for all, for whole numbers 1.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether its numbers are whole."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step or 1))

    def __str__(self) -> str:
        more = ("on a log scale" if self.log else "", f"in steps of {self.step}" if self.step is not None else "")
        return " ".join([f"{self.low} to {self.high}", *filter(None, more)])


class Choice(NamedTuple):
    """One of several values.

    Attributes:
        options: as the command line has them.
    """

    options: tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join(self.options)


Parameter = Range | Choice
Space = Mapping[str, Parameter]


def read_range(key: str, given: Mapping[str, Any]) -> Range:
    """Read ``{low: 1e-4, high: 0.1, log: true}``.

    Args:
        key: which setting varies, for messages.
        given: ``low`` and ``high``; ``log`` or ``step`` where wanted.

    Raises:
        UserError: it is no range.
    """
    unknown = sorted(set(given) - set(Range._fields))
    if unknown or not {"low", "high"} <= set(given):
        what = f"{unknown[0]} is not known" if unknown else "low and high are both needed"
        raise UserError(f"the search space of {key} is {dict(given)}, {what}: give {_FORMS}.")
    log, step = given.get("log", False), given.get("step")
    if not isinstance(log, bool):
        raise UserError(f"the search space of {key} has log={log}: give true or false.")
    for name, value in (("low", given["low"]), ("high", given["high"]), ("step", 1 if step is None else step)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"the search space of {key} has {name}={value}: give a number.")
    return _checked(key, Range(given["low"], given["high"], log, step))


def read_choice(key: str, options: Sequence[str]) -> Choice:
    """Read the values of a choice, each as the command line has it.

    Raises:
        UserError: there is nothing to choose between.
    """
    different = tuple(dict.fromkeys(options))
    if len(different) < 2:
        raise UserError(
            f"the search space of {key} has {len(different)} value: give at least two, or fix it by {key}=... on the "
            "command line."
        )
    return Choice(different)


def wrong_form(key: str, given: object) -> UserError:
    """The sentence for what is neither a range nor a choice."""
    return UserError(
        f"the search space of {key} is {given}: give {_FORMS}, or fix it by {key}=... on the command line."
    )


def extremes(parameter: Parameter) -> tuple[str, ...]:
    """The values of a parameter between which all others lie, as the command line has them: all those of a choice."""
    return parameter.options if isinstance(parameter, Choice) else (text(parameter.low), text(parameter.high))


def text(value: float | str) -> str:
    """A value as the command line has it."""
    return value if isinstance(value, str) else repr(value)


def plain(space: Space) -> dict[str, Any]:
    """The space in lists and numbers, as a file keeps it."""
    return {
        key: list(parameter.options) if isinstance(parameter, Choice) else parameter._asdict()
        for key, parameter in space.items()
    }


def _checked(key: str, parameter: Range) -> Range:
    low, high, log, step = parameter
    if low >= high:
        raise UserError(f"the search space of {key} goes from low={low} to high={high}: low is to be the smaller one.")
    if log and low <= 0:
        raise UserError(f"the search space of {key} has log: true and low={low}: a log scale begins above 0.")
    if log and step is not None:
        raise UserError(f"the search space of {key} has both log and step: give one of the two.")
    if step is None:
        return parameter
    if not 0 < step <= high - low:
        raise UserError(f"the search space of {key} has step={step}: give one between 0 and {high - low}.")
    # The largest that the steps reach; the small addition is for steps such as 0.1, which no float is exactly.
    steps = math.floor((high - low) / step + 1e-9)
    return parameter._replace(high=low + steps * step)
