"""From images to predictions: the protocols by which segmentation figures are reported.

The paper's figures come from windows over rescaled images, and from several scales in its Tables 3, 4 and 5. What is
added up there is `exp(logits)`, in which no window and no scale is normalised; a port that averages softmax gives other
numbers. Both are here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, get_args

import torch
from torch import Tensor

from fastfcn.errors import UserError
from fastfcn.models.layers import resize
from fastfcn.types import SegmentationOutput
from fastfcn.windows import Canvas, Fusion, Scorer, Window, grid, resized_rows

#: (B, 3, h, w) -> logits (B, C, h, w), or an output that has them.
Model = Callable[[Tensor], Tensor | SegmentationOutput]

#: Of the paper's figures, in pixels.
PAPER_BASE_SIZE, PAPER_CROP_SIZE = 520, 480
#: Bytes of full-size scores that `predict` holds at a time.
STRIPE_BYTES = 1 << 28


class Inference(Protocol):
    """A protocol.

    Attributes:
        whole: Whether it wants whole images; else the loader's centre crops.
        coarse: Whether logits at the head's resolution will do, which it resizes itself.
        fixed: Whether it asks for few shapes alone, each of which is worth compiling for.
    """

    whole: bool
    coarse: bool
    fixed: bool

    def predict(self, model: Model, image: Tensor) -> Tensor:
        """(B, 3, H, W), normalised -> class ids (B, H, W)."""

    def settings(self) -> dict[str, Any]:
        """What belongs beside a figure that was measured so."""


class Direct:
    """One forward pass on the image as it comes.

    Args:
        whole: On whole images, as None is; else on centre crops, as the original validates during training.
        optimize: The model is to be rewritten for speed before it is asked; see `fastfcn.optimize`.
    """

    coarse = False
    fixed = False

    def __init__(self, *, whole: bool | None = None, optimize: bool = False) -> None:
        self.whole = True if whole is None else whole
        self.optimize = optimize

    def predict(self, model: Model, image: Tensor) -> Tensor:
        """(B, 3, H, W), normalised -> class ids (B, H, W); UserError where the memory does not hold one pass."""
        try:
            return _classes(_logits(model(image)))
        except torch.OutOfMemoryError as error:
            height, width = image.shape[-2:]
            raise UserError(
                f"An image of {width} x {height} pixels does not fit into the device's memory in one pass: choose "
                "inference=slide, whose memory does not grow with the image, or trainer=cpu."
            ) from error

    def settings(self) -> dict[str, Any]:
        """What belongs beside a figure that was measured so."""
        return {"protocol": "whole" if self.whole else "center_crop"}


class SlidingWindow:
    """Windows over the image at each scale, their answers averaged where they overlap and added up over the scales.

    At scale s the long side becomes ceil(s * base_size). Windows of crop_size begin every 2/3 of it; what sticks out is
    black. With `flip`, each window's mirror image is asked as well.

    Args:
        scales: (1.0,) for the paper's Table 1; (0.5, 0.75, 1.0, 1.25, 1.5, 1.75) with `flip` for its other tables.
        flip: Ask mirror images too.
        base_size: Long side at scale 1, in pixels; None is the paper's 520.
        crop_size: Side of the windows, in pixels; None is the paper's 480.
        fusion: `exp_sum`: exp(logits + mirrored logits), added up over the scales, as the original code does;
            `softmax`: the mean of all the softmax.
        windows: How many windows and mirror images go through the model together; where the device's memory does not
            hold so many, fewer do. The scores do not depend on it.
        fixed: Fill batches up to `windows`, or the smallest of its halves, quarters, ... that holds them, so that few
            shapes are compiled; `optimize` does so too.
        optimize: The model is to be rewritten for speed before it is asked; see `fastfcn.optimize`.

    Raises:
        UserError: A value makes no sense.
    """

    whole = True
    coarse = True

    def __init__(
        self,
        *,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        base_size: int | None = None,
        crop_size: int | None = None,
        fusion: Fusion = "exp_sum",
        windows: int = 8,
        fixed: bool = False,
        optimize: bool = False,
    ) -> None:
        if not scales or min(scales) <= 0:
            raise UserError(f"inference.scales={list(scales)}: give at least one, all of them positive.")
        base_size = PAPER_BASE_SIZE if base_size is None else base_size
        crop_size = PAPER_CROP_SIZE if crop_size is None else crop_size
        for key, value in {"base_size": base_size, "crop_size": crop_size, "windows": windows}.items():
            if value < 1:
                raise UserError(f"inference.{key}={value} must be at least 1.")
        if crop_size < 2:
            raise UserError(f"inference.crop_size={crop_size} must be at least 2: windows begin every 2/3 of it.")
        if fusion not in get_args(Fusion):
            raise UserError(f"inference.fusion={fusion}: choose one of {', '.join(get_args(Fusion))}.")
        self.scales = tuple(scales)
        self.flip = flip
        self.base_size = base_size
        self.crop_size = crop_size
        self.stride = int(crop_size * (2.0 / 3.0))
        self.fusion = fusion
        self.windows = windows
        self.fixed = fixed or optimize
        self.optimize = optimize

    @torch.no_grad()
    def __call__(self, model: Model, image: Tensor) -> Tensor:
        """Scores at full size; there is no gradient.

        Args:
            model: Gives logits of the size of what it gets, or of a lower resolution that the model would resize to it.
            image: (B, 3, H, W), normalised by the ImageNet mean and standard deviation.

        Returns:
            (B, C, H, W) float32: sums of exp for `exp_sum`, probabilities for `softmax`.
        """
        total: Tensor | None = None
        for scores in self._scales(model, image):
            scores = resize(scores, image.shape[-2:])
            total = scores if total is None else total.add_(scores)
        assert total is not None, "there is at least one scale"
        return total

    @torch.no_grad()
    def predict(self, model: Model, image: Tensor) -> Tensor:
        """(B, 3, H, W), normalised -> class ids (B, H, W): the argmax of the scores, which are made in stripes.

        For 150 classes and an image of 4,000 x 4,000 pixels they would take 9.6 GB.
        """
        scales = list(self._scales(model, image))
        batch, classes = scales[0].shape[:2]
        height, width = image.shape[-2:]
        rows = max(1, STRIPE_BYTES // (batch * classes * width * 4))
        prediction = torch.empty((batch, height, width), dtype=torch.int64, device=image.device)
        for top in range(0, height, rows):
            stripe = slice(top, min(top + rows, height))
            total = resized_rows(scales[0], stripe, height, width)
            for scores in scales[1:]:
                total += resized_rows(scores, stripe, height, width)
            prediction[:, stripe] = _classes(total)
        return prediction

    def settings(self) -> dict[str, Any]:
        """What belongs beside a figure that was measured so."""
        return {
            "protocol": "slide" if len(self.scales) == 1 else "multiscale",
            "scales": list(self.scales),
            "flip": self.flip,
            "base_size": self.base_size,
            "crop_size": self.crop_size,
            "fusion": self.fusion,
        }

    def size_at(self, scale: float, height: int, width: int) -> tuple[int, int]:
        """Height and width of an image at a scale: the long side as asked, the short one rounded."""
        long = math.ceil(self.base_size * scale)
        if height > width:
            return long, max(1, int(1.0 * width * long / height + 0.5))
        return max(1, int(1.0 * height * long / width + 0.5)), long

    def grid(self, side: int) -> list[int]:
        """Where the windows along a side begin; the last one may stick out."""
        return grid(side, crop_size=self.crop_size, stride=self.stride)

    def _scales(self, model: Model, image: Tensor) -> Iterator[Tensor]:
        """Scores (B, C, h, w) at each scale's size, in order; the windows of all scales and images share batches."""
        canvases = (
            Canvas(resize(image, self.size_at(scale, *image.shape[-2:])), crop_size=self.crop_size, stride=self.stride)
            for scale in self.scales
        )
        scorer = Scorer(crop_size=self.crop_size, fusion=self.fusion)
        for window, plain, mirrored in self._answers(model, (w for canvas in canvases for w in canvas.windows())):
            canvas = window.canvas
            rows, columns = canvas.inside(window)
            canvas.add(window, scorer(plain, mirrored, rows=rows, columns=columns))
            if canvas.complete:
                scores = canvas.mean()
                yield scores if self.fusion == "exp_sum" else scores.div_(len(self.scales))

    def _answers(self, model: Model, windows: Iterator[Window]) -> Iterator[tuple[Window, Tensor, Tensor | None]]:
        """Each window with its logits (1, C, h, w) and, with `flip`, those of its mirror image."""
        while chosen := list(islice(windows, max(1, self.windows // (2 if self.flip else 1)))):
            crops = torch.cat([window.pixels() for window in chosen])
            logits = self._forward(model, torch.cat([crops, crops.flip(3)]) if self.flip else crops)
            for index, window in enumerate(chosen):
                mirrored = logits[len(chosen) + index :][:1] if self.flip else None
                yield window, logits[index : index + 1], mirrored

    def _forward(self, model: Model, x: Tensor) -> Tensor:
        """Logits of a batch, in parts that the device's memory holds."""
        while True:
            try:
                parts = x.split(self.windows)
                if len(parts) == 1:
                    return self._ask(model, x)
                # Copies, for the memory of an answer may be that of the next one where the model is a CUDA graph.
                return torch.cat([self._ask(model, part).clone() for part in parts])
            except torch.OutOfMemoryError as error:
                if self.windows == 1:
                    raise UserError(
                        f"One window of {self.crop_size} pixels does not fit into the device's memory: lower "
                        "inference.crop_size, or choose trainer=cpu."
                    ) from error
                self.windows = (self.windows + 1) // 2
                torch.cuda.empty_cache()

    def _ask(self, model: Model, x: Tensor) -> Tensor:
        """Logits of at most `windows` crops, filled up to one of few sizes where these are `fixed`."""
        count = len(x)
        if self.fixed:
            size = self.windows
            while count <= (size + 1) // 2 < size:
                size = (size + 1) // 2
            x = torch.cat([x, x[-1:].expand(size - count, -1, -1, -1)])
        return _logits(model(x))[:count].float()


def _logits(output: Tensor | SegmentationOutput) -> Tensor:
    return output if isinstance(output, Tensor) else output.logits


def _classes(scores: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H, W): the argmax, which torch finds in a third of the time as by-product of the maximum."""
    return scores.max(1).indices
