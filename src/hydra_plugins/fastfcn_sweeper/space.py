"""What a search varies, from YAML and from Hydra's own sweep syntax on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Sweep, Transformer

from fastfcn.errors import UserError
from fastfcn.search.space import Choice, Parameter, Range, read_choice, read_range, wrong_form


def read_space(
    given: Mapping[str, Any], arguments: Sequence[str], parser: OverridesParser
) -> tuple[dict[str, Parameter], tuple[str, ...]]:
    """Read what varies and what does not.

    Args:
        given: key -> ``{low, high, log, step}``, a list of values, or Hydra's sweep syntax as text.
        arguments: of the command line. One with several values varies too, ``optim.lr=interval(1e-4,0.1)``; one with a
            single value fixes what the space has of its key.
        parser: Hydra's.

    Returns:
        The space, and the arguments that are the same for all trials.

    Raises:
        UserError: a part of it is none, or nothing varies.
    """
    space = {key: _from_yaml(key, value, parser) for key, value in given.items()}
    fixed: list[str] = []
    for item in parser.parse_overrides(list(arguments)):
        key = item.get_key_element()
        if item.is_sweep_override():
            space[key] = _from_override(item)
        else:
            space.pop(key.lstrip("+"), None)
            fixed.append(str(item.input_line))
    if not space:
        raise UserError(
            "the search space is empty: give ranges in hydra.sweeper.space, or on the command line, such as "
            "'optim.lr=tag(log, interval(1e-4, 0.1))' upsample=bilinear,jpu."
        )
    return space, tuple(fixed)


def _from_yaml(key: str, value: Any, parser: OverridesParser) -> Parameter:
    if isinstance(value, Mapping):
        return read_range(key, value)
    if isinstance(value, list):
        return read_choice(key, [Transformer.str(option) for option in value])
    if isinstance(value, str):
        item = parser.parse_override(f"{key}={value}")
        if item.is_sweep_override():
            return _from_override(item)
    raise wrong_form(key, value)


def _from_override(item: Override) -> Parameter:
    key, value = item.get_key_element(), item.value()
    tags = value.tags if isinstance(value, Sweep) else set()
    if unknown := sorted(tags - {"log"}):
        raise UserError(f"the search space of {key} has the tag {unknown[0]}: log is the only one.")
    log = "log" in tags
    if isinstance(value, IntervalSweep):
        return read_range(key, {"low": value.start, "high": value.end, "log": log})
    if isinstance(value, RangeSweep):
        return _steps(key, item, value, log=log)
    if log:
        raise UserError(f"the search space of {key} is a choice: the tag log is for interval(...).")
    return read_choice(key, list(item.sweep_string_iterator()))


def _steps(key: str, item: Override, value: RangeSweep, *, log: bool) -> Range | Choice:
    """``range(1, 9, 2)``, without its end as in Python."""
    numbers = sorted(cast("list[float]", list(item.sweep_iterator())))
    if len(numbers) < 2:
        return read_choice(key, [str(number) for number in numbers])  # which says that it is too few
    return read_range(key, {"low": numbers[0], "high": numbers[-1], "step": abs(value.step), "log": log})
