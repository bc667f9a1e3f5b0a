"""What an exported file says of itself, so that it can be used alone: JSON under ``fastfcn`` in its metadata."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from fastfcn.errors import UserError
from fastfcn.exporting.request import Precision
from fastfcn.types import IMAGENET_MEAN, IMAGENET_STD, DataFacts

#: Of the layout of the JSON.
VERSION = 1

#: Where a file's metadata keep it.
KEY = "fastfcn"


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is said.

    Attributes:
        format: `onnx`, `openvino` or `torch_export`.
        precision: `fp32`, `fp16` or `int8`.
        takes: The input `image` (B, 3, height, width), RGB: `normalised` (pixels of 0..1 less `mean`, over `std`,
            float32), `uint8` (0 to 255), or `float32` (0 to 1).
        gives: The output: `logits` (B, C, height, width) float32, or `classes` (B, height, width) int64.
        size: (height, width); None: any.
        batch: Images at a time; None: any number.
        least: The smallest height and width, where they are free.
        entry: What a checkpoint of this project says of model and data (`fastfcn.own_entry`): class names, palette, the
            modules and their options, the sizes of the data set's images.
        source: The checkpoint: its name, its SHA-256, its epoch and best score.
        calibration: Of `int8`: how many images of which split.
        versions: Of the project, of torch, and of what wrote the file.
        mean: Of R, G, B in 0..1, by which images are normalised.
        std: Likewise.
        version: Of this layout.
    """

    format: str
    precision: Precision
    takes: Literal["normalised", "uint8", "float32"]
    gives: Literal["logits", "classes"]
    size: tuple[int, int] | None
    batch: int | None
    least: int
    entry: dict[str, Any]
    source: dict[str, Any]
    calibration: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    version: int = VERSION

    @property
    def facts(self) -> DataFacts:
        """Of the data set that the model was trained on."""
        facts = self.entry["facts"]
        return DataFacts(
            name=facts["name"],
            class_names=tuple(facts["class_names"]),
            palette=tuple((r, g, b) for r, g, b in facts["palette"]),
            thin_classes=tuple(facts["thin_classes"]),
        )

    def to_json(self) -> str:
        """In one line."""
        return json.dumps(asdict(self))

    def size_in_words(self) -> str:
        """What images the file takes."""
        if self.size is not None:
            height, width = self.size
            return f"{width} x {height} pixels (width x height)"
        return f"at least {self.least} pixels a side"


def from_json(text: str | None, *, path: Path) -> Description:
    """Read what a file says.

    Args:
        text: Of its metadata; None where it has no such entry.
        path: Of the file, for the message.

    Raises:
        UserError: This project did not write the file, or another version of it.
    """
    if text is None:
        raise UserError(f"{path} was not written by this project: it has no entry {KEY!r}; export the checkpoint anew.")
    try:
        found = json.loads(text)
        if found["version"] != VERSION:
            raise UserError(
                f"{path} has layout version {found['version']}, this program reads {VERSION}: export it again."
            )
        if found["size"] is not None:
            height, width = found["size"]
            found["size"] = (int(height), int(width))
        description = Description(**{**found, "mean": tuple(found["mean"]), "std": tuple(found["std"])})
        assert description.facts.num_classes
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: its entry {KEY!r} is damaged ({type(error).__name__}): export it again.") from error
    return description
