"""Measured arms as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastfcn.benchmarks.bench import Bench
from fastfcn.benchmarks.machine import conditions
from fastfcn.benchmarks.measuring import Measured
from fastfcn.benchmarks.memory import METHODS
from fastfcn.benchmarks.rates import Rates
from fastfcn.exporting.comparison import AGREEING, TOLERANCE
from fastfcn.report.tables import Column, markdown, number


def speeds(found: Sequence[Measured], *, reference: str, unit: str = "images/s", ladder: bool = False) -> str:
    """The arms with their times, ratios and memory.

    Args:
        found: in the order of the table.
        reference: name of the arm that the ratios are to.
        unit: of what is done per second.
        ladder: whether arms whose names begin with a plus add to the one above; then that ratio stands there too.
    """
    base = next((each.seconds for each in found if each.name == reference), None)
    columns = [
        Column("arm", tuple(each.name for each in found), text=True),
        Column("precision", tuple(each.precision for each in found), text=True),
        Column("ms", tuple(number(None if e.timing is None else e.timing.median) for e in found)),
        Column("p10 to p90", tuple(_between(each) for each in found)),
        Column(unit, tuple(number(each.per_second) for each in found)),
        Column(f"times {reference}", tuple(ratio(base, each.seconds) for each in found)),
    ]
    if ladder:
        above = [None, *(each.seconds for each in found[:-1])]
        added = [
            ratio(before, each.seconds) if each.name.startswith("+") else "-"
            for before, each in zip(above, found, strict=True)
        ]
        columns.append(Column("times the row above", tuple(added)))
    columns += [
        Column("tensors MiB", tuple(number(None if e.peak is None else e.peak.tensors, 0) for e in found)),
        Column("resident MiB", tuple(number(None if e.peak is None else e.peak.resident, 0) for e in found)),
    ]
    if any(each.agreement is not None for each in found):
        columns.append(Column("agreement", tuple(agreement(each) for each in found)))
    return _with_notes(columns, found)


def limits(found: Sequence[Measured]) -> str:
    """The arms against what the chip can do."""
    shown = [each for each in found if each.timing is not None]
    columns = [
        Column("arm", tuple(each.name for each in shown), text=True),
        Column("GFLOPs", tuple(number(each.gflops) for each in shown)),
        Column("GFLOP/s", tuple(number(rate(each.gflops, each.seconds), 1) for each in shown)),
        Column("of the matrix rate", tuple(share(each.flop_share) for each in shown)),
        Column("GB", tuple(number(each.gigabytes) for each in shown)),
        Column("GB/s", tuple(number(rate(each.gigabytes, each.seconds), 1) for each in shown)),
        Column("of the copy rate", tuple(share(each.byte_share) for each in shown)),
        Column("op-by-op roofline", tuple(share(each.roofline_share) for each in shown)),
        Column("most time by the rates", tuple(each.bound or "-" for each in shown), text=True),
    ]
    return markdown(columns)


def parts(summaries: Mapping[str, Any]) -> str:
    """Parameters and GFLOPs of the models' parts; by name, what `fastfcn.summary.summarise` gives."""
    names = [(label, part) for label, summary in summaries.items() for part in [*summary.parts, "inference"]]
    costs = [
        summaries[label].inference if part == "inference" else summaries[label].parts[part] for label, part in names
    ]
    columns = [
        Column("model", tuple(label for label, _ in names), text=True),
        Column("part", tuple("aux_head (training only)" if p == "aux_head" else p for _, p in names), text=True),
        Column("parameters (M)", tuple(number(cost.parameters / 1e6) for cost in costs)),
        Column("GFLOPs", tuple(number(cost.gflops) for cost in costs)),
    ]
    return markdown(columns)


def device_name(bench: Bench) -> str:
    """The device, and the threads where it is a processor."""
    where = conditions(bench.device)
    threads = "" if bench.device.type == "cuda" else f", {where['threads']} threads"
    return f"{where['device']}{threads}"


def how(bench: Bench, rates: Rates) -> str:
    """How it was measured, as a section for under the tables."""
    plan, where = bench.plan, conditions(bench.device)
    machine = where["provenance"]
    code = machine["git"]["commit"]
    clocks = clocks_in_words(where["clocks"])
    measured = ", ".join(f"{name} {value / 1e9:,.0f} GFLOP/s" for name, value in rates.flops_per_second.items())
    commit = "unknown" if code is None else code[:12]
    lines = [
        f"{where['device']}, {where['threads']} threads, clocks {clocks}, torch {machine['packages']['torch']}, Python "
        f"{machine['python']}, {machine['started']}, code {commit}"
        f"{' with changes' if machine['git']['dirty'] else ''}.",
        f"Each arm is warmed up until its time no longer falls by {plan.tolerance:.0%}, {plan.warmup_seconds:g} s at "
        f"most; then the arms take turns until each has {plan.repeats} calls or {plan.seconds:g} s. Times are medians.",
        f"Measured in the same run: {measured}, copying {rates.bytes_per_second / 1e9:,.1f} GB/s, "
        f"{1e6 * rates.launch_seconds:,.1f} µs for the smallest operator.",
        f"Tensors: {METHODS['tensors']}.",
        f"Resident: {METHODS['resident']}.",
        f"Agreement: largest difference over the largest value of the reference (at most {TOLERANCE:.0e} in float32), "
        f"and the part of the pixels with the same class (at least {AGREEING:.1%} in fewer bits).",
        "The op-by-op roofline is the sum over the operators of the larger of arithmetic and byte time at these rates, "
        "over the measured time. Of compiled, captured and exported arms the operators of the same computation in "
        "eager torch are counted, so that fusing can bring it above 100%.",
    ]
    return "\n".join(["## How it was measured", "", *(f"- {line}" for line in lines)])


def clocks_in_words(clocks: Mapping[str, Any] | None) -> str:
    """Of the cores, or of the GPU."""
    if clocks is None or clocks.get("cpu_mhz", ...) is None:
        return "not told by the system"
    if "cpu_mhz" in clocks:
        return f"{min(clocks['cpu_mhz']):,.0f} to {max(clocks['cpu_mhz']):,.0f} MHz"
    return ", ".join(f"{key} {value}" for key, value in clocks.items())


def ratio(base: float | None, seconds: float | None) -> str:
    """How many times as fast as the base."""
    return "-" if base is None or seconds is None else f"{base / seconds:.2f}"


def rate(amount: float | None, seconds: float | None) -> float | None:
    """Per second."""
    return None if amount is None or seconds is None else amount / seconds


def share(value: float | None) -> str:
    """Percent; a dash for None."""
    return "-" if value is None else f"{100 * value:.1f}%"


def agreement(each: Measured) -> str:
    """Error and equal classes; marked where it is not within what the precision allows."""
    if each.agreement is None:
        return "-"
    same = "" if each.agreement.same is None else f", {100 * each.agreement.same:.2f}%"
    return f"{each.agreement.error:.1e}{same}{'' if each.agreement.fine else ' (too little)'}"


def _between(each: Measured) -> str:
    if each.timing is None:
        return "-"
    return f"{each.timing.p10:,.2f} to {each.timing.p90:,.2f}{'' if each.timing.steady else ' (not steady)'}"


def _with_notes(columns: Sequence[Column], found: Sequence[Measured]) -> str:
    notes = [f"- {each.name}: {each.note}." for each in found if each.note]
    return "\n".join([markdown(columns), *([""] if notes else []), *notes])
