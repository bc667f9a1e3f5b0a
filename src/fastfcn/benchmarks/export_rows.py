"""Exported models as rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fastfcn.benchmarks import tables
from fastfcn.benchmarks.protocol import Timing
from fastfcn.exporting.comparison import Agreement
from fastfcn.exporting.request import Precision
from fastfcn.report.tables import Column, markdown, number


@dataclass(kw_only=True)
class Row:
    """A row of the table.

    Attributes:
        name: of it.
        predict: normalised images -> logits or classes; None where it cannot be made here, for the reason in `note`.
        precision: of the file.
        mib: size of the file with its weights.
        agreement: with the reference.
        timing: of a call.
        note: what else there is to say.
    """

    name: str
    predict: Callable[[Tensor], Tensor] | None = None
    precision: Precision = "fp32"
    mib: float | None = None
    agreement: Agreement | None = None
    timing: Timing | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file; times in milliseconds."""
        return {
            "name": self.name,
            "precision": self.precision,
            "mib": self.mib,
            "milliseconds": None if self.timing is None else self.timing._asdict(),
            "agreement": None if self.agreement is None else self.agreement._asdict(),
            "note": self.note,
        }


def table(rows: Sequence[Row]) -> str:
    """The rows, with ratios to the first."""
    base = rows[0]
    seconds = [None if row.timing is None else row.timing.median / 1000 for row in rows]
    columns = [
        Column("model", tuple(row.name for row in rows), text=True),
        Column("precision", tuple(row.precision for row in rows), text=True),
        Column("MiB", tuple(number(row.mib, 1) for row in rows)),
        Column("ms", tuple(number(None if row.timing is None else row.timing.median) for row in rows)),
        Column("p10 to p90", tuple(_between(row.timing) for row in rows)),
        Column(f"times {base.name}", tuple(tables.ratio(seconds[0], each) for each in seconds)),
        Column("largest difference", tuple("-" if r.agreement is None else f"{r.agreement.error:.1e}" for r in rows)),
        Column("same class", tuple(_same(row) for row in rows)),
    ]
    notes = [f"- {row.name}: {row.note}" for row in rows if row.note]
    return "\n".join([markdown(columns), *([""] if notes else []), *notes])


def _between(timing: Timing | None) -> str:
    if timing is None:
        return "-"
    return f"{timing.p10:,.2f} to {timing.p90:,.2f}{'' if timing.steady else ' (not steady)'}"


def _same(row: Row) -> str:
    if row.agreement is None or row.agreement.same is None:
        return "-"
    return f"{100 * row.agreement.same:.2f}%{'' if row.agreement.fine else ' (too little)'}"
