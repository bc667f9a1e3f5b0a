"""Pictures of masks and predictions.

They are composed pixel by pixel, so that a mask of 128 x 128 stays crisp: it is enlarged by a whole factor without
interpolation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fastfcn import png_files
from fastfcn.types import IMAGENET_MEAN, IMAGENET_STD, DataFacts, UInt8Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Palette = Sequence[tuple[int, int, int]]
Mask = npt.NDArray[np.integer[Any]]

#: Statistics of ImageNet by which images are normalised, per channel, for pixel values in [0, 1].
_MEAN = np.array(IMAGENET_MEAN, dtype=np.float32)
_STD = np.array(IMAGENET_STD, dtype=np.float32)

_GAP = 6  # pixels between cells
_MARGIN = 14
_INK = (32, 32, 32)
_FAINT = (110, 110, 110)


class Example(NamedTuple):
    """One row of a figure.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        truth: (H, W) class ids; a negative one is ignored.
        predictions: one (H, W) mask of class ids per model.
        name: of the image.
    """

    image: UInt8Array
    truth: Mask
    predictions: tuple[Mask, ...]
    name: str = ""


def denormalise(image: Tensor) -> UInt8Array:
    """Turns a normalised (3, H, W) image back into (H, W, 3) uint8 RGB."""
    pixels = image.detach().float().cpu().numpy().transpose(1, 2, 0) * _STD + _MEAN
    return np.asarray((pixels * 255).round().clip(0, 255), dtype=np.uint8)


def colourise(mask: Mask, palette: Palette) -> UInt8Array:
    """Paints an (H, W) mask of class ids by its palette; ignored (negative) pixels are white with grey hatching.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        IndexError: A class id has no colour.
    """
    ignored = mask < 0
    rgb = np.asarray(palette, dtype=np.uint8)[np.where(ignored, 0, mask)]
    rows, columns = np.indices(mask.shape)
    hatching = np.where((rows + columns) % 8 < 2, 176, 255).astype(np.uint8)
    rgb[ignored] = hatching[ignored][:, None]
    return rgb


def figure_rows(
    rows: Sequence[Example],
    *,
    facts: DataFacts,
    headings: Sequence[str] = ("prediction",),
    headlines: Sequence[str] = (),
    errors: bool = False,
    cell: int = 256,
) -> UInt8Array:
    """Draws one row per image with the columns input, truth and one per model, and a legend of the classes that occur.

    Args:
        rows: What to draw; all have as many predictions as there are headings.
        facts: Names and colours of the classes.
        headings: One per prediction column.
        headlines: A second, smaller line under each heading (a score, say); none or one per heading.
        errors: Adds under each prediction its wrong pixels alone, on the faded image, with their share.
        cell: Longest side of a cell, pixels.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    assert rows, "a figure needs a row"
    assert all(len(row.predictions) == len(headings) for row in rows)
    assert len(headlines) in (0, len(headings))

    width = 2 * _MARGIN + (2 + len(headings)) * (cell + _GAP) - _GAP
    strips = [_heading_strip(("input", "truth", *headings), ("", "", *headlines) if headlines else (), cell, width)]
    for row in rows:
        cells = [_fit_image(row.image, cell)]
        cells += [colourise(_fit_mask(mask, cell), facts.palette) for mask in (row.truth, *row.predictions)]
        strips.append(_cell_strip(cells, cell, width))
        if errors:
            strips.append(_error_strip(row, facts.palette, cell, width))
    strips.append(_legend_strip(rows, facts, width))
    return np.concatenate(strips)


def save_png(rgb: UInt8Array, path: Path) -> None:
    """Writes an (H, W, 3) picture as a small file; see `png_files.save`."""
    png_files.save(rgb, path, optimize=True)


def save_figure(figure: Figure, path: Path) -> None:
    """Draws a figure of matplotlib and writes it as `save_png` does."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.canvas.draw()
    save_png(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy(), path)  # type: ignore[attr-defined]


@cache
def dejavu_sans(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with the plotting library: the same on every machine, with letters of many scripts."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size)


def _fitting_font(text: str, size: int, width: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The largest font up to size in which the text is at most so wide; 8 points at least."""
    while size > 8 and dejavu_sans(size, bold=bold).getlength(text) > width:
        size -= 1
    return dejavu_sans(size, bold=bold)


def _canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    canvas = Image.new("RGB", (width, height), "white")
    return canvas, ImageDraw.Draw(canvas)


def _fitted_size(height: int, width: int, cell: int) -> tuple[int, int]:
    """Size in the cell: enlarged by a whole factor, or reduced by any."""
    scale = cell / max(height, width)
    scale = float(int(scale)) if scale >= 1 else scale
    return max(1, round(height * scale)), max(1, round(width * scale))


