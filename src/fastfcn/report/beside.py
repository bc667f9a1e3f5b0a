"""Tables that set the rows beside the paper's: quality, speed, and what the trainings cost."""

from __future__ import annotations

from collections.abc import Sequence

from fastfcn.report import paper, tables
from fastfcn.report.contents import Part
from fastfcn.report.speed import expense, training_minutes
from fastfcn.report.tables import Column, number, spread


def quality(part: Part) -> tuple[str, list[Column]] | None:
    """Heading and columns of ours and the paper's pixAcc and mIoU; None where the paper has none of the rows."""
    found = paper.beside(part.section)
    if not any(found.figures):
        return None
    columns = [
        Column("row", tuple(part.names), text=True),
        Column("pixAcc", tuple(spread(row.estimate("pixAcc")) for row in part.rows)),
        Column("mIoU", tuple(spread(row.estimate("mIoU")) for row in part.rows)),
    ]
    title = "paper" if found.comparable else f"paper ({found.short})"
    columns += [
        Column(f"{title} pixAcc", tuple(number(None if f is None else f.pix_acc) for f in found.figures)),
        Column(f"{title} mIoU", tuple(number(None if f is None else f.miou) for f in found.figures)),
    ]
    if found.comparable:
        columns.append(Column("mIoU less paper's", tuple(_gap(part, i, f) for i, f in enumerate(found.figures))))
        return f"Beside the paper: {found.title}", columns
    return f"For scale, not comparable: the paper's {found.title}", columns


def quality_notes(part: Part) -> list[str]:
    """In what the rows beside the paper's are not its own."""
    found = paper.beside(part.section)
    if not found.comparable:
        return [
            "Data set, protocol or backbone are not the paper's: its figures tell the order and the distances, no more."
        ]
    notes = []
    epochs = {run.results.get("epochs") for row in part.rows for run in row.runs}
    wanted = paper.EPOCHS[part.section.data]
    if epochs != {wanted}:
        told = ", ".join(map(str, sorted(epochs, key=str)))
        notes.append(f"Trained for {told} epochs; the paper's trainings have {wanted}.")
    if any(paper.depth(row.backbone) and not row.backbone.endswith("s") for row in part.rows):
        notes.append("The paper's ResNets have a stem of three 3x3 convolutions, these one of 7x7.")
    return notes


def speed(part: Part) -> list[Column]:
    """Images per second and the ratio to the reference beside Table 2's; empty where no row has a speed."""
    speeds = part.speeds
    if all(speed is None for speed in speeds):
        return []
    fps = [None if s is None else s.fps for s in speeds]
    theirs = [paper.fps(row) for row in part.rows]
    their_fps = [None if found is None else found[0] for found in theirs]
    places = {s.where for s in speeds if s is not None}
    memory = [None if s is None else s.memory_gib for s in speeds]
    columns = [
        Column("row", tuple(part.names), text=True),
        Column("FPS", tuple(number(value) for value in fps)),
        Column("ratio", _ratios(part, fps, [None if s is None else s.where for s in speeds])),
        Column("ms", tuple("-" if s is None else number(s.milliseconds[0]) for s in speeds)),
        Column("p10 to p90 (ms)", tuple(_between(s.milliseconds) if s else "-" for s in speeds)),
    ]
    if any(value is not None for value in memory):
        columns.append(Column("peak memory (GiB)", tuple(number(value) for value in memory)))
    if any(theirs):
        columns += [
            Column("paper's FPS", tuple(number(value) for value in their_fps)),
            Column("paper's ratio", _ratios(part, their_fps, ["" for _ in theirs])),
        ]
    if len(places) > 1:
        columns.append(Column("measured on", tuple("-" if s is None else s.where for s in speeds), text=True))
    return columns


def speed_notes(part: Part) -> list[str]:
    """How the speeds were measured, and with what the paper's were."""
    places = list(dict.fromkeys(s.where for s in part.speeds if s is not None))
    alike = "not all rows were measured in the same way: a ratio is given where row and reference were"
    how = places[0] if len(places) == 1 else alike
    ours = f"FPS is that of one image at a time, the inverse of the median time; {how}."
    notes = [ours, "Ratios are to the row's reference, which in the paper's column is `none` of the same head."]
    if any(found := [paper.fps(row) for row in part.rows]):
        foreign = [
            row.backbone for row, f in zip(part.rows, found, strict=True) if f and paper.depth(row.backbone) is None
        ]
        scale = f" {', '.join(dict.fromkeys(foreign))} stands beside ResNet-50's, for scale." if foreign else ""
        notes.append(f"The paper's FPS are Table 2's: a Titan Xp, images of 512 x 512, the mean of 100.{scale}")
    return notes


def cost(part: Part) -> list[Column]:
    """What the trainings of each row cost, all seeds together; empty where nothing was recorded."""
    spent = [expense(row) for row in part.rows]
    if all(each.gpu_hours is None and each.cpu_hours is None for each in spent):
        return []
    columns = [
        Column("row", tuple(part.names), text=True),
        Column("runs", tuple(str(len(row.runs)) for row in part.rows)),
        Column("minutes per run", tuple(number(training_minutes(row), 1) for row in part.rows)),
    ]
    for heading, values, decimals in (
        ("GPU hours", [each.gpu_hours for each in spent], 2),
        ("CPU process hours", [each.cpu_hours for each in spent], 2),
        ("peak memory (GiB)", [each.memory_gib for each in spent], 2),
    ):
        if any(value is not None for value in values):
            columns.append(Column(heading, tuple(number(value, decimals) for value in values)))
    columns.append(Column("on", tuple(", ".join(each.devices) for each in spent), text=True))
    return columns


def cost_notes(part: Part) -> list[str]:
    """The sums, each by its own name."""
    spent = [expense(row) for row in part.rows]
    gpu, cpu = (
        [h for h in hours if h is not None] for hours in zip(*((e.gpu_hours, e.cpu_hours) for e in spent), strict=True)
    )
    told = [f"{sum(gpu):,.2f} GPU hours"] * bool(gpu) + [f"{sum(cpu):,.2f} CPU process hours"] * bool(cpu)
    notes = [f"All rows together: {' and '.join(told)}; runs that are not in the tables are not in it."]
    if cpu:
        notes.append("A CPU process hour is an hour of one training process, whatever the number of its threads.")
    if any(run.config.get("resume") for row in part.rows for run in row.runs):
        notes.append("Of runs that were resumed, the time since then is counted.")
    return notes


def _gap(part: Part, index: int, figure: paper.Quality | None) -> str:
    found = part.rows[index].estimate("mIoU")
    return "-" if figure is None or found is None else f"{100 * found.mean - figure.miou:+.2f}"


def _ratios(part: Part, values: Sequence[float | None], places: Sequence[str | None]) -> tuple[str, ...]:
    cells = []
    for index, other in enumerate(part.reference):
        value, base = values[index], values[other]
        known = value is not None and base is not None and places[index] == places[other]
        cells.append(tables.times(value, base) if known else "-")  # type: ignore[arg-type]
    return tuple(cells)


def _between(milliseconds: tuple[float, float, float]) -> str:
    return f"{number(milliseconds[1])} to {number(milliseconds[2])}"
