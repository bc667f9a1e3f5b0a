"""Our speeds in the form of the paper's Table 2, the paper's beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastfcn.benchmarks.inference_arms import Row
from fastfcn.benchmarks.measuring import Measured
from fastfcn.benchmarks.models_measured import Named
from fastfcn.report import paper
from fastfcn.report.tables import Column, markdown, number


def table_2(found: Mapping[Named, Sequence[Measured]], wanted: Sequence[Row]) -> str:
    """A line per model: the paper's mIoU, FPS and ratio to the dilated model, and FPS and ratio of each of our arms.

    Args:
        found: what was measured, by model; the arms of `wanted` in its order.
        wanted: the arms.
    """
    names = list(found)
    dilated = [named._replace(upsample="none") for named in names]
    columns = [
        Column("backbone", tuple(named.backbone for named in names), text=True),
        Column("head", tuple(named.head for named in names), text=True),
        Column("upsampling", tuple(named.upsample for named in names), text=True),
        Column("paper's mIoU", tuple(number(named.miou) for named in names)),
        Column("paper's FPS", tuple(number(named.fps) for named in names)),
        Column("times none", tuple(_times(n.fps, d.fps) for n, d in zip(names, dilated, strict=True))),
    ]
    for index, row in enumerate(wanted):
        if all(measured[index].timing is None for measured in found.values()):
            continue
        ours = {named: measured[index].per_second for named, measured in found.items()}
        columns += [
            Column(f"FPS, {row.name}", tuple(number(ours[named]) for named in names)),
            Column("times none", tuple(_times(ours[n], ours.get(d)) for n, d in zip(names, dilated, strict=True))),
        ]
    columns = [column for column in columns if any(cell != "-" for cell in column.cells)]
    note = (
        "Ratios are to the dilated model (`none`) of the same head and backbone, within one run. The paper's FPS were "
        "measured on a Titan Xp at 512 x 512, batch 1, as the mean of 100 predictions; its mIoU is that of Table 1."
    )
    if any(paper.depth(named.backbone) and not named.backbone.endswith("s") for named in names):
        note += " The paper's ResNets have a stem of three 3x3 convolutions, those without an s one of 7x7."
    return f"{markdown(columns)}\n\n{note}"


def _times(value: float | None, base: float | None) -> str:
    return "-" if value is None or base is None else f"{value / base:.2f}"
