"""The report's text: generated from the numbers, and nothing beyond them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fastfcn.contours import CONTOUR_RATIO, contour_distance
from fastfcn.provenance import collect
from fastfcn.report import tables
from fastfcn.report.comparison import differing_settings
from fastfcn.report.contents import Report
from fastfcn.report.findings import brackets, findings
from fastfcn.report.origin import code, device_name, origin
from fastfcn.report.runs import Run
from fastfcn.results import absent_note, percent


def markdown(report: Report) -> str:
    """The whole report."""
    columns = [
        *tables.identity(report.names, report.runs, report.costs),
        *tables.quality(report.runs, report.reference),
        *tables.expense(report.costs, report.reference),
    ]
    sections = [
        f"# {_title(report)}",
        tables.markdown(columns),
        _bullets([*findings(report), *left_out(report)]),
        "How to read it:",
        _bullets([brackets(report), *_definitions(report)]),
        "## What each run gets wrong",
        f"![Input, truth and the prediction of each run]({report.picture})",
        _paragraph(*_picture(report)),
        tables.markdown(_choice_columns(report)),
        "## IoU of each class, percent",
        tables.markdown(tables.per_class(report.names, report.runs, thin=report.facts.thin_classes)),
        *(f"`{name}`: {note}." for name, run in _named(report) if (note := absent_note(run.results["test"]))),
        "## Where the numbers come from",
        _bullets(_conditions(report)),
        *origin(report.runs, report.names, out=report.out),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def left_out(report: Report) -> list[str]:
    """A line for each run that could not be reported on."""
    return [f"Left out: {run.directory} {run.reason}." for run in report.incomplete]


def _title(report: Report) -> str:
    heads = ", ".join(dict.fromkeys(run.head for run in report.runs))
    backbones = ", ".join(dict.fromkeys(run.backbone for run in report.runs))
    upsamplers = ", ".join(dict.fromkeys(run.upsample for run in report.runs))
    return f"{report.facts.name}: {heads} x {{{upsamplers}}} with {backbones}"


def _definitions(report: Report) -> list[str]:
    distance = contour_distance(*report.size)
    lines = [
        "pixAcc, mIoU, boundary and thin-class IoU are in percent, over all labelled pixels of the test split.",
        f"Boundary IoU is taken on the bands of {distance} pixels along the contours "
        f"({100 * CONTOUR_RATIO:.0f} % of the diagonal).",
    ]
    if report.facts.thin_classes:
        lines.append(f"Thin-class IoU is the mean over {', '.join(report.facts.thin_classes)}.")
    timing = report.timing
    tf32 = timing.device.type == "cuda" and torch.backends.cudnn.allow_tf32
    form = f"batch 1, {'float32 with TF32 convolutions' if tf32 else 'float32'}"
    form += ", channels_last" if timing.channels_last else ""
    lines += [
        "Parameters and GFLOPs are of the parts that a prediction uses, "
        f"GFLOPs for one image of {report.pixels} pixels with two operations per multiply-add.",
        f"Latency is the median of {timing.repeats} predictions of one such image ({form}) after {timing.warmup} "
        "unmeasured ones, with the 10th and 90th percentile beside it; the runs took turns in one process, "
        f"on {device_name(timing.device)}.",
    ]
    return lines


def _picture(report: Report) -> list[str]:
    thin = "of a thin class, or " if report.facts.thin_classes else ""
    several = len(report.runs) > 1
    rule = "the highest and the lowest share among the runs are farthest apart" if several else "the share is largest"
    return [
        "Under each prediction stand its wrong pixels in the colour of the class that was predicted.",
        f"Rows: of the first {report.candidates} of {report.tested} test images the {len(report.chosen)} in which "
        f"{rule}; the share is that of wrong pixels among those {thin}within {contour_distance(*report.size)} pixels "
        "of another class.",
        "They were chosen to tell the runs apart and are not typical of the split." if several else "",
        "Predictions are of the best checkpoints, in float32. The shares of the chosen images, percent:",
    ]


def _choice_columns(report: Report) -> list[tables.Column]:
    columns = [tables.Column("image", tuple(choice.name for choice in report.chosen), text=True)]
    for index, name in enumerate(report.names):
        columns.append(tables.Column(name, tuple(percent(choice.hard_errors[index]) for choice in report.chosen)))
    return columns


def _conditions(report: Report) -> list[str]:
    config = report.runs[0].config
    data = config["data"]
    cut = "whole" if data["whole_eval"] else f"centre crops of side {data['crop_size']}"
    lines = [f"Data: `{report.facts.name}`, {report.tested} test images, {cut}; the first has {report.pixels} pixels."]
    if (limit := config.get("trainer", {}).get("limit_test_batches")) is not None:
        lines.append(f"The runs were tested on a part only: trainer.limit_test_batches={limit}.")
    for key, values in differing_settings(report.runs).items():
        each = ", ".join(f"`{name}` {value}" for name, value in zip(report.names, values, strict=True))
        lines.append(f"The runs differ in more than the upsampler: {key} is {each}.")
    own = collect()
    lines.append(f"The report was made {own['started']} with code {code(own)}.")
    return lines


def _named(report: Report) -> list[tuple[str, Run]]:
    return list(zip(report.names, report.runs, strict=True))


def _paragraph(*lines: str) -> str:
    return "\n".join(line for line in lines if line)


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
