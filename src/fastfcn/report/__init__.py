"""The report of a set of runs: a table of what each gets right and what it costs, and a picture of what it gets wrong.

``runs`` finds and reads them, ``comparison`` says whether and with what they are compared, ``costs`` counts and times,
``figure`` chooses and predicts images, ``tables``, ``findings``, ``origin`` and ``text`` write.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from fastfcn.data.batches import normalise
from fastfcn.data.datamodule import SegmentationDataModule
from fastfcn.errors import UserError
from fastfcn.models.fastfcn import FastFCN
from fastfcn.pictures import figure_rows, save_png
from fastfcn.report import comparison, costs, figure, findings, tables, text
from fastfcn.report.contents import Report, Timing
from fastfcn.report.runs import Incomplete, Run, labels, read_runs
from fastfcn.results import percent

__all__ = ["Incomplete", "Run", "make", "read_runs"]

REPORT_FILE = "report.md"
FIGURE_FILE = "figure6.png"


def make(
    runs: Sequence[Run],
    models: Sequence[FastFCN],
    datamodule: SegmentationDataModule,
    *,
    out: str | Path,
    incomplete: Sequence[Incomplete] = (),
    device: str = "auto",
    channels_last: bool = True,
    warmup: int = 3,
    repeats: int = 20,
    images: int = 4,
    candidates: int = 64,
) -> Path:
    """Measure, draw, write ``report.md`` and ``figure6.png``, print tables and paths.

    Args:
        runs: in the order of the table.
        models: one per run, from its best checkpoint; they are moved to the device.
        datamodule: of the data that the runs were tested on.
        out: directory of the two files, made if missing.
        incomplete: runs that are named as left out.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ...
        channels_last: time and predict in NHWC memory.
        warmup: rounds of the timing that are not measured.
        repeats: rounds of the timing that are measured.
        images: rows of the picture.
        candidates: test images that the rows are chosen among, from the first on.

    Returns:
        The report's path.

    Raises:
        UserError: the runs were tested on different images, or a number makes no sense.
    """
    comparison.check_comparable(runs)
    if images < 1 or candidates < images:
        raise UserError(f"images={images} and candidates={candidates}: choose 1 <= images <= candidates.")
    place = device_of(device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    models = [model.eval().to(place, memory_format=layout) for model in models]  # type: ignore[call-overload]
    names = labels(runs)
    loader = datamodule.eval_dataloader()
    first = normalise(next(iter(loader)))["image"][:1].to(place).contiguous(memory_format=layout)
    measured = costs.measure(dict(zip(names, models, strict=True)), first, warmup=warmup, repeats=repeats)
    chosen, seen = figure.choose(
        models, map(normalise, loader), facts=datamodule.facts, count=images, candidates=candidates, layout=layout
    )
    out = Path(out)
    picture = figure_rows(
        [choice.example for choice in chosen],
        facts=datamodule.facts,
        headings=names,
        headlines=[f"mIoU {percent(run.results['test']['mIoU'])}" for run in runs],
        errors=True,
    )
    save_png(picture, out / FIGURE_FILE)
    report = Report(
        runs=runs,
        names=names,
        reference=comparison.references(runs),
        costs=measured,
        chosen=chosen,
        candidates=seen,
        facts=datamodule.facts,
        tested=len(loader.dataset),  # type: ignore[arg-type]
        size=(first.shape[2], first.shape[3]),
        timing=Timing(warmup, repeats, place, channels_last),
        incomplete=incomplete,
        out=out,
        picture=FIGURE_FILE,
    )
    path = _write(out / REPORT_FILE, text.markdown(report))
    _print(report)
    print(f"report:  {path}\npicture: {out / FIGURE_FILE}")
    return path


def device_of(name: str) -> torch.device:
    """The device of a name; `auto` is a GPU where there is one.

    Raises:
        UserError: There is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name}: there is no such device here; choose auto or cpu.") from error
    return device


def _write(path: Path, content: str) -> Path:
    """Whole or not at all: whoever reads sees the old report or the new one."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(content, encoding="utf-8")
    return temporary.replace(path)


def _print(report: Report) -> None:
    console = Console()
    run = tables.Column("run", tuple(report.names), text=True)
    quality = tables.quality(report.runs, report.reference)
    expense = tables.expense(report.costs, report.reference)
    console.print(tables.printed([run, *quality], title=f"Test on {report.facts.name}, percent"))
    console.print(tables.printed([run, *expense], title=f"Cost of one image of {report.pixels} pixels"))
    for line in (findings.brackets(report), *findings.findings(report), *text.left_out(report)):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
