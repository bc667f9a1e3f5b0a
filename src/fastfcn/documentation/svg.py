"""A sheet to draw on, written as SVG: boxes, arrows and words, the same bytes for the same drawing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

#: Colours by what is drawn: fill, stroke.
COLOURS = {
    "image": ("#f4f4f5", "#71717a"),
    "backbone": ("#dbeafe", "#2563eb"),
    "dilated": ("#fee2e2", "#dc2626"),
    "upsample": ("#dcfce7", "#16a34a"),
    "head": ("#fef3c7", "#d97706"),
    "even": ("#bfdbfe", "#2563eb"),
    "odd": ("#fde68a", "#d97706"),
    "plain": ("#ffffff", "#a1a1aa"),
    "one": ("none", "#2563eb"),
    "others": ("none", "#16a34a"),
}
INK, FAINT = "#27272a", "#71717a"
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"


class Sheet:
    """A white sheet; x to the right, y down, in units of a pixel at natural size.

    Args:
        width: of the sheet.
        height: of the sheet.
        title: what it shows, for those who cannot see it.
    """

    def __init__(self, width: int, height: int, *, title: str) -> None:
        self._size = (width, height)
        self._title = title
        self._parts: list[str] = []

    def box(
        self, x: float, y: float, width: float, height: float, kind: str, *lines: str, dashed: bool = False
    ) -> None:
        """A box of a kind of COLOURS, its words in the middle; the first line is bold."""
        fill, stroke = COLOURS[kind]
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" '
            f'fill="{fill}" stroke="{stroke}"{dash}/>'
        )
        for index, line in enumerate(lines):
            middle = y + height / 2 + 15 * (index - (len(lines) - 1) / 2)
            self.text(x + width / 2, middle + 4, line, bold=index == 0)

    def text(
        self, x: float, y: float, words: str, *, bold: bool = False, faint: bool = False, anchor: str = "middle"
    ) -> None:
        """One line of words; y is its base line."""
        weight = ' font-weight="600"' if bold else ""
        colour = FAINT if faint else INK
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}"{weight}>{escape(words)}</text>'
        )

    def arrow(self, *points: Sequence[float], colour: str = FAINT) -> None:
        """A line through points, with a head at its end."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.3" marker-end="url(#head)"/>'
        )

    def line(self, *points: Sequence[float], colour: str = FAINT) -> None:
        """A line through points."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self._parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.3"/>')

    def frame(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """A thick outline in the colour of a kind."""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" fill="none" '
            f'stroke="{COLOURS[kind][1]}" stroke-width="2.5"/>'
        )

    def write(self) -> str:
        """The file's text."""
        width, height = self._size
        head = (
            '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0.8 L7 4 L0 7.2 z" fill="{FAINT}"/></marker>'
        )
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
                f'width="{width}" height="{height}" role="img" font-family="{escape(FONT)}" font-size="12.5">',
                f"<title>{escape(self._title)}</title>",
                f"<defs>{head}</defs>",
                f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
                *self._parts,
                "</svg>",
                "",
            ]
        )