def _fit_image(image: UInt8Array, cell: int) -> UInt8Array:
    height, width = _fitted_size(image.shape[0], image.shape[1], cell)
    resample = Image.Resampling.NEAREST if height >= image.shape[0] else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(image).resize((width, height), resample))


def _fit_mask(mask: Mask, cell: int) -> Mask:
    height, width = _fitted_size(mask.shape[0], mask.shape[1], cell)
    rows, columns = (np.arange(new) * old // new for new, old in zip((height, width), mask.shape, strict=True))
    return np.asarray(mask[rows[:, None], columns])


def _column(index: int, cell: int) -> int:
    return _MARGIN + index * (cell + _GAP)


def _heading_strip(headings: Sequence[str], headlines: Sequence[str], cell: int, width: int) -> UInt8Array:
    canvas, draw = _canvas(width, 54 if headlines else 36)
    for index, heading in enumerate(headings):
        centre = _column(index, cell) + cell // 2
        draw.text((centre, 20), heading, _INK, _fitting_font(heading, 17, cell, bold=True), anchor="mm")
        if headlines:
            draw.text((centre, 40), headlines[index], _FAINT, _fitting_font(headlines[index], 14, cell), anchor="mm")
    return np.asarray(canvas)


def _cell_strip(cells: Sequence[UInt8Array | None], cell: int, width: int) -> UInt8Array:
    height = max(picture.shape[0] for picture in cells if picture is not None)
    strip = np.full((height + _GAP, width, 3), 255, dtype=np.uint8)
    for index, picture in enumerate(cells):
        if picture is not None:
            top = (height - picture.shape[0]) // 2
            left = _column(index, cell) + (cell - picture.shape[1]) // 2
            strip[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return strip


def _error_strip(row: Example, palette: Palette, cell: int, width: int) -> UInt8Array:
    """The wrong pixels of each prediction in the colour of the class they were given, all others faded."""
    grey = _fit_image(row.image, cell).mean(axis=2, keepdims=True)
    faded = np.repeat(255 - (255 - grey) * 0.25, 3, axis=2).astype(np.uint8)
    known = row.truth >= 0
    cells: list[UInt8Array | None] = [None, None]
    captions = []
    for prediction in row.predictions:
        wrong = (prediction != row.truth) & known
        painted = colourise(_fit_mask(prediction, cell), palette)
        cells.append(np.where(_fit_mask(wrong.astype(np.uint8), cell)[..., None] > 0, painted, faded))
        captions.append(f"{100 * wrong.sum() / max(1, known.sum()):.1f} % wrong")
    canvas = Image.fromarray(np.pad(_cell_strip(cells, cell, width), ((0, 22), (0, 0), (0, 0)), constant_values=255))
    draw = ImageDraw.Draw(canvas)
    middle = (canvas.height - 22) // 2
    draw.text((_column(1, cell) + cell, middle), "wrong pixels  \u25b8", _FAINT, dejavu_sans(14), anchor="rm")
    for index, caption in enumerate(captions):
        draw.text(
            (_column(2 + index, cell) + cell // 2, canvas.height - 20), caption, _FAINT, dejavu_sans(13), anchor="mm"
        )
    return np.asarray(canvas)


def _legend_strip(rows: Sequence[Example], facts: DataFacts, width: int) -> UInt8Array:
    """Swatches of the classes that occur in a truth or a prediction, wrapped to the width."""
    occurring = sorted(
        {int(label) for row in rows for mask in (row.truth, *row.predictions) for label in np.unique(mask)}
    )
    labels = [label for label in occurring if label >= 0] + [-1] * any(label < 0 for label in occurring)
    font, swatch, line = dejavu_sans(14), 18, 26
    places: list[tuple[int, int, int, str]] = []
    x, y = _MARGIN, 8
    for label in labels:
        name = facts.class_names[label] if label >= 0 else "ignored"
        advance = swatch + 7 + int(font.getlength(name)) + 20
        if x > _MARGIN and x + advance > width:
            x, y = _MARGIN, y + line
        places.append((x, y, label, name))
        x += advance
    canvas, draw = _canvas(width, y + line + 8)
    for left, top, label, name in places:
        canvas.paste(Image.fromarray(colourise(np.full((swatch, swatch), label), facts.palette)), (left, top))
        draw.rectangle((left, top, left + swatch - 1, top + swatch - 1), outline=_FAINT)
        draw.text((left + swatch + 7, top + swatch // 2), name, _INK, font, anchor="lm")
    return np.asarray(canvas)
