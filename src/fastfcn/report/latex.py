"""The tables for a paper: LaTeX with booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fastfcn.report import paper
from fastfcn.report.contents import Part, Report
from fastfcn.report.estimates import Estimate, difference
from fastfcn.results import percent

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}",
}  # fmt: skip

_NAMES = {"encoding": "Encoding", "aspp": "ASPP", "psp": "PSP", "fcn": "FCN", "none": "None", "bilinear": "Bilinear"}
_NAMES |= {"fpn": "FPN", "jpu": "JPU", "jpu_x": "JPU_X", "bilinear_skip": "Bilinear + skip", "guided": "Guided filter"}
_NAMES |= {"carafe": "CARAFE", "sapa": "SAPA", "dysample": "DySample"}
_NAMES |= {"pascal_context": "Pascal Context", "ade20k": "ADE20K"}


def tables(report: Report) -> str:
    """One table per section, for a document with booktabs to take in."""
    parts = [_table(part, f"{index}-" if index else "") for index, part in enumerate(report.parts)]
    return "\n".join(["% \\usepackage{booktabs} in the preamble, then \\input{report.tex}", *parts])


def escape(text: str) -> str:
    """A text as LaTeX prints it."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def name(option: str) -> str:
    """An option's name as the paper writes it: JPU, ResNet-50."""
    resnet = re.fullmatch(r"resnet(\d+)(s?)", option)
    return escape(f"ResNet-{resnet[1]}{resnet[2]}" if resnet else _NAMES.get(option, option))


def _table(part: Part, number: str) -> str:
    ours, theirs, rows = _quality(part) if part.tested else _speed(part)
    several = len({row.backbone for row in part.rows}) > 1
    first = ["Backbone"] * several + ["Head", "OS", "Upsampling"]
    own = [
        [name(row.backbone)] * several + [name(row.head), str(row.output_stride), _upsampling(part, index)]
        for index, row in enumerate(part.rows)
    ]
    lines = []
    for index, cells in enumerate(rows):
        group = (part.rows[index].backbone, part.rows[index].head)
        if index and group != (part.rows[index - 1].backbone, part.rows[index - 1].head):
            lines.append("    \\midrule")
        lines.append(f"    {' & '.join([*own[index], *cells])} \\\\")
    label = re.sub(r"[^a-z0-9]+", "-", part.data.lower()).strip("-") or "data"
    kind = part.section.protocol or "speed"
    blank, width = len(first), len(first) + len(ours)
    over = (
        f"{'& ' * blank}\\multicolumn{{{len(ours)}}}{{c}}{{ours}} & \\multicolumn{{{len(theirs)}}}{{c}}{{paper}} \\\\"
    )
    rules = f"\\cmidrule(lr){{{blank + 1}-{width}}} \\cmidrule(lr){{{width + 1}-{width + len(theirs)}}}"
    return "\n".join(
        [
            "\\begin{table}",
            "  \\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}",
            f"  \\caption{{{_caption(part)}}}",
            f"  \\label{{tab:{number}{label}-{kind.replace('_', '-')}}}",
            f"  \\begin{{tabular}}{{{'l' * (len(first) - 2)}rl{'r' * len(ours + theirs)}}}",
            "    \\toprule",
            *([f"    {over}", f"    {rules}"] if theirs else []),
            f"    {' & '.join([*first, *ours, *theirs])} \\\\",
            "    \\midrule",
            *lines,
            "    \\bottomrule",
            "  \\end{tabular}",
            "\\end{table}",
            "",
        ]
    )


def _upsampling(part: Part, index: int) -> str:
    row = part.rows[index]
    settings = ", ".join(f"{key}={value}" for key, value in row.settings)
    return name(row.upsample) + (f" ({escape(settings)})" if settings else "")


def _caption(part: Part) -> str:
    first = part.rows[0]
    backbones = ", ".join(dict.fromkeys(name(row.backbone) for row in part.rows))
    places = list(dict.fromkeys(speed.where for speed in part.speeds if speed is not None))
    fps = f" FPS: one image at a time, {escape('; '.join(places))}." if places else ""
    if not part.tested:
        return f"Speed with {backbones}.{fps} The ratio is to None of the same head; paper: a Titan Xp."
    protocol = escape(str(part.section.protocol).replace("_", " "))
    counts = sorted({len(row.runs) for row in part.rows})
    runs = "one seed" if counts == [1] else f"{'--'.join(str(n) for n in (counts[0], counts[-1])[: len(counts)])} seeds"
    spread = " $\\pm$: half the 95\\% $t$-interval of the mean over the seeds." if counts[-1] > 1 else ""
    beside = paper.beside(part.section)
    theirs = ""
    if any(beside.figures):
        kind = "" if beside.comparable else ", for scale, not comparable"
        theirs = f" Paper: {escape(beside.title)}{kind}."
    split = escape(str(first.runs[0].config["data"].get("split") or "test"))
    return f"{name(part.data)}, {split} ({protocol}), {backbones}, {runs}; percent.{spread}{fps}{theirs}"


def _quality(part: Part) -> tuple[list[str], list[str], list[list[str]]]:
    """Headings of our columns and of the paper's, and the cells of each row."""
    beside = paper.beside(part.section)
    any_speed = any(speed is not None for speed in part.speeds)
    any_paper = any(beside.figures)
    ours = ["pixAcc", "mIoU", r"$\Delta$ mIoU"] + ["FPS"] * any_speed
    rows = []
    for index, row in enumerate(part.rows):
        other = part.reference[index]
        gain = None if index == other else difference(row.by_seed("mIoU"), part.rows[other].by_seed("mIoU"))
        cells = [_spread(row.estimate("pixAcc")), _spread(row.estimate("mIoU"))]
        cells.append(_spread(gain.estimate, signed=True) if gain else "--")
        speed, figure = part.speeds[index], beside.figures[index]
        cells += [f"{speed.fps:.2f}" if speed else "--"] * any_speed
        if any_paper:
            cells += _paper_cells(figure)
        rows.append(cells)
    return ours, ["pixAcc", "mIoU"] * any_paper, rows


def _paper_cells(figure: paper.Quality | None) -> list[str]:
    values: Sequence[float | None] = (figure.pix_acc, figure.miou) if figure else (None, None)
    return ["--" if value is None else f"{value:.2f}" for value in values]


def _speed(part: Part) -> tuple[list[str], list[str], list[list[str]]]:
    theirs = [paper.fps(row) for row in part.rows]
    rows = []
    for index, other in enumerate(part.reference):
        ours, base = part.speeds[index], part.speeds[other]
        ratio = f"{ours.fps / base.fps:.2f}" if ours and base and ours.where == base.where else "--"
        own, paper_base = theirs[index], theirs[other]
        paper_ratio = f"{own[0] / paper_base[0]:.2f}" if own and paper_base else "--"
        rows.append([f"{ours.fps:.2f}" if ours else "--", ratio, f"{own[0]:.2f}" if own else "--", paper_ratio])
    return ["FPS", "ratio"], ["FPS", "ratio"], rows


def _spread(found: Estimate | None, *, signed: bool = False) -> str:
    if found is None:
        return "--"
    mean = f"{100 * found.mean:+.2f}" if signed else percent(found.mean)
    return f"${mean} \\pm {percent(found.half)}$" if found.half is not None else f"${mean}$"
