"""Sentences computed from the report's numbers, and nothing beyond them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastfcn.report import tables
from fastfcn.report.contents import Report
from fastfcn.report.costs import Costs
from fastfcn.results import percent

#: A latency whose 90th percentile is more than so many times the 10th is called rough.
SCATTER = 1.5


def brackets(report: Report) -> str:
    """What the brackets in the table are relative to."""
    lacking = [group[0] for group in report.groups if report.runs[report.reference[group[0]]].upsample != "none"]
    rule = "In brackets: points of difference, or the ratio, relative to"
    if not lacking:
        return f"{rule} the run with `upsample=none` of the same head and backbone."
    if len(lacking) == len(report.groups) == 1:
        return f"{rule} the first row, `{report.names[0]}`: there is no run with `upsample=none`."
    rows = ", ".join(f"`{report.names[index]}`" for index in lacking)
    return (
        f"{rule} the run with `upsample=none` of the same head and backbone; where there is none, "
        f"relative to the first row of this head and backbone: {rows}."
    )


def findings(report: Report) -> list[str]:
    """Sentences on what the numbers are; per head and backbone the best run of each figure, and what JPU adds."""
    sentences = []
    for group in report.groups:
        if len(group) > 1:
            sentences.append(_best(report, group))
            sentences += _jpu(report, group)
    if loose := [name for name, cost in zip(report.names, report.costs, strict=True) if _scattered(cost)]:
        sentences.append(
            f"Rough latencies: {', '.join(f'`{name}`' for name in loose)}, whose 90th percentile is more than "
            f"{SCATTER} times the 10th."
        )
    seeds = [len({report.runs[i].seed for i in group}) for group in report.groups]
    if sentences and max(seeds) == 1:
        sentences.append("There is one seed: how far the figures vary from seed to seed was not measured.")
    return sentences


def _scattered(cost: Costs) -> bool:
    return cost.latency.p90 > SCATTER * cost.latency.p10


def _best(report: Report, group: Sequence[int]) -> str:
    """Which run has the best value of each figure."""
    first = report.runs[group[0]]
    opening = f"{first.head} with {first.backbone}: highest" if len(report.groups) > 1 else "Highest"
    scores: dict[str, dict[int, float]] = {}
    for name, heading in tables.METRICS.items():
        values = {i: report.runs[i].results["test"].get(name) for i in group}
        scores[heading] = {i: value for i, value in values.items() if value is not None}
    highest = [
        f"{heading} `{report.names[best]}` ({percent(values[best])})"
        for heading, values in scores.items()
        if values and (best := max(values, key=values.__getitem__)) is not None
    ]
    costs: dict[str, tuple[Callable[[Costs], float], str]] = {
        "parameters": (lambda cost: cost.parameters / 1e6, "M"),
        "GFLOPs": (lambda cost: cost.gflops, ""),
        "latency": (lambda cost: cost.latency.median, "ms"),
    }
    lowest = []
    for heading, (value, unit) in costs.items():
        best = min(group, key=lambda i: value(report.costs[i]))
        lowest.append(f"{heading} `{report.names[best]}` ({f'{value(report.costs[best]):,.2f} {unit}'.strip()})")
    return f"{opening} {', '.join(highest)}; lowest {', '.join(lowest)}."


def _jpu(report: Report, group: Sequence[int]) -> list[str]:
    """JPU against the dilated backbone that it replaces, and against the upsampling that learns nothing."""
    sentences = []
    for index in (i for i in group if report.runs[i].upsample == "jpu"):
        ours, cost = report.runs[index], report.costs[index]
        rivals = [i for i in group if report.runs[i].upsample in ("none", "bilinear")]
        for rival in (i for i in rivals if report.runs[i].seed == ours.seed):
            theirs, paid = report.runs[rival].results["test"], report.costs[rival]
            gains = [
                f"{heading} {100 * (value - base):+.2f}"
                for name, heading in tables.METRICS.items()
                if (value := ours.results["test"].get(name)) is not None and (base := theirs.get(name)) is not None
            ]
            sentences.append(
                f"`{report.names[index]}` against `{report.names[rival]}`: {', '.join(gains)} points; "
                f"{tables.times(cost.parameters, paid.parameters)} the parameters, "
                f"{tables.times(cost.gflops, paid.gflops)} the GFLOPs, "
                f"{tables.times(cost.latency.median, paid.latency.median)} the latency."
            )
    return sentences
