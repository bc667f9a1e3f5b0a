"""What an export is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from fastfcn.errors import UserError

Precision = Literal["fp32", "fp16", "int8"]

#: Number types of an image that the graph normalises itself.
Pixels = Literal["uint8", "float32"]

#: What a model can be exported to, and the end of the file's name.
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch_export": ".pt2"}

#: The end of the name of what AOTInductor makes of a `.pt2`: machine code for one kind of processor.
COMPILED_SUFFIX = ".aoti.pt2"


def is_exported(path: str | Path) -> bool:
    """Whether a file is an exported model, by its name."""
    return Path(path).suffix in SUFFIXES.values()


def files_of(path: Path, to: str, wanted: Wanted) -> list[Path]:
    """What an export consists of; the file that is opened comes first."""
    if to == "openvino":
        return [path, path.with_suffix(".bin")]
    if to == "torch_export" and wanted.aot_inductor:
        return [path, path.with_name(path.name.removesuffix(SUFFIXES[to]) + COMPILED_SUFFIX)]
    return [path]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How a model is exported.

    Attributes:
        normalise: The graph takes RGB pixels and normalises them itself; else it takes what this project's models take.
        pixels: With `normalise`, what it takes: `uint8`, 0 to 255, or `float32`, 0 to 1.
        argmax: The graph gives class ids (B, H, W) int64 instead of logits (B, C, H, W) float32.
        size: (height, width) of the images in pixels; with `dynamic` the one that is among those compared. None: what
            the model was trained on.
        batch: Images at a time; with `dynamic` any number.
        dynamic: Batch, height and width are free.
        precision: `fp32`; `fp16`: weights in half precision; `int8`: convolutions in 8 bits, calibrated on images.
        calibration_images: How many images of the training split the ranges of `int8` are found on.
        agreement: Least part of the pixels whose class must be eager torch's; None: as `comparison.LEAST` says.
        aot_inductor: Of `torch_export`: compile it by AOTInductor too, and keep that file beside.

    Raises:
        UserError: A value that does not exist, or two that contradict.
    """

    normalise: bool = False
    pixels: Pixels = "uint8"
    argmax: bool = False
    size: Sequence[int] | None = None
    batch: int = 1
    dynamic: bool = False
    precision: Precision = "fp32"
    calibration_images: int = 64
    agreement: float | None = None
    aot_inductor: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.precision not in get_args(Precision):
            raise UserError(f"export.precision={self.precision}: choose fp32, fp16 or int8.")
        if self.pixels not in get_args(Pixels):
            raise UserError(f"export.pixels={self.pixels}: choose uint8 or float32.")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise UserError(f"export.size={list(self.size)}: give [height, width] in pixels, or null.")
        for key in ("batch", "calibration_images"):
            if getattr(self, key) < 1:
                raise UserError(f"export.{key}={getattr(self, key)} must be at least 1.")
        if self.dynamic and self.batch != 1:
            raise UserError(
                f"export.batch={self.batch} contradicts export.dynamic=true, which takes any: leave it out."
            )
        if self.pixels != "uint8" and not self.normalise:
            raise UserError(f"export.pixels={self.pixels} changes nothing without export.normalise=true: add it.")
        if self.agreement is not None and not 0 <= self.agreement <= 1:
            raise UserError(f"export.agreement={self.agreement}: give a part of the pixels, 0 to 1.")

    @property
    def takes(self) -> Literal["normalised", "uint8", "float32"]:
        """What the graph's input is."""
        return self.pixels if self.normalise else "normalised"

    def need_nothing(self, to: str) -> None:
        """UserError where an option was set, for a form that has none."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                shown = str(value).lower() if isinstance(value, bool) else value
                raise UserError(
                    f"export.{field.name}={shown} changes nothing with to={to}: it is of {', '.join(SUFFIXES)}."
                )
