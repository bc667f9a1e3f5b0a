"""``task=scaling``: how the cost of a prediction grows with pixels, batch and classes, by upsampler and stride."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from fastfcn.benchmarks import figures, tables
from fastfcn.benchmarks.bench import Bench, sizes_of
from fastfcn.benchmarks.fits import Fit, fit
from fastfcn.benchmarks.inference import choose
from fastfcn.benchmarks.inference_arms import KEPT, PLAIN, Row, make_arms, rows
from fastfcn.benchmarks.measuring import Measured, not_measured
from fastfcn.benchmarks.memory import USABLE, free
from fastfcn.benchmarks.models_measured import Named, build, chosen
from fastfcn.benchmarks.rates import Rates
from fastfcn.errors import UserError
from fastfcn.report.tables import Column, markdown, number

_log = logging.getLogger(__name__)

AXES = ("pixels", "batch", "classes")

#: Calls of an arm besides those that are timed: check, count, memory twice, warm-up, and its part of the settling.
_BESIDES = 8


class Point(NamedTuple):
    """What is measured together.

    Attributes:
        axis: pixels, batch or classes.
        amount: along it.
        size: side of the image in pixels.
        batch: images.
        classes: of the logits.
    """

    axis: str
    amount: int
    size: int
    batch: int
    classes: int


def run(
    *,
    bench: Bench,
    sizes: Sequence[int] = (256, 512, 1024, 2048),
    batches: Sequence[int] = (1, 2, 4, 8, 16, 32),
    classes: Sequence[int] = (19, 59, 150, 847),
    upsamplers: Sequence[str] = ("none", "bilinear", "fpn", "jpu", "jpu_x"),
    arms: Sequence[str] = ("as it is, channels_last", KEPT),
    size: int = 256,
    budget_s: float = 1800.0,
) -> dict[str, Any]:
    """Measure along three axes; write scaling.json, scaling.md and a plot of time against the size of the image.

    At each point all upsamplers and arms take turns. What would exceed the memory or the time, judged by the point
    before, is left out with a note. Outputs are compared with the plain formulation's at each axis' first point, and
    wherever that is an arm itself. The files are written anew after each axis.

    Args:
        bench: Backbone, head, device, protocol.
        sizes: Sides of the image in pixels, batch 1.
        batches: Images together.
        classes: Of the logits.
        upsamplers: Of conf/upsample; `none` has output stride 8, all others 32.
        arms: Names of rows of task=inference, those alone.
        size: Side of the images along the axes of batches and classes.
        budget_s: Seconds that all may take.

    Returns:
        What the JSON file holds.

    Raises:
        UserError: An option that does not exist, or numbers that make no sense.
    """
    for key, values in {"sizes": sizes, "batches": batches, "classes": classes, "size": [size]}.items():
        sizes_of(key, values)
    if budget_s <= 0 or not upsamplers:
        raise UserError(f"task.budget_s={budget_s}, task.upsamplers={list(upsamplers)}: give seconds and upsamplers.")
    if min(classes) < 2:
        raise UserError(f"task.classes={list(classes)}: segmentation needs at least 2 classes.")
    wanted = [row for row in choose(rows(bench.device), arms) if row.name in arms]
    if not wanted:
        raise UserError("task.arms=[]: name at least one row of task=inference.")
    rates = bench.rates(row.precision for row in wanted)
    models = [chosen(bench)._replace(upsample=name) for name in upsamplers]
    until = time.monotonic() + budget_s
    titles = {
        "pixels": f"Size of the image: batch 1, {bench.num_classes} classes",
        "batch": f"Batch: {size} x {size} pixels, {bench.num_classes} classes",
        "classes": f"Classes: {size} x {size} pixels, batch 1",
    }
    text = [f"# How the cost of a prediction grows, {bench.chosen['backbone']}, {bench.chosen['head']} head"]
    record: dict[str, Any] = {
        "task": "scaling",
        "backbone": bench.chosen["backbone"],
        "head": bench.chosen["head"],
        "rates": rates._asdict(),
        "axes": {},
    }
    written: dict[str, Any] = {}
    for axis in AXES:
        curves: dict[str, list[tuple[int, Measured]]] = {f"{m.upsample}: {r.name}": [] for m in models for r in wanted}
        for point in _points(axis, sizes, batches, classes, size=size, standard=bench.num_classes):
            _log.info("%s: %s ...", axis, f"{point.amount:,}")
            _measure(bench, rates, models, wanted, point, curves, until)
        fits = _fits(curves)
        if axis == "pixels" and bench.out is not None:
            figures.time_and_size(curves, fits, bench.out / "scaling.png")
        record["axes"][axis] = {
            arm: {
                "fit": None if arm not in fits else fits[arm]._asdict(),
                "points": [{"amount": amount, **each.as_dict()} for amount, each in curve],
            }
            for arm, curve in curves.items()
        }
        text += [f"## {titles[axis]}", _table(axis, curves), _fit_table(axis, curves, fits)]
        # What an axis took minutes for is kept, whatever comes after.
        whole = "\n\n".join([*text, tables.how(bench, rates)])
        written = bench.write("scaling", record, whole, shown=axis == AXES[-1])
    return written


def _points(
    axis: str, sizes: Sequence[int], batches: Sequence[int], classes: Sequence[int], *, size: int, standard: int
) -> Iterator[Point]:
    for side in sorted(set(sizes)) if axis == "pixels" else ():
        yield Point(axis, side * side, side, 1, standard)
    for batch in sorted(set(batches)) if axis == "batch" else ():
        yield Point(axis, batch, size, batch, standard)
    for number_of in sorted(set(classes)) if axis == "classes" else ():
        yield Point(axis, number_of, size, 1, number_of)


def _measure(
    bench: Bench,
    rates: Rates,
    models: Sequence[Named],
    wanted: Sequence[Row],
    point: Point,
    curves: dict[str, list[tuple[int, Measured]]],
    until: float,
) -> None:
    """Add a point to the curves: measured, or with the reason why not."""
    image = bench.image(point.size, point.size, batch=point.batch)
    arms = []
    left = until - time.monotonic()
    for model in models:
        fitting = []
        for row in wanted:
            curve = curves[f"{model.upsample}: {row.name}"]
            reason, cost = _forecast(bench, curve, point, left)
            if reason:
                curve.append((point.amount, not_measured(f"{model.upsample}: {row.name}", reason)))
            else:
                left -= cost
                fitting.append(row)
        if not fitting:
            continue
        built = build(bench, model, num_classes=point.classes)
        # The plain arm is the reference of the others' outputs; where it may not fit, nothing is compared.
        first = not curves[f"{model.upsample}: {fitting[0].name}"]
        compared = first or any(row.name == PLAIN for row in fitting)
        made, missing = make_arms(built, image, fitting, label=f"{model.upsample}: ", compared=compared)
        arms += made
        for name, (row, why) in missing.items():
            curves[name].append((point.amount, not_measured(name, why, precision=row.precision)))
    try:
        measured = bench.measure(arms, rates)
    except torch.OutOfMemoryError:
        measured = [not_measured(arm.name, "out of the device's memory", precision=arm.precision) for arm in arms]
    for each in measured:
        curves[each.name].append((point.amount, each))


def _forecast(bench: Bench, curve: Sequence[tuple[int, Measured]], point: Point, left: float) -> tuple[str, float]:
    """Why a point is not measured, by what the one before took; empty where it is. And the seconds it will take."""
    if left <= 0:
        return "the time that budget_s gives is over", 0.0
    if not curve:
        return "", 0.0
    amount, before = curve[-1]
    if before.seconds is None:
        return "the point before was not measured", 0.0
    growth = point.amount / amount if point.axis != "classes" else max(1.0, point.amount / amount / 4)
    seconds = before.seconds * growth
    cost = seconds * (bench.plan.calls(1000 * seconds) + _BESIDES)
    if cost > left:
        return f"it would take about {cost:,.0f} s, more than budget_s leaves", 0.0
    memory = free(bench.device)
    peak = None if before.peak is None else before.peak.tensors or before.peak.resident
    if memory is not None and peak is not None and peak * growth * 2**20 > USABLE * memory:
        return f"it would take about {peak * growth / 1024:,.1f} GiB, more than is free", 0.0
    return "", cost


def _fits(curves: dict[str, list[tuple[int, Measured]]]) -> dict[str, Fit]:
    found = {}
    for name, curve in curves.items():
        known = [(amount, each.seconds) for amount, each in curve if each.seconds is not None]
        line = fit(*zip(*known, strict=True)) if known else None
        if line is not None:
            found[name] = line
    return found


def _table(axis: str, curves: dict[str, list[tuple[int, Measured]]]) -> str:
    lines = [(name, amount, each) for name, curve in curves.items() for amount, each in curve]
    columns = [
        Column("arm", tuple(name for name, _, _ in lines), text=True),
        Column(axis, tuple(f"{amount:,}" for _, amount, _ in lines)),
        Column("ms", tuple(number(None if e.timing is None else e.timing.median) for _, _, e in lines)),
        Column("images/s", tuple(number(each.per_second) for _, _, each in lines)),
        Column("tensors MiB", tuple(number(None if e.peak is None else e.peak.tensors, 0) for _, _, e in lines)),
        Column("arithmetic", tuple(_part(e, lambda e: e.shares and e.shares.arithmetic) for _, _, e in lines)),
        Column("bytes", tuple(_part(e, lambda e: e.shares and e.shares.bytes) for _, _, e in lines)),
        Column("launches", tuple(_part(e, lambda e: e.launches) for _, _, e in lines)),
        Column("bound by", tuple(e.bound or e.note or "-" for _, _, e in lines), text=True),
    ]
    return markdown(columns)


def _part(each: Measured, of: Callable[[Measured], float | None]) -> str:
    seconds, value = each.seconds, of(each)
    return "-" if seconds is None or value is None else f"{100 * value / seconds:.0f}%"


def _fit_table(axis: str, curves: dict[str, list[tuple[int, Measured]]], fits: dict[str, Fit]) -> str:
    columns = [
        Column("arm", tuple(curves), text=True),
        Column(f"time = a + b x {axis}", tuple(str(fits.get(name, "too few points")) for name in curves), text=True),
    ]
    return markdown(columns)
