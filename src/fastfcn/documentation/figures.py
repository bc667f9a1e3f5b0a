"""The paper's Figures 2 to 5, drawn anew: ``python -m fastfcn.documentation.figures`` writes docs/images/*.svg.

Widths and dilations of JPU are read from conf/upsample/jpu.yaml, so that a figure shows what a training builds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import yaml

from fastfcn.documentation.svg import Sheet
from fastfcn.errors import UserError
from fastfcn.whole_files import write_text

#: Channels of conv1 to conv5 in a ResNet-50 or deeper; strides without and with dilation.
CHANNELS = (64, 256, 512, 1024, 2048)
STRIDES, DILATED_STRIDES = (2, 4, 8, 16, 32), (2, 4, 8, 8, 8)


def _backbone(sheet: Sheet, top: float, strides: tuple[int, ...]) -> list[tuple[float, float]]:
    """Draw five stages, as high as their maps; where the arrows leave them below."""
    sheet.box(20, top + 35, 60, 90, "image", "image")
    x, ends = 110.0, []
    for stage, (stride, channels) in enumerate(zip(strides, CHANNELS, strict=True), start=1):
        high = {2: 110, 4: 88, 8: 66, 16: 44, 32: 30}[stride]
        kind = "dilated" if stride != STRIDES[stage - 1] else "backbone"
        sheet.arrow((x - 30 if stage == 1 else x - 24, top + 80), (x - 2, top + 80))
        sheet.box(x, top + 80 - high / 2, 76, high, kind, f"conv{stage}")
        sheet.text(x + 38, top + 80 + high / 2 + 15, f"1/{stride}, {channels}", faint=True)
        ends.append((x + 38, top + 80 + high / 2))
        x += 100
    return ends


def framework(jpu: dict[str, Any]) -> Sheet:
    """Figure 2, and above it what it replaces (Figure 1c)."""
    out = jpu["width"] * len(jpu["dilations"])
    sheet = Sheet(900, 400, title="The dilated backbone, and FastFCN: a plain backbone with JPU behind it")
    sheet.text(
        20, 24, "upsample=none: the dilated backbone keeps 1/8 from conv3 on (Figure 1c)", bold=True, anchor="start"
    )
    _backbone(sheet, 20, DILATED_STRIDES)
    sheet.arrow((588, 100), (718, 100))
    sheet.box(720, 67, 76, 66, "head", "head")
    sheet.text(758, 152, "Encoding, ASPP, PSP", faint=True)
    sheet.arrow((796, 100), (824, 100))
    sheet.box(826, 55, 60, 90, "image", "labels")
    sheet.text(
        20,
        204,
        "upsample=jpu: every stage halves its map, JPU brings 1/32 back to 1/8 (Figure 2)",
        bold=True,
        anchor="start",
    )
    _backbone(sheet, 205, STRIDES)
    for index, low in ((2, 355), (3, 340), (4, 325)):
        x = 148 + 100 * index
        below = 285 + {2: 33, 3: 22, 4: 15}[index]
        sheet.line((x, below + 20), (x, low))
        sheet.arrow((x, low), (607 + 12 * (4 - index), low), (607 + 12 * (4 - index), 320))
    sheet.box(600, 252, 76, 66, "upsample", "JPU")
    sheet.text(638, 246, f"1/8, {out}", faint=True)
    sheet.arrow((676, 285), (718, 285))
    sheet.box(720, 252, 76, 66, "head", "head")
    sheet.arrow((796, 285), (824, 285))
    sheet.box(826, 240, 60, 90, "image", "labels")
    words = "Below each stage: its size as a part of the image's side, and its channels in a ResNet-50 or deeper."
    sheet.text(20, 385, words, faint=True, anchor="start")
    return sheet


def _row(sheet: Sheet, x: float, y: float, name: str, kinds: str, *, gap: float = 34) -> list[float]:
    """Draw a 1D signal: ``e`` and ``o`` are elements at even and odd places, ``.`` none. Gives their middles."""
    sheet.text(x - 14, y + 17, name, bold=True, anchor="end")
    middles = []
    for index, kind in enumerate(kinds):
        left = x + gap * index
        middles.append(left + 13)
        if kind != ".":
            sheet.box(left, y, 26, 26, "even" if kind == "e" else "odd")
    return middles


def convolutions(jpu: dict[str, Any]) -> Sheet:
    """Figure 3: a dilated convolution and a strided one, in 1D."""
    del jpu
    sheet = Sheet(900, 370, title="Dilated and strided convolution in one dimension, taken apart")
    sheet.text(20, 24, "(a) dilation 2 = split, convolve the halves alike, merge", bold=True, anchor="start")
    _row(sheet, 100, 45, "f_in", "eoeoeoeo")
    _row(sheet, 100, 275, "f_out", "eoeoeoeo")
    for y, name in ((120, "f_in"), (200, "f_out")):
        _row(sheet, 90, y, f"{name}⁰", "eeee", gap=30)
        _row(sheet, 290, y, f"{name}¹", "oooo", gap=30)
    for x in (148, 348):  # the middles of the halves
        sheet.arrow((235, 73), (x, 118))
        sheet.arrow((x, 148), (x, 198))
        sheet.arrow((x, 228), (235, 273))
    sheet.text(235, 112, "split", faint=True)
    sheet.text(248, 177, "the same convolution", faint=True)
    sheet.text(235, 246, "merge", faint=True)
    sheet.text(500, 24, "(b) stride 2 = convolve, drop every other element", bold=True, anchor="start")
    _row(sheet, 570, 45, "f_in", "eoeoeoeo")
    _row(sheet, 570, 160, "f_m", "eoeoeoeo")
    _row(sheet, 570, 275, "f_out", "e.e.e.e.")
    sheet.arrow((702, 73), (702, 158))
    sheet.text(712, 119, "convolution", faint=True, anchor="start")
    for index in range(0, 8, 2):
        sheet.arrow((583 + 34 * index, 188), (583 + 34 * index, 273))
    sheet.text(617, 240, "reduce", faint=True)
    words = "Blue: even places, yellow: odd ones. What (b) gives is one of the two halves of (a)."
    sheet.text(20, 350, words, faint=True, anchor="start")
    return sheet


def joint_pyramid_upsampling(jpu: dict[str, Any]) -> Sheet:
    """Figure 4, with the widths of conf/upsample/jpu.yaml."""
    width, dilations = jpu["width"], jpu["dilations"]
    sheet = Sheet(900, 400, title="Joint Pyramid Upsampling, part by part")
    for x, words in (
        (150, "(a) one space for all levels"),
        (440, "(b) enlarge, concatenate, four dilations"),
        (745, "(c)"),
    ):
        sheet.text(x, 24, words, bold=True)
    for index, (level, stride) in enumerate((("c5", 32), ("c4", 16), ("c3", 8))):
        y = 70 + 105 * index
        sheet.box(20, y, 66, 56, "backbone", level, f"1/{stride}")
        sheet.arrow((86, y + 28), (118, y + 28))
        sheet.box(120, y, 96, 56, "upsample", "3x3 conv", f"BN, ReLU, {width}")
        sheet.arrow((216, y + 28), (246, y + 28))
        sheet.box(248, y, 66, 56, "upsample", *(("resize", f"x {stride // 8}") if stride > 8 else ("as it is",)))
        sheet.arrow((314, y + 28), (332, y + 28), (332, 203), (344, 203))
    sheet.box(346, 120, 44, 166, "plain", "y_c", f"{3 * width}")
    step = 300 / len(dilations)
    for index, dilation in enumerate(dilations):
        top = 53 + step * index + (step - 62) / 2
        sheet.arrow((390, 203), (408, 203), (408, top + 31), (422, top + 31))
        sheet.box(
            424, top, 150, 62, "upsample", f"dilation {dilation}", "depthwise 3x3, BN", f"1x1 to {width}, BN, ReLU"
        )
        sheet.arrow((574, top + 31), (594, top + 31), (594, 203), (608, 203))
    sheet.box(610, 120, 44, 166, "plain", "y", f"{width * len(dilations)}")
    sheet.arrow((654, 203), (684, 203))
    sheet.box(686, 165, 118, 76, "head", "head", "its first", "convolution: 1x1")
    words = (
        "JPU ends with y, as in the authors' code; the last convolution of Figure 4 is the first of the Encoding head."
    )
    sheet.text(20, 388, words, faint=True, anchor="start")
    return sheet


def dilations_see(jpu: dict[str, Any]) -> Sheet:
    """Figure 5: which parts of y_c the dilations relate."""
    sheet = Sheet(760, 330, title="What the convolutions of dilation 1 and 2 relate")
    sheet.text(20, 24, "The map y_m at 1/8 beside y_s, which was enlarged by 2", bold=True, anchor="start")
    for left, name, whole in ((60, "y_m", True), (430, "y_s, enlarged", False)):
        sheet.text(left + 115, 52, name, bold=True)
        for row in range(6):
            for column in range(6):
                even = row % 2 == 0 and column % 2 == 0
                kind = "even" if even else "odd" if whole else "plain"
                sheet.box(left + 40 * column, 64 + 34 * row, 32, 26, kind, dashed=not whole and not even)
    sheet.frame(56 + 40, 60 + 34, 120, 102, "one")
    sheet.frame(52, 56, 204, 178, "others")
    sheet.frame(422, 56, 204, 178, "others")
    first, *rest = jpu["dilations"]
    sheet.box(60, 284, 16, 14, "even")
    sheet.text(82, 296, "y_m⁰, and the place of y_s that was made of it", faint=True, anchor="start")
    sheet.line((400, 291), (424, 291), colour="#2563eb")
    sheet.text(432, 296, f"dilation {first}: y_m⁰ and the rest of y_m", faint=True, anchor="start")
    sheet.line((400, 315), (424, 315), colour="#16a34a")
    sheet.text(
        432, 320, f"dilation {', '.join(map(str, rest))}: y_m⁰ and y_s (drawn: {rest[0]})", faint=True, anchor="start"
    )
    return sheet


#: The figures by the names of their files.
FIGURES: dict[str, Callable[[dict[str, Any]], Sheet]] = {
    "framework": framework,
    "convolutions": convolutions,
    "jpu": joint_pyramid_upsampling,
    "jpu_dilations": dilations_see,
}


def draw(root: Path) -> dict[Path, str]:
    """Draw all.

    Args:
        root: the repository.

    Returns:
        The text of each SVG file by its path.

    Raises:
        UserError: this is no checkout of the repository.
    """
    option = root / "conf/upsample/jpu.yaml"
    if not option.is_file() or not (root / "docs").is_dir():
        raise UserError(f"{root} has no conf/upsample/jpu.yaml and docs/: call this in the folder of the repository.")
    jpu = cast("dict[str, Any]", yaml.safe_load(option.read_text(encoding="utf-8"))["upsample"])
    return {root / f"docs/images/{name}.svg": figure(jpu).write() for name, figure in FIGURES.items()}


def main() -> int:
    """Write the figures, print their names, and give the exit code."""
    try:
        for path, text in draw(Path.cwd()).items():
            write_text(path, text)
            print(path.relative_to(Path.cwd()))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
