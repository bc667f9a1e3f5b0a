"""From images to predictions: the protocols by which segmentation figures are reported.

The paper's figures come from windows over rescaled images, and from several scales in its Tables 3, 4 and 5. What is
added up there is `exp(logits)`, in which no window and no scale is normalised; a port that averages softmax gives other
numbers. Both are here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from fastfcn.errors import UserError
from fastfcn.models.layers import resize
from fastfcn.types import BLACK, SegmentationOutput

#: (B, 3, h, w) -> logits (B, C, h, w), or an output that has them.
Model = Callable[[Tensor], Tensor | SegmentationOutput]

#: How the answers of windows, mirror images and scales become one.
Fusion = Literal["exp_sum", "softmax"]

#: Of the paper's figures, in pixels.
PAPER_BASE_SIZE, PAPER_CROP_SIZE = 520, 480

#: Bytes of full-size scores that `predict` holds at a time.
STRIPE_BYTES = 1 << 28


class Inference(Protocol):
    """A protocol.

    Attributes:
        whole: Whether it wants whole images; else the loader's centre crops.
    """

    whole: bool

    def predict(self, model: Model, image: Tensor) -> Tensor:
        """(B, 3, H, W), normalised -> class ids (B, H, W)."""

    def settings(self) -> dict[str, Any]:
        """What belongs beside a figure that was measured so."""


class Direct:
    """One forward pass on the image as it comes.

    Args:
        whole: On whole images at their own size; else on centre crops, as the original validates during training.
    """

    def __init__(self, *, whole: bool) -> None:
        self.whole = whole

    def predict(self, model: Model, image: Tensor) -> Tensor:
        """(B, 3, H, W), normalised -> class ids (B, H, W)."""
        return _logits(model(image)).argmax(1)

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

    Raises:
        UserError: A value makes no sense.
    """

    whole = True

    def __init__(
        self,
        *,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        base_size: int | None = None,
        crop_size: int | None = None,
        fusion: Fusion = "exp_sum",
        windows: int = 8,
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

    def __call__(self, model: Model, image: Tensor) -> Tensor:
        """Scores at full size.

        Args:
            model: Gives logits of the size of what it gets.
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

    def predict(self, model: Model, image: Tensor) -> Tensor:
        """(B, 3, H, W), normalised -> class ids (B, H, W): the argmax of the scores, which never exist at full size.

        For 150 classes and an image of 4,000 x 4,000 pixels they would take 9.6 GB.
        """
        scales = list(self._scales(model, image))
        batch, classes = scales[0].shape[:2]
        height, width = image.shape[-2:]
        rows = max(1, STRIPE_BYTES // (batch * classes * width * 4))
        prediction = torch.empty((batch, height, width), dtype=torch.int64, device=image.device)
        for top in range(0, height, rows):
            stripe = slice(top, min(top + rows, height))
            total = _stripe(scales[0], stripe, height, width)
            for scores in scales[1:]:
                total += _stripe(scores, stripe, height, width)
            prediction[:, stripe] = total.argmax(1)
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

    def _scales(self, model: Model, image: Tensor) -> Iterator[Tensor]:
        """Scores (B, C, h, w) at each scale's size."""
        for scale in self.scales:
            scores = self._slide(model, resize(image, self.size_at(scale, *image.shape[-2:])))
            yield scores if self.fusion == "exp_sum" else scores / len(self.scales)

    def size_at(self, scale: float, height: int, width: int) -> tuple[int, int]:
        """Height and width of an image at a scale: the long side as asked, the short one rounded."""
        long = math.ceil(self.base_size * scale)
        if height > width:
            return long, max(1, int(1.0 * width * long / height + 0.5))
        return max(1, int(1.0 * height * long / width + 0.5)), long

    def grid(self, side: int) -> list[int]:
        """Where the windows along a side begin; the last one may stick out."""
        return [index * self.stride for index in range(math.ceil(max(side - self.crop_size, 0) / self.stride) + 1)]

    def _slide(self, model: Model, image: Tensor) -> Tensor:
        """The mean of the windows' answers: (B, 3, h, w) -> (B, C, h, w)."""
        batch, _, height, width = image.shape
        crop = self.crop_size
        corners = [(top, left) for top in self.grid(height) for left in self.grid(width)]
        bottom, right = corners[-1]
        padded = _padded(image, bottom + crop, right + crop)
        total: Tensor | None = None
        count = torch.zeros((1, 1, bottom + crop, right + crop), device=image.device)
        together = max(1, self.windows // (batch * (2 if self.flip else 1)))
        for first in range(0, len(corners), together):
            chosen = corners[first : first + together]
            crops = torch.cat([padded[:, :, top : top + crop, left : left + crop] for top, left in chosen])
            for (top, left), answer in zip(chosen, self._answers(model, crops).split(batch), strict=True):
                if total is None:
                    total = answer.new_zeros((batch, answer.shape[1], *count.shape[-2:]))
                total[:, :, top : top + crop, left : left + crop] += answer
                count[:, :, top : top + crop, left : left + crop] += 1
        assert total is not None, "there is at least one window"
        return (total / count)[:, :, :height, :width]

    def _answers(self, model: Model, crops: Tensor) -> Tensor:
        """What windows (N, 3, crop, crop) add to the scores: (N, C, crop, crop) float32."""
        logits = self._forward(model, torch.cat([crops, crops.flip(3)]) if self.flip else crops)
        if not self.flip:
            return logits.exp() if self.fusion == "exp_sum" else logits.softmax(1)
        plain, mirrored = logits.chunk(2)
        mirrored = mirrored.flip(3)
        if self.fusion == "exp_sum":
            return (plain + mirrored).exp()
        return (plain.softmax(1) + mirrored.softmax(1)) / 2

    def _forward(self, model: Model, x: Tensor) -> Tensor:
        """Logits of a batch, in parts that the device's memory holds."""
        while True:
            try:
                return torch.cat([_logits(model(part)).float() for part in x.split(self.windows)])
            except torch.OutOfMemoryError as error:
                if self.windows == 1:
                    raise UserError(
                        f"One window of {self.crop_size} pixels does not fit into the device's memory: lower "
                        "inference.crop_size, or choose trainer=cpu."
                    ) from error
                self.windows = (self.windows + 1) // 2
                torch.cuda.empty_cache()


def _logits(output: Tensor | SegmentationOutput) -> Tensor:
    return output if isinstance(output, Tensor) else output.logits


def _padded(image: Tensor, height: int, width: int) -> Tensor:
    """Pad with black, which is not 0 once an image is normalised, at the right and at the bottom."""
    black = torch.tensor(BLACK, dtype=image.dtype, device=image.device)[None, :, None, None]
    padded = black.expand(len(image), -1, height, width).clone()
    padded[:, :, : image.shape[2], : image.shape[3]] = image
    return padded


def _stripe(scores: Tensor, rows: slice, height: int, width: int) -> Tensor:
    """Some rows of what `resize` would give: (B, C, h, w) -> (B, C, rows, width)."""
    step = (scores.shape[2] - 1) / max(height - 1, 1)
    y = torch.arange(rows.start, rows.stop, dtype=torch.float64, device=scores.device) * step
    above = y.floor().long().clamp(max=scores.shape[2] - 1)
    below = (above + 1).clamp(max=scores.shape[2] - 1)
    weight = (y - above).to(scores.dtype)[None, None, :, None]
    mixed = torch.lerp(scores[:, :, above], scores[:, :, below], weight)
    return resize(mixed, (mixed.shape[2], width))
