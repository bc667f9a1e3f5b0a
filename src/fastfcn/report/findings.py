"""Sentences computed from the report's numbers, and nothing beyond them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastfcn.report import tables
from fastfcn.report.contents import Part
from fastfcn.report.costs import Costs
from fastfcn.report.estimates import difference
from fastfcn.results import percent

#: A latency whose 90th percentile is more than so many times the 10th is called rough.
SCATTER = 1.5


def brackets(part: Part) -> str:
    """What the brackets in the table are relative to."""
    lacking = [group[0] for group in part.groups if part.rows[part.reference[group[0]]].upsample != "none"]
    rule = "In brackets: points of difference, or the ratio, relative to"
    if not lacking:
        return f"{rule} the row with `upsample=none` of the same head and backbone."
    if len(lacking) == len(part.groups) == 1:
        return f"{rule} the first row, `{part.names[0]}`: there is none with `upsample=none`."
    rows = ", ".join(f"`{part.names[index]}`" for index in lacking)
    return (
        f"{rule} the row with `upsample=none` of the same head and backbone; where there is none, "
        f"relative to the first row of this head and backbone: {rows}."
    )


def seeds(part: Part) -> str:
    """What is known of the spread over the seeds, and of which rows nothing is."""
    if not part.several_seeds:
        return "There is one seed: how far the figures vary from seed to seed was not measured, no interval is given."
    single = [f"`{name}`" for name, row in zip(part.names, part.rows, strict=True) if len(row.runs) == 1]
    alone = f" There is one seed, and no interval, of {', '.join(single)}." if single else ""
    return (
        "± is half the 95% interval of the mean over the seeds (Student's t): it tells what other seeds would give, "
        f"not what other images would.{alone}"
    )


def findings(part: Part) -> list[str]:
    """Sentences on what the numbers are; per head and backbone the best row of each figure, and what JPU adds."""
    sentences = []
    for group in part.groups:
        if len(group) > 1:
            sentences.append(_best(part, group))
            sentences += _jpu(part, group)
    loose = [name for name, s in zip(part.names, part.speeds, strict=True) if s and _scattered(s.milliseconds)]
    if loose:
        sentences.append(
            f"Rough latencies: {', '.join(f'`{name}`' for name in loose)}, whose 90th percentile is more than "
            f"{SCATTER} times the 10th."
        )
    return [*sentences, *_left_out(part), seeds(part)]


def _left_out(part: Part) -> list[str]:
    """Which runs are without samples that cannot be read."""
    told = [
        f"`{name}` seed {run.seed}: {', '.join(f'{count} of {split}' for split, count in run.skipped.items())}"
        for name, row in zip(part.names, part.rows, strict=True)
        for run in row.runs
        if run.skipped
    ]
    return [f"Samples that cannot be read were left out: {'; '.join(told)}."] if told else []


def _scattered(milliseconds: tuple[float, float, float]) -> bool:
    return milliseconds[2] > SCATTER * milliseconds[1]


def _best(part: Part, group: Sequence[int]) -> str:
    """Which row has the best value of each figure."""
    first = part.rows[group[0]]
    opening = f"{first.head} with {first.backbone}: highest" if len(part.groups) > 1 else "Highest"
    highest = []
    for name, heading in tables.METRICS.items():
        values = {i: found.mean for i in group if (found := part.rows[i].estimate(name)) is not None}
        if values:
            best = max(values, key=values.__getitem__)
            highest.append(f"{heading} `{part.names[best]}` ({percent(values[best])})")
    counted: dict[str, tuple[Callable[[Costs], float | None], str]] = {
        "parameters": (lambda cost: cost.parameters / 1e6, "M"),
        "GFLOPs": (lambda cost: cost.gflops, ""),
        "latency": (lambda cost: cost.latency.median if cost.latency else None, "ms"),
    }
    lowest = []
    for heading, (value, unit) in counted.items():
        known = {i: amount for i in group if (cost := part.costs[i]) and (amount := value(cost)) is not None}
        if known:
            best = min(known, key=known.__getitem__)
            lowest.append(f"{heading} `{part.names[best]}` ({f'{known[best]:,.2f} {unit}'.strip()})")
    cheapest = f"; lowest {', '.join(lowest)}" if lowest else ""
    return f"{opening} {', '.join(highest)}{cheapest}."


def _jpu(part: Part, group: Sequence[int]) -> list[str]:
    """JPU against the dilated backbone that it replaces, upsampling that learns nothing, and one of its own cost."""
    sentences = []
    for index in (i for i in group if part.rows[i].upsample == "jpu"):
        for rival in (i for i in group if part.rows[i].upsample in ("none", "bilinear", "bilinear_skip")):
            gains = [
                f"{heading} {tables.points(found.estimate.mean)}"
                for name, heading in tables.METRICS.items()
                if (found := difference(part.rows[index].by_seed(name), part.rows[rival].by_seed(name))) is not None
            ]
            ratios = _ratios(part.costs[index], part.costs[rival])
            cost = f"; {', '.join(ratios)}" if ratios else ""
            sentences.append(f"`{part.names[index]}` against `{part.names[rival]}`: {', '.join(gains)} points{cost}.")
    return sentences


def _ratios(ours: Costs | None, theirs: Costs | None) -> list[str]:
    if ours is None or theirs is None:
        return []
    ratios = [
        f"{tables.times(ours.parameters, theirs.parameters)} the parameters",
        f"{tables.times(ours.gflops, theirs.gflops)} the GFLOPs",
    ]
    if ours.latency and theirs.latency:
        ratios.append(f"{tables.times(ours.latency.median, theirs.latency.median)} the latency")
    return ratios
