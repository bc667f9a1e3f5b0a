"""The report made: arranged, measured, drawn, written, printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fastfcn import heap
from fastfcn.errors import UserError
from fastfcn.report import beside, csv_files, latex, missing, scatter, tables, text
from fastfcn.report.claims import claims
from fastfcn.report.contents import Part, Report
from fastfcn.report.findings import brackets, findings
from fastfcn.report.gathering import Gathered
from fastfcn.report.measuring import Plan, measure
from fastfcn.report.origin import device_name
from fastfcn.report.rows import Section, arrange, labels, references, run_labels
from fastfcn.report.speed import KEPT, comparable, of_costs, told_by_runs
from fastfcn.whole_files import check_folder, write_text

REPORT_FILE = "report.md"
RUNS_FILE = "report.csv"
ROWS_FILE = "report_rows.csv"
LATEX_FILE = "report.tex"
FIGURE_FILE = "figure6.png"
SCATTER_FILE = "scatter.png"


def make(gathered: Gathered, *, out: str | Path, plan: Plan | None = None) -> Path:
    """Measure, draw, write Markdown, CSV, LaTeX and pictures, print tables and paths.

    Args:
        gathered: the runs.
        out: directory of the files, made if missing.
        plan: what to do with the models at hand.

    Returns:
        Path of the Markdown.

    Raises:
        UserError: a number makes no sense, or one data set is given for runs of several.
    """
    plan = plan or Plan()
    plan.check()
    sections, duplicates = arrange(gathered.runs)
    tested = [section for section in sections if section.protocol is not None]
    if plan.datamodule is not None and len(tested) > 1:
        raise UserError(
            f"data=... is one data set, and the runs were tested in {len(tested)} ways (data set, images, protocol): "
            "leave data out, or name runs of one."
        )
    out = Path(out)
    check_folder(out, key="out")
    out.mkdir(parents=True, exist_ok=True)
    parts = []
    for index, section in enumerate(sections):
        number = f"-{index + 1}" if index else ""
        parts.append(_part(section, sections, plan, out, number))
    report = Report(
        parts=parts,
        unfinished=gathered.unfinished,
        duplicates=duplicates,
        missing=missing.missing(sections, runs=gathered.runs, unfinished=gathered.unfinished, sweeps=gathered.sweeps),
        sweeps=gathered.sweeps,
        out=out,
    )
    write_text(out / RUNS_FILE, csv_files.runs(report))
    write_text(out / ROWS_FILE, csv_files.rows(report))
    write_text(out / LATEX_FILE, latex.tables(report))
    path = out / REPORT_FILE
    write_text(path, text.markdown(report))
    _print(report)
    pictures = [
        p
        for part in parts
        for p in (part.measured and part.measured.picture and part.measured.picture.file, part.scatter)
        if p
    ]
    print(f"report:   {path}")
    print(f"tables:   {', '.join(str(out / file) for file in (RUNS_FILE, ROWS_FILE, LATEX_FILE))}")
    for picture in pictures:
        print(f"picture:  {out / picture}")
    return path


def _part(section: Section, sections: Sequence[Section], plan: Plan, out: Path, number: str) -> Part:
    names = labels(section.rows)
    told = told_by_runs(section, sections)
    part = Part(section, names, run_labels(section.rows, names), references(section.rows), told)
    if not part.tested:
        return part
    timed = plan.latency is not None and (plan.latency.measure is True or not comparable(told))
    if timed or plan.figure is not None:
        picture = Path(FIGURE_FILE)
        measured, notes = measure(
            section, names, plan, timed=timed, picture=out / f"{picture.stem}{number}{picture.suffix}"
        )
        part = part._replace(measured=measured, notes=notes)
        if measured is not None and measured.timing is not None:
            layout = ", channels_last" if measured.timing.channels_last else ""
            kept = KEPT if measured.timing.device.type == "cpu" and heap.is_kept() else ""
            where = f"{device_name(measured.timing.device)}, {measured.pixels} pixels, float32{layout}{kept}"
            part = part._replace(speeds=[None if c is None else of_costs(c, where) for c in measured.costs])
    picture = Path(SCATTER_FILE)
    file = f"{picture.stem}{number}{picture.suffix}"
    return part._replace(scatter=file if scatter.draw(part, out / file) else None)


def _print(report: Report) -> None:
    console = Console()
    for part in report.parts:
        row = tables.Column("row", tuple(part.names), text=True)
        if part.tested:
            quality = [row, *tables.quality(part.rows, part.reference)]
            console.print(tables.printed(quality, title=f"Test on {part.data}, percent"))
        if speed := [column for column in beside.speed(part) if not column.heading.endswith(("(ms)", "(GiB)"))]:
            console.print(tables.printed(speed, title="Speed, one image at a time"))
        lines = [brackets(part), *findings(part), *part.notes] if part.tested else []
        for line in [*lines, *map(str, claims(part.rows, part.names, part.speeds))]:
            console.print(line, soft_wrap=True, markup=False, highlight=False)
    for line in [*text.left_out(report), *(f"Missing: {m.name} ({m.state}): {m.command}" for m in report.missing)]:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
