"""The figures as CSV: one line per run, and one per row; raw numbers, fractions of 1, at full precision."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from fastfcn.report import paper
from fastfcn.report.comparison import frozen
from fastfcn.report.contents import Part, Report
from fastfcn.report.estimates import difference
from fastfcn.report.rows import Row
from fastfcn.report.runs import Run
from fastfcn.report.speed import device, expense, hours, processes
from fastfcn.report.tables import METRICS


def runs(report: Report) -> str:
    """One line per run, those without figures among them with their state."""
    lines = [_run(part, row, run) for part in report.parts for row in part.rows for run in row.runs]
    lines += [{"state": run.state, "directory": run.directory, "reason": run.reason} for run in report.unfinished]
    lines += [
        {"state": "duplicate", "directory": each.directory, "reason": f"{each.kept} is newer"}
        for each in report.duplicates
    ]
    return _csv(lines)


def rows(report: Report) -> str:
    """One line per row: means over the seeds, halves of the 95% intervals, differences, speed and cost."""
    return _csv(_row(part, index) for part in report.parts for index in range(len(part.rows)))


def _identity(part: Part, row: Row) -> dict[str, Any]:
    return {
        "data": part.section.data,
        "protocol": part.section.protocol,
        "backbone": row.backbone,
        "head": row.head,
        "upsample": row.upsample,
        "output_stride": row.output_stride,
        "settings": " ".join(f"{key}={value}" for key, value in row.settings),
    }


def _run(part: Part, row: Row, run: Run) -> dict[str, Any]:
    gpu, cpu = hours(run)
    speed = run.results.get("speed") or {}
    return {
        **_identity(part, row),
        "seed": run.seed,
        "state": "done",
        "directory": run.directory,
        "reason": None,
        **{name: run.test.get(name) for name in METRICS},
        "val_score": run.results.get("val_score"),
        "epochs": run.results.get("epochs"),
        "steps": run.results.get("steps"),
        "train_seconds": run.results.get("train_seconds"),
        "processes": processes(run),
        "device": device(run),
        "gpu_hours": gpu,
        "cpu_process_hours": cpu,
        "peak_memory_gib": run.results.get("peak_memory_gib"),
        **{f"speed_{key}": speed.get(key) for key in ("fps", "median_ms", "p10_ms", "p90_ms", "device")},
        "skipped_samples": sum(run.skipped.values()),
        "ended": run.ended.isoformat(),
        "commit": run.provenance.get("git", {}).get("commit"),
        "dirty": run.provenance.get("git", {}).get("dirty"),
        **{f"IoU {name}": value for name, value in run.test.get("IoU", {}).items()},
    }


def _row(part: Part, index: int) -> dict[str, Any]:
    row, other = part.rows[index], part.rows[part.reference[index]]
    line = {**_identity(part, row), "seeds": " ".join(map(str, row.seeds))}
    for name in METRICS:
        found = row.estimate(name)
        line |= {name: found and found.mean, f"{name}_half_interval": found and found.half}
        gain = None if other is row else difference(row.by_seed(name), other.by_seed(name))
        line |= {
            f"{name}_difference": gain and gain.estimate.mean,
            f"{name}_difference_half_interval": gain and gain.estimate.half,
        }
    line["reference"] = part.names[part.reference[index]]
    line["pairs"] = None if other is row else len(set(row.seeds) & set(other.seeds))
    speed, cost, spent = part.speeds[index], part.costs[index], expense(row)
    line |= {
        "fps": speed and speed.fps,
        "median_ms": speed and speed.milliseconds[0],
        "p10_ms": speed and speed.milliseconds[1],
        "p90_ms": speed and speed.milliseconds[2],
        "speed_measured_on": speed and speed.where,
        "parameters": cost and cost.parameters,
        "gflops": cost and cost.gflops,
        "gpu_hours": spent.gpu_hours,
        "cpu_process_hours": spent.cpu_hours,
        "peak_memory_gib": spent.memory_gib,
    }
    beside = paper.beside(part.section)
    figure, theirs = beside.figures[index] if part.tested else None, paper.fps(row)
    return line | {
        "paper_pixAcc_percent": figure and figure.pix_acc,
        "paper_mIoU_percent": figure and figure.miou,
        "paper_comparable": beside.comparable if figure else None,
        "paper_fps": theirs and theirs[0],
        "paper_fps_depth": theirs and theirs[1],
    }


def _csv(lines: Iterable[Mapping[str, Any]]) -> str:
    """Lines of any keys as CSV whose header has them all; None is an empty cell, a list JSON."""
    content = list(lines)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for line in content for key in line)), lineterminator="\n")
    writer.writeheader()
    for line in content:
        writer.writerow({key: frozen(value) if isinstance(value, list) else value for key, value in line.items()})
    return out.getvalue()
