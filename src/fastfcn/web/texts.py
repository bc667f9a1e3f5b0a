"""What stands on the page in words and tables, as HTML; every name that comes from a file is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from fastfcn.web.answers import Comparison, Share
from fastfcn.web.stages import STAGES
from fastfcn.web.uploads import Picture, shortened

TITLE = "FastFCN · two models, one image"

HEADER = """
<header class="ff-header">
  <h1>What does the upsampling module buy?</h1>
  <p>Two segmentation models of FastFCN-Lightning on one image: drag the line to compare what they see.</p>
</header>
"""

#: Above the small pictures.
EXAMPLES = '<p class="ff-label">or an example that no training has seen:</p>'

#: A click on a row of the legend is told to the server by the name of its class.
LEGEND_SCRIPT = """
element.addEventListener('click', (event) => {
  const row = event.target.closest('button[data-class]');
  if (row) trigger('click', {name: row.dataset.class});
});
"""


def notice(sentence: str = "", *, kind: str = "error") -> str:
    """A sentence above the picture, read out by screen readers; nothing for an empty one."""
    if not sentence:
        return ""
    return f'<div class="ff-notice ff-{kind}" role="alert">{escape(sentence)}</div>'


def untrained() -> str:
    """What stands on the page where no model was trained yet."""
    return (
        '<div class="ff-notice ff-hint" role="status"><b>No trained model was found.</b> These have random weights: '
        "their masks mean nothing, their times are real. <code>make web</code> trains two small models first, in a few "
        "minutes; <code>make demo</code> trains the four that the README compares.</div>"
    )


def caption(comparison: Comparison) -> str:
    """Which side is which, and how far they agree."""
    sides = []
    for index, (side, arrow) in enumerate((("left", "◂"), ("right", "▸"))):
        answer, right = comparison.answers[index], comparison.right(index)
        score = f"<span>{100 * right:.1f} % of the pixels right</span>" if right is not None else ""
        name = f"<b>{escape(answer.short)}</b>"
        sides.append(
            f'<div class="ff-{side}">{f"{arrow} {name}" if side == "left" else f"{name} {arrow}"}{score}</div>'
        )
    agree = f'<div class="ff-agree">{100 * comparison.agreement():.1f} %<span>alike</span></div>'
    return f'<div class="ff-caption">{sides[0]}{agree}{sides[1]}</div>'


def about(picture: Picture, comparison: Comparison, *, trained: bool) -> str:
    """What image that is, at what size the models saw it, and what they were trained on."""
    height, width = comparison.image.shape[:2]
    size = f"{width} × {height}"
    if picture.reduced:
        size = f"{picture.full_size[1]} × {picture.full_size[0]}, reduced to {size} for the models"
    known = " and ".join(dict.fromkeys(answer.found.facts.name for answer in comparison.answers))
    scenes = all(answer.found.facts.name == "scenes" for answer in comparison.answers)
    foreign = trained and scenes and comparison.truth is None
    origin = f"Trained on: {escape(known)}." if trained else "Nothing was trained: the weights are random."
    hint = " These models know drawn landscapes alone: on a photograph they guess." if foreign else ""
    return f'<p class="ff-about">{escape(shortened(picture.name))}, {size}. {origin}{hint}</p>'


def legend(comparison: Comparison, *, alone: str | None) -> str:
    """The classes with their colours and shares, each a button that shows it alone."""
    left, right = comparison.answers
    rows = "".join(_row(share, alone=alone) for share in comparison.legend())
    told = (
        f"Only <b>{escape(alone)}</b> is shown; click it again for all." if alone else "Click a class to see it alone."
    )
    return (
        '<section class="ff-legend"><h2>Classes</h2>'
        f'<div class="ff-row ff-head"><span></span><span></span><span>{escape(left.short)}</span>'
        f"<span>{escape(right.short)}</span></div>{rows}<p>{told}</p></section>"
    )


def _row(share: Share, *, alone: str | None) -> str:
    pressed = "true" if share.name == alone else "false"
    cells = "".join(
        '<span title="not a class of this model">—</span>'
        if value is None
        else f"<span>{_bar(value, share)}{_percent(value)}</span>"
        for value in share.shares
    )
    other = " ff-other" if alone is not None and share.name != alone else ""
    return (
        f'<button type="button" class="ff-row{other}" data-class="{escape(share.name)}" aria-pressed="{pressed}">'
        f'<span class="ff-swatch" style="background:rgb{share.color}"></span><span>{escape(share.name)}</span>{cells}'
        "</button>"
    )


def _bar(value: float, share: Share) -> str:
    return f'<i style="width:{100 * value:.1f}%;background:rgb{share.color}"></i>' if value else ""


def _percent(value: float) -> str:
    return "0" if value == 0 else "&lt;0.1 %" if value < 0.001 else f"{100 * value:.1f} %"


def times(comparison: Comparison, *, device: str) -> str:
    """Milliseconds of each stage, with bars on one scale."""
    left, right = comparison.answers
    totals = [sum(answer.milliseconds.values()) for answer in comparison.answers]
    longest = max(max(answer.milliseconds.values()) for answer in comparison.answers)
    rows = "".join(
        f'<tr><th scope="row">{stage}</th>'
        + "".join(_time(answer.milliseconds[stage], longest) for answer in comparison.answers)
        + "</tr>"
        for stage in STAGES
    )
    height, width = comparison.image.shape[:2]
    return (
        '<section class="ff-times"><h2>Time per stage</h2><table><thead><tr><th></th>'
        f"<th>{escape(left.short)}</th><th>{escape(right.short)}</th></tr></thead><tbody>{rows}</tbody><tfoot><tr>"
        f'<th scope="row">in all</th><td>{totals[0]:.1f} ms</td><td>{totals[1]:.1f} ms</td></tr></tfoot></table>'
        f"<p>One pass of {width} × {height}, batch 1, in float32 on {escape(device)}; "
        f"{_rounds(comparison.rounds)}, the models taking turns.</p></section>"
    )


def _time(milliseconds: float, longest: float) -> str:
    return f'<td><i style="width:{100 * milliseconds / longest:.1f}%"></i>{milliseconds:.1f} ms</td>'


def _rounds(count: int) -> str:
    return "measured once" if count == 1 else f"median of {count} rounds"


def choices(names: Sequence[str]) -> tuple[str, str]:
    """The two models that the page begins with: the paper's module against plain bilinear where both are offered."""
    jpu = next((name for name in names if name.startswith("jpu")), names[0])
    rest = [name for name in names if name != jpu] or [jpu]
    return jpu, next((name for name in rest if name.startswith("bilinear")), rest[0])
