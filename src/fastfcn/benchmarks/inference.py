"""``task=inference``: what each switch buys one model, Table 2's rows beside the paper's, or all upsamplers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fastfcn.benchmarks import figures, tables
from fastfcn.benchmarks.bench import Bench, sizes_of
from fastfcn.benchmarks.inference_arms import KEPT, PLAIN, Row, make_arms, rows
from fastfcn.benchmarks.measuring import Measured, not_measured
from fastfcn.benchmarks.models_measured import Named, build, chosen, groups_of_table_2, groups_of_upsamplers
from fastfcn.benchmarks.rates import Rates
from fastfcn.benchmarks.table2 import table_2
from fastfcn.errors import UserError
from fastfcn.summary import ModelSummary, summarise

_log = logging.getLogger(__name__)

#: Of several models: what the paper measured, the code without switches, and all switches of eager float32.
SEVERAL_ARMS = (PLAIN, "as it is, channels_last", KEPT)


def run(
    *,
    bench: Bench,
    image_size: Sequence[int] = (512, 512),
    batch: int = 1,
    models: Literal["chosen", "table2", "upsamplers"] = "chosen",
    arms: Sequence[str] | None = None,
    depths: Sequence[int] = (50, 101),
) -> dict[str, Any]:
    """Measure predictions; write inference.json, inference.md and a plot; the tables anew after each group of models.

    Args:
        bench: Models, device, protocol.
        image_size: (height, width) in pixels.
        batch: Images of a prediction.
        models: The chosen one by all arms; or the rows of the paper's Table 2, which are measured together where head
            and depth are the same; or the Encoding head behind every upsampler, together where the depth is the same.
        arms: Names of the rows wanted, as the table has them; the plain one is always among them. None: all of them
            for the chosen model, and plain and the fastest in eager float32 for several.
        depths: Of the backbones of several models, those of Table 2.

    Returns:
        What the JSON file holds.

    Raises:
        UserError: An option that does not exist, or numbers that make no sense.
    """
    height, width = sizes_of("image_size", image_size, 2)
    sizes_of("batch", [batch])
    wanted = choose(rows(bench.device), SEVERAL_ARMS if arms is None and models != "chosen" else arms)
    groups = _groups(bench, models, tuple(depths))
    rates = bench.rates(row.precision for row in wanted)
    where = f"{height} x {width} pixels, batch {batch}, {bench.num_classes} classes"
    found: dict[Named, list[Measured]] = {}
    summaries: dict[str, ModelSummary] = {}
    written: dict[str, Any] = {}
    for number, group in enumerate(groups, 1):
        if len(groups) > 1:
            _log.info("%s of %s: %s ...", number, len(groups), ", ".join(named.label for named in group))
        found |= measure_group(bench, group, wanted, rates, size=(height, width), batch=batch)
        for named in group:
            summaries[named.label] = summarise(build(bench, named), image_size=(height, width))
        record = {
            "task": "inference",
            "image_size": [height, width],
            "batch": batch,
            "rates": rates._asdict(),
            "models": [_of_model(named, measured, summaries[named.label]) for named, measured in found.items()],
        }
        text = [
            f"# Inference, {where}",
            *_beside_table_2(found, wanted, models),
            *_tables(found, ladder=models == "chosen" and arms is None),
            "## Parameters and operations of one image",
            tables.parts(summaries),
            tables.how(bench, rates),
        ]
        # What a group took minutes for is kept, whatever comes after.
        written = bench.write("inference", record, "\n\n".join(text), shown=number == len(groups))
    if bench.out is not None:
        figures.fps_and_miou(found, bench.out / "inference.png", below=f"{tables.device_name(bench)}, {where}")
    return written


def _of_model(named: Named, measured: Sequence[Measured], summary: ModelSummary) -> dict[str, Any]:
    """A model's part of the JSON file."""
    return {
        **named._asdict(),
        "paper_fps": named.fps,
        "paper_miou": named.miou,
        "parts": summary.as_dict(),
        "arms": [each.as_dict() for each in measured],
    }


def _beside_table_2(found: Mapping[Named, Sequence[Measured]], wanted: Sequence[Row], models: str) -> list[str]:
    if models == "upsamplers":
        return ["## The upsamplers, beside the paper's Table 2 where it has them", table_2(found, wanted)]
    if any(named.fps is not None for named in found):
        return ["## Beside the paper's Table 2", table_2(found, wanted)]
    return []


def _tables(found: Mapping[Named, Sequence[Measured]], *, ladder: bool) -> list[str]:
    return [
        part
        for named, measured in found.items()
        for part in (
            f"## {named.label}",
            tables.speeds(measured, reference=PLAIN, ladder=ladder),
            tables.limits(measured),
        )
    ]


def _groups(bench: Bench, models: str, depths: tuple[int, ...]) -> list[list[Named]]:
    if models == "chosen":
        return [[chosen(bench)]]
    if models == "table2":
        return groups_of_table_2(depths)
    if models == "upsamplers":
        return groups_of_upsamplers(depths)
    raise UserError(
        f"task.models={models}: choose chosen, table2 for the rows of the paper's Table 2, or upsamplers for all."
    )


def measure_group(
    bench: Bench, group: Sequence[Named], wanted: Sequence[Row], rates: Rates, *, size: tuple[int, int], batch: int
) -> dict[Named, list[Measured]]:
    """Measure all arms of several models, all of them taking turns in one run."""
    image = bench.image(*size, batch=batch)
    arms, missing = [], {}
    for named in group:
        made, absent = make_arms(build(bench, named), image, wanted, label=f"{named.label}: ")
        arms += made
        missing.update(absent)
    measured = {each.name: each for each in bench.measure(arms, rates)}
    found = {}
    for named in group:
        own = []
        for row in wanted:
            name = f"{named.label}: {row.name}"
            if name in measured:
                own.append(measured[name].renamed(row.name))
            else:
                own.append(not_measured(row.name, missing[name][1], precision=row.precision))
        found[named] = own
    return found


def choose(known: Sequence[Row], names: Sequence[str] | None) -> list[Row]:
    """The rows of these names, the plain one first; None is all.

    Raises:
        UserError: There is no row of a name.
    """
    if names is None:
        return list(known)
    unknown = [name for name in names if name not in {row.name for row in known}]
    if unknown:
        raise UserError(f"task.arms: there is no arm {unknown[0]!r}: choose among {', '.join(r.name for r in known)}.")
    return [row for row in known if row.name == PLAIN or row.name in names]
