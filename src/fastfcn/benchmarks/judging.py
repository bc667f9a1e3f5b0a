"""Targets of speed, and whether what was measured reaches them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fastfcn.benchmarks.measuring import Measured
from fastfcn.report.tables import Column, markdown


class Target(NamedTuple):
    """A line of the table.

    Attributes:
        what: is compared.
        wanted: the least ratio; or the most, where `most` is set.
        measured: the ratio; None where it was not measured, for the reason in `by`.
        by: the arm that reached it, or the reason.
        most: whether less is better.
    """

    what: str
    wanted: float
    measured: float | None
    by: str
    most: bool = False

    @property
    def met(self) -> bool | None:
        """Whether it is reached; None where it was not measured."""
        if self.measured is None:
            return None
        return self.measured <= self.wanted if self.most else self.measured >= self.wanted


def table(targets: Sequence[Target]) -> str:
    """Target against measured."""
    answers = {True: "yes", False: "no", None: "not measured"}
    columns = [
        Column("what", tuple(target.what for target in targets), text=True),
        Column("target", tuple(f"{'at most' if t.most else 'at least'} {_number(t.wanted)}" for t in targets)),
        Column("measured", tuple("-" if t.measured is None else _number(t.measured) for t in targets)),
        Column("met", tuple(answers[target.met] for target in targets), text=True),
        Column("by", tuple(target.by for target in targets), text=True),
    ]
    return markdown(columns)


def fastest(
    what: str, wanted: float, found: Sequence[Measured], precision: str | None, *, plain: Measured | None = None
) -> Target:
    """How many times as fast as the plain arm the fastest arm of a precision is.

    Arms whose output agrees too little count for nothing.

    Args:
        what: Is compared.
        wanted: The least ratio.
        found: The arms; the first is the plain one, unless `plain` is given.
        precision: Of the arms that count; None is any.
        plain: The plain arm where it is not among them.
    """
    base, rivals = (found[0], found[1:]) if plain is None else (plain, found)
    of = [each for each in rivals if precision in (None, each.precision) and not each.name.startswith("plain")]
    fine = [each for each in of if each.seconds is not None and (each.agreement is None or each.agreement.fine)]
    if base.seconds is None or not fine:
        disagreeing = [f"{e.name} agrees too little" for e in of if e.seconds is not None]
        reasons = [base.note] * (base.seconds is None) + [f"{e.name}: {e.note}" for e in of if e.note] + disagreeing
        return Target(what, wanted, None, "; ".join(reason for reason in reasons if reason) or "there is no such arm")
    best = min(fine, key=lambda each: each.seconds or 0.0)
    assert best.seconds is not None
    return Target(what, wanted, base.seconds / best.seconds, best.name)


def lightest(what: str, wanted: float, found: Sequence[Measured]) -> Target:
    """The part of the plain arm's tensors that the lightest other arm holds at its peak."""
    known = [
        (each.peak.tensors, each)
        for each in found
        if each.peak is not None and each.peak.tensors is not None and (each.agreement is None or each.agreement.fine)
    ]
    if len(known) < 2 or known[0][1] is not found[0]:
        return Target(what, wanted, None, found[0].note or "the peak was not measured", most=True)
    least, best = min(known[1:], key=lambda pair: pair[0])
    return Target(what, wanted, least / known[0][0], best.name, most=True)


def same(what: str, wanted: float, found: Sequence[Measured]) -> Target:
    """The largest difference of any but the plain arm's output from the reference, relative to its largest value."""
    known = [each for each in found[1:] if each.agreement is not None]
    if not known:
        return Target(what, wanted, None, "nothing was compared", most=True)
    worst = max(known, key=lambda each: each.agreement.error if each.agreement else 0.0)
    assert worst.agreement is not None
    return Target(what, wanted, worst.agreement.error, worst.name, most=True)


def _number(value: float) -> str:
    return f"{value:.1e}" if value < 1e-3 else f"{value:.3f}" if value < 1 else f"{value:.2f}"
