"""``task=inference``: what each switch buys one model, Table 2's rows beside the paper's, or all upsamplers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from fastfcn.benchmarks import figures, tables
from fastfcn.benchmarks.bench import Bench, sizes_of
from fastfcn.benchmarks.inference_arms import PLAIN, Row, make_arms, rows
from fastfcn.benchmarks.measuring import Measured, not_measured
from fastfcn.benchmarks.models_measured import Named, build, chosen, groups_of_table_2, groups_of_upsamplers
from fastfcn.benchmarks.rates import Rates
from fastfcn.benchmarks.table2 import table_2
from fastfcn.errors import UserError
from fastfcn.summary import summarise

#: Of several models: what the paper measured, the code without switches, and all switches of eager float32.
SEVERAL_ARMS = (PLAIN, "as it is, channels_last", "+ onednn")


def run(
    *,
    bench: Bench,
    image_size: Sequence[int] = (512, 512),
    batch: int = 1,
    models: Literal["chosen", "table2", "upsamplers"] = "chosen",
    arms: Sequence[str] | None = None,
    depths: Sequence[int] = (50, 101),
) -> dict[str, Any]:
    """Measure predictions; write inference.json, inference.md and a plot.

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
    found: dict[Named, list[Measured]] = {}
    summaries = {}
    for group in groups:
        found |= measure_group(bench, group, wanted, rates, size=(height, width), batch=batch)
        for named in group:
            summaries[named.label] = summarise(build(bench, named), image_size=(height, width))
    record = {
        "task": "inference",
        "image_size": [height, width],
        "batch": batch,
        "rates": rates._asdict(),
        "models": [
            {
                **named._asdict(),
                "paper_fps": named.fps,
                "paper_miou": named.miou,
                "parts": summaries[named.label].as_dict(),
                "arms": [each.as_dict() for each in measured],
            }
            for named, measured in found.items()
        ],
    }
    where = f"{height} x {width} pixels, batch {batch}, {bench.num_classes} classes"
    text = [f"# Inference, {where}"]
    if models == "upsamplers":
        text += ["## The upsamplers, beside the paper's Table 2 where it has them", table_2(found, wanted)]
    elif any(named.fps is not None for named in found):
        text += ["## Beside the paper's Table 2", table_2(found, wanted)]
    for named, measured in found.items():
        text += [
            f"## {named.label}",
            tables.speeds(measured, reference=PLAIN, ladder=models == "chosen" and arms is None),
            tables.limits(measured),
        ]
    text += ["## Parameters and operations of one image", tables.parts(summaries), tables.how(bench, rates)]
    if bench.out is not None:
        figures.fps_and_miou(found, bench.out / "inference.png", below=f"{tables.device_name(bench)}, {where}")
    return bench.write("inference", record, "\n\n".join(text))


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
