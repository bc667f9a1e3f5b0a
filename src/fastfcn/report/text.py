"""The report's text: generated from the numbers, and nothing beyond them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fastfcn.contours import CONTOUR_RATIO, contour_distance
from fastfcn.provenance import collect
from fastfcn.report import beside, tables
from fastfcn.report.claims import claims
from fastfcn.report.comparison import differing_settings
from fastfcn.report.contents import Measured, Part, Picture, Report
from fastfcn.report.findings import brackets, findings
from fastfcn.report.missing import where
from fastfcn.report.origin import code, device_name, fenced, origin
from fastfcn.results import absent_note, percent

#: How claims are judged, by a word that these have.
_RULES = {
    "mIoU": "A claim on mIoU holds where the 95% interval of the difference, paired by seed, lies at or above 0, does "
    "not hold where it lies below, and is not decided otherwise.",
    "faster": "A claim on speed is settled where the 10th to 90th percentiles of the two times do not overlap.",
}
_ALONE = "Each is judged by itself, and of these runs alone."


def markdown(report: Report) -> str:
    """The whole report."""
    several = len(report.parts) > 1
    sections = [f"# {'; '.join(dict.fromkeys(_title(part) for part in report.parts))}"]
    for part in report.parts:
        sections += [f"# {_title(part)}, {_protocol(part)}"] if several else []
        sections += _tested(part) if part.tested else _speed_alone(part)
    sections += _missing(report)
    if lines := left_out(report):
        sections += ["## Runs left out", _bullets(lines)]
    sections.append("## Where the numbers come from")
    own = collect()
    sections.append(f"The report was made {own['started']} with code {code(own)}.")
    for part in report.parts:
        sections += [f"### {_title(part)}, {_protocol(part)}"] if several else []
        sections += [_bullets(_conditions(part)), *origin(part, out=report.out)]
    return "\n\n".join(section for section in sections if section) + "\n"


def left_out(report: Report) -> list[str]:
    """A line for each run that is not in the tables, and for each that a newer one replaces."""
    lines = [f"Left out ({run.state}): {run.directory} {run.reason}." for run in report.unfinished]
    for each in report.duplicates:
        why = "is the same run copied" if each.copy else "is of the same row and seed and not the newest"
        lines.append(f"Left out (duplicate): {each.directory} {why}; {each.kept} counts, which ended last.")
    return lines


def _tested(part: Part) -> list[str]:
    columns = [
        *tables.identity(part.names, part.rows),
        *tables.quality(part.rows, part.reference),
        *tables.expense(part.costs, part.reference),
    ]
    picture = part.measured.picture if part.measured else None
    sections = [
        tables.markdown(columns),
        _bullets([*findings(part), *part.notes]),
        "How to read it:",
        _bullets([brackets(part), *_definitions(part)]),
        *_claims(part),
    ]
    if part.several_seeds and (compared := tables.differences(part.rows, part.names, part.reference))[0].cells:
        sections += [
            "## Differences in points, paired by seed",
            tables.markdown(compared),
            "The mean of the differences within each seed, in brackets its 95% interval (Student's t). Without two "
            "seeds in common there is no interval; without one it is the difference of the means.",
        ]
    if (theirs := beside.quality(part)) is not None:
        sections += [f"## {theirs[0]}", tables.markdown(theirs[1]), _bullets(beside.quality_notes(part))]
    sections += _speed(part)
    if part.scatter:
        sections += [f"![mIoU against images per second, and the paper's]({part.scatter})"]
    if cost := beside.cost(part):
        sections += ["## What the trainings cost", tables.markdown(cost), _bullets(beside.cost_notes(part))]
    if picture is not None and part.measured is not None:
        sections += [
            "## What each row gets wrong",
            f"![Input, truth and the prediction of each row]({picture.file})",
            _paragraph(*_picture(part, part.measured, picture)),
            tables.markdown(_choice_columns(part, picture)),
        ]
    absent = [
        f"`{name}`: {note}."
        for name, run in zip(part.run_names, (run for row in part.rows for run in row.runs), strict=True)
        if (note := absent_note(run.test))
    ]
    mean = ", mean over the seeds" if part.several_seeds else ""
    return [
        *sections,
        f"## IoU of each class, percent{mean}",
        tables.markdown(tables.per_class(part.names, part.rows, thin=part.thin_classes)),
        *absent,
    ]


def _speed_alone(part: Part) -> list[str]:
    return [*_speed(part), *_claims(part)]


def _speed(part: Part) -> list[str]:
    if not (columns := beside.speed(part)):
        return []
    return ["## Speed, beside the paper's Table 2", tables.markdown(columns), _bullets(beside.speed_notes(part))]


def _claims(part: Part) -> list[str]:
    if not (found := claims(part.rows, part.names, part.speeds)):
        return []
    return [
        "## What of the paper's claims these runs support",
        _bullets([str(claim) for claim in found]),
        " ".join([*(rule for of, rule in _RULES.items() if any(of in claim.claim for claim in found)), _ALONE]),
    ]


def _missing(report: Report) -> list[str]:
    by = (
        f"By the lists of {'; '.join(where(sweep) for sweep in report.sweeps)}."
        if report.sweeps
        else "By the grid of the heads, upsamplers and seeds at hand or begun, as far as Table 1 or a run has the row."
    )
    if not report.missing:
        return ["## Missing rows", f"None. {by}"]
    width = max(len(each.name) + len(each.state) for each in report.missing) + 3
    lines = [f"# {f'{each.name} ({each.state})':<{width}}\n{each.command}" for each in report.missing]
    again = [f"`{sweep.command}` once more runs all that are missing of its own." for sweep in report.sweeps]
    return ["## Missing rows", _paragraph(f"{by} The command below each makes it.", *again), fenced(lines)]


def _title(part: Part) -> str:
    heads = ", ".join(dict.fromkeys(row.head for row in part.rows))
    backbones = ", ".join(dict.fromkeys(row.backbone for row in part.rows))
    upsamplers = ", ".join(dict.fromkeys(row.upsample for row in part.rows))
    return f"{part.data if part.tested else 'speed'}: {heads} x {{{upsamplers}}} with {backbones}"


def _protocol(part: Part) -> str:
    return str(part.section.protocol or "no test").replace("_", " ")


def _definitions(part: Part) -> list[str]:
    lines = ["pixAcc, mIoU, boundary and thin-class IoU are in percent, over all labelled pixels of the test split."]
    measured = part.measured
    if measured is not None:
        lines.append(
            f"Boundary IoU is taken on the bands of {contour_distance(*measured.size)} pixels along the contours "
            f"({100 * CONTOUR_RATIO:.0f} % of the diagonal)."
        )
    if part.thin_classes:
        lines.append(f"Thin-class IoU is the mean over {', '.join(part.thin_classes)}.")
    if measured is None:
        return lines
    lines.append(
        "Parameters and GFLOPs are of the parts that a prediction uses, "
        f"GFLOPs for one image of {measured.pixels} pixels with two operations per multiply-add."
    )
    if (timing := measured.timing) is not None:
        tf32 = timing.device.type == "cuda" and torch.backends.cudnn.allow_tf32
        form = f"batch 1, {'float32 with TF32 convolutions' if tf32 else 'float32'}"
        form += ", channels_last" if timing.channels_last else ""
        lines.append(
            f"Latency is the median of {timing.repeats} predictions of one such image ({form}) after {timing.warmup} "
            "unmeasured ones, with the 10th and 90th percentile beside it; the rows took turns in one process, "
            f"on {device_name(timing.device)}."
        )
    return lines


def _picture(part: Part, measured: Measured, picture: Picture) -> list[str]:
    thin = "of a thin class, or " if part.thin_classes else ""
    several = len(picture.shown) > 1
    rule = "the highest and the lowest share among the rows are farthest apart" if several else "the share is largest"
    seeds = list(dict.fromkeys(picture.seeds))
    which = f" of seed {seeds[0]}" if len(seeds) == 1 else ""
    each = ", ".join(f"`{part.names[i]}` {seed}" for i, seed in zip(picture.shown, picture.seeds, strict=True))
    return [
        "Under each prediction stand its wrong pixels in the colour of the class that was predicted.",
        f"Rows: of the first {picture.candidates} of {measured.tested} test images the {len(picture.chosen)} in which "
        f"{rule}; the share is that of wrong pixels among those {thin}within {contour_distance(*measured.size)} pixels "
        "of another class.",
        "They were chosen to tell the models apart and are not typical of the split." if several else "",
        f"Predictions are of the best checkpoints{which}, in float32. The shares of the chosen images, percent:",
        f"(Seeds: {each}.)" if len(seeds) > 1 else "",
    ]


def _choice_columns(part: Part, picture: Picture) -> list[tables.Column]:
    columns = [tables.Column("image", tuple(choice.name for choice in picture.chosen), text=True)]
    for place, index in enumerate(picture.shown):
        shares = tuple(percent(choice.hard_errors[place]) for choice in picture.chosen)
        columns.append(tables.Column(part.names[index], shares))
    return columns


def _conditions(part: Part) -> list[str]:
    runs = [run for row in part.rows for run in row.runs]
    config = runs[0].config
    data, cut = config["data"], _protocol(part)
    if part.section.protocol == "center_crop":
        cut = f"centre crops of side {data.get('crop_size')}"
    lines = [f"Data: `{part.data}`, {cut}."]
    if (measured := part.measured) is not None:
        lines = [f"Data: `{part.data}`, {measured.tested} test images, {cut}; the first has {measured.pixels} pixels."]
    if (limit := config.get("trainer", {}).get("limit_test_batches")) is not None:
        lines.append(f"The runs were tested on a part only: trainer.limit_test_batches={limit}.")
    for key, values in differing_settings(runs).items():
        holders: dict[str, list[str]] = {}
        for name, value in zip(part.run_names, values, strict=True):
            holders.setdefault(str(value), []).append(f"`{name}`")
        each = "; ".join(f"{value} in {', '.join(names)}" for value, names in holders.items())
        lines.append(f"The runs differ in more than the upsampler: {key} is {each}.")
    return lines


def _paragraph(*lines: str) -> str:
    return "\n".join(line for line in lines if line)


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
