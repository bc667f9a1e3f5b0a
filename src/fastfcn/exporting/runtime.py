"""Exported files as models: what calls a network of torch can call them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from fastfcn.errors import UserError
from fastfcn.exporting import onnx_file, openvino_file, torch_file
from fastfcn.exporting.description import Description, from_json
from fastfcn.exporting.network import as_input
from fastfcn.exporting.request import SUFFIXES, is_exported
from fastfcn.types import DataFacts, SegmentationOutput

#: The word among the trusted packages by which a .pt2 may be opened.
TRUSTED = "pt2"

#: The logit of what is not the class, of a file that gives classes alone: its softmax is 0.
UNLIKELY = -100.0


class Exported(nn.Module):
    """An exported file, called as the model that it was made of; it computes on the CPU.

    Args:
        path: Of the file.
        description: What it says of itself.
        run: The input's tensor -> the output's.
    """

    def __init__(self, path: Path, description: Description, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.path = path
        self.description = description
        self.run = run
        self.eval()

    @property
    def facts(self) -> DataFacts:
        """Of the data set that the model was trained on."""
        return self.description.facts

    @property
    def num_classes(self) -> int:
        """Of the logits."""
        return self.facts.num_classes

    @override
    def forward(self, image: Tensor, *, full_size: bool = True) -> SegmentationOutput:
        """(B, 3, H, W), normalised -> logits (B, C, H, W) float32 on the image's device.

        A file that takes pixels gets the image without its normalisation, for bytes rounded to them; batches are parted
        and filled up to what it takes. Where it gives classes, 0 stands for the class and UNLIKELY for the others.

        Args:
            image: Of a size that the file takes.
            full_size: False where windows or scales are added up, which class ids are no use for.

        Raises:
            UserError: The file takes no images of this size, or gives classes where logits are needed.
        """
        self._check(image)
        if not full_size:
            self.need_logits()
        wanted = as_input(image.detach().cpu(), self.description)
        found = torch.cat([self._part(part) for part in wanted.split(self.description.batch or len(wanted))])
        if self.description.gives == "classes":
            found = UNLIKELY * (1 - F.one_hot(found.long(), self.num_classes).permute(0, 3, 1, 2).float())
        return SegmentationOutput(found.to(image.device))

    def need_logits(self) -> None:
        """UserError where the file gives classes alone."""
        if self.description.gives == "classes":
            raise UserError(
                f"{self.path} gives classes, which cannot be added up over windows, scales and mirror images: choose "
                "inference=whole, or export it with export.argmax=false."
            )

    @override
    def compile(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: another runtime has compiled it.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{self.path} runs in a runtime of its own, which torch cannot compile: choose compile=false.")

    def __deepcopy__(self, memo: object) -> NoReturn:
        """Refuse what `inference.optimize` begins with.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{self.path} runs in a runtime of its own: choose inference.optimize=false.")

    def _part(self, image: Tensor) -> Tensor:
        """At most as many images as the file takes."""
        count = len(image)
        filled = [image, *[image[-1:]] * ((self.description.batch or count) - count)]
        return self.run(torch.cat(filled))[:count]

    def _check(self, image: Tensor) -> None:
        size, description = tuple(image.shape[-2:]), self.description
        fits = size == description.size if description.size is not None else min(size) >= description.least
        if not fits:
            height, width = size
            square = description.size is not None and description.size[0] == description.size[1]
            windows = (
                f"inference=slide inference.crop_size={description.size[0]}, or " if square and description.size else ""
            )
            raise UserError(
                f"{self.path} takes images of {description.size_in_words()}, not {width} x {height}: choose {windows}"
                f"export it with {'another export.size or ' if description.size else ''}export.dynamic=true."
            )


def describe(path: str | Path) -> Description:
    """What an exported file says of itself; nothing in it is run.

    Raises:
        UserError: There is no such file, or this project did not export it.
    """
    path = Path(path).expanduser()
    if not is_exported(path):
        raise UserError(f"{path} is no exported model: its name ends in none of {', '.join(SUFFIXES.values())}.")
    if not path.is_file():
        raise UserError(f"there is no file {path}; `python src/export.py ckpt_path=... to=onnx` writes one.")
    read = {".onnx": onnx_file, ".xml": openvino_file, ".pt2": torch_file}[path.suffix].description_of
    return from_json(read(path), path=path)


def load_exported(path: str | Path, *, trusted: Sequence[str] = ("fastfcn",)) -> Exported:
    """Open a file that ``export.py`` wrote as .onnx, .xml or .pt2.

    Args:
        path: Of the file.
        trusted: As of `fastfcn.load_model`. A .pt2 can run code when it is opened: it needs the word ``pt2`` here.

    Returns:
        A callable (B, 3, H, W), normalised -> SegmentationOutput, on the CPU, with `facts` of the data set.

    Raises:
        UserError: The file is missing, damaged, not of this project or not trusted, or its runtime is not installed.
    """
    path = Path(path).expanduser()
    description = describe(path)
    if path.suffix == ".pt2" and TRUSTED not in trusted:
        raise UserError(
            f"{path} can run code when it is opened, as every .pt2 of torch.export can: if you trust it, say so by "
            f"trusted=[fastfcn,{TRUSTED}]; .onnx and .xml need no trust."
        )
    runner = {".onnx": onnx_file, ".xml": openvino_file, ".pt2": torch_file}[path.suffix].runner
    return Exported(path, description, runner(path))
