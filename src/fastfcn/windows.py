"""Windows over an image at one scale: where they lie, and how their answers are added up.

This is most of what an evaluation does beside the network. For 59 classes a window of 480 pixels has 13.6 million
scores, so each pass over them counts: logits are added to their mirror image's at the resolution of the head, the
resize makes only what lies inside the image, and it writes into memory that the next window uses again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fastfcn.models.layers import full_precision, interpolation, resize
from fastfcn.types import BLACK

#: How the answers of windows, mirror images and scales become one.
Fusion = Literal["exp_sum", "softmax"]


def grid(side: int, *, crop_size: int, stride: int) -> list[int]:
    """Where the windows along a side begin; the last one may stick out."""
    return [index * stride for index in range(math.ceil(max(side - crop_size, 0) / stride) + 1)]


class Window(NamedTuple):
    """One window.

    Attributes:
        canvas: Of its scale.
        image: Number of its image in the batch.
        top: Of its first row.
        left: Of its first column.
    """

    canvas: Canvas
    image: int
    top: int
    left: int

    def pixels(self) -> Tensor:
        """What the model sees of it: (1, 3, crop, crop)."""
        return self.canvas.pixels(self)


class Canvas:
    """A batch of images at one scale, and the scores of their windows.

    Args:
        image: (B, 3, h, w), normalised, at the scale's size.
        crop_size: Side of the windows.
        stride: From one window to the next.
    """

    def __init__(self, image: Tensor, *, crop_size: int, stride: int) -> None:
        self._batch, _, self._height, self._width = image.shape
        self._crop_size = crop_size
        self._tops, self._lefts = (grid(side, crop_size=crop_size, stride=stride) for side in image.shape[2:])
        self._padded = _padded(image, self._tops[-1] + crop_size, self._lefts[-1] + crop_size)
        self._missing = self._batch * len(self._tops) * len(self._lefts)
        self._total: Tensor | None = None

    def windows(self) -> Iterator[Window]:
        """All windows of all images."""
        for top, left in product(self._tops, self._lefts):
            for index in range(self._batch):
                yield Window(self, index, top, left)

    def pixels(self, window: Window) -> Tensor:
        """What the model sees of a window: (1, 3, crop, crop), black where it sticks out."""
        rows = slice(window.top, window.top + self._crop_size)
        return self._padded[window.image : window.image + 1, :, rows, window.left : window.left + self._crop_size]

    def inside(self, window: Window) -> tuple[int, int]:
        """How many of a window's rows and columns lie inside the image."""
        return min(self._crop_size, self._height - window.top), min(self._crop_size, self._width - window.left)

    def add(self, window: Window, scores: Tensor) -> None:
        """Add the scores of a window, (1, C, rows, columns) of what lies inside the image."""
        if self._total is None:
            self._total = scores.new_zeros((self._batch, scores.shape[1], self._height, self._width))
        rows, columns = (slice(begin, begin + size) for begin, size in zip(window[2:], scores.shape[2:], strict=True))
        self._total[window.image, :, rows, columns] += scores[0]
        self._missing -= 1

    @property
    def complete(self) -> bool:
        """Whether all windows have been added."""
        return self._missing == 0

    def mean(self) -> Tensor:
        """The mean of the windows' scores, (B, C, h, w) float32; to be taken once, for it is made in place."""
        assert self._total is not None, "windows have been added"
        if len(self._tops) * len(self._lefts) > 1:
            rows = self._cover(self._tops, self._height)
            self._total.div_(rows[:, None] * self._cover(self._lefts, self._width))
        return self._total

    def _cover(self, begins: list[int], side: int) -> Tensor:
        """How many windows lie over each row, or column."""
        cover = torch.zeros(side, device=self._padded.device)
        for begin in begins:
            cover[begin : begin + self._crop_size] += 1
        return cover


class Scorer:
    """Makes scores of a window's logits, in memory that is used again for the next window.

    Args:
        crop_size: Side of the windows.
        fusion: What scores are.
    """

    def __init__(self, *, crop_size: int, fusion: Fusion) -> None:
        self._crop_size = crop_size
        self._fusion = fusion
        self._memory: Tensor | None = None
        self._weights: dict[int, Tensor] = {}

    def __call__(self, plain: Tensor, mirrored: Tensor | None, *, rows: int, columns: int) -> Tensor:
        """Scores of the first rows and columns of a window.

        Args:
            plain: Its logits, (1, C, crop, crop) or of lower resolution.
            mirrored: Those of its mirror image, as the model gives them.
            rows: How many.
            columns: How many.

        Returns:
            (1, C, rows, columns) float32; valid until the next call.
        """
        whole = tuple(plain.shape[2:]) == (self._crop_size, self._crop_size)
        if whole:
            plain = plain[:, :, :rows, :columns]
            mirrored = mirrored if mirrored is None else mirrored[:, :, :rows, self._crop_size - columns :]
        turned = mirrored if mirrored is None else mirrored.flip(3)
        out = self._reused((1, plain.shape[1], rows, columns), plain)
        if self._fusion == "exp_sum":
            # The resize is linear: the sum is resized, once, and not its terms.
            both = plain if turned is None else torch.add(plain, turned, out=out if whole else None)
            return torch.exp(both if whole else self._enlarged(both, out), out=out)
        scores = (plain if whole else self._enlarged(plain, out)).softmax(1)
        if turned is None:
            return scores
        return scores.add_((turned if whole else self._enlarged(turned, out)).softmax(1)).div_(2)

    def _reused(self, shape: tuple[int, int, int, int], like: Tensor) -> Tensor:
        """Uninitialised memory: fresh pages from the system cost as much as the resize that fills them."""
        size = math.prod(shape)
        if self._memory is None or self._memory.numel() < size:
            self._memory = like.new_empty(max(size, like.shape[1] * self._crop_size**2))
        return self._memory[:size].view(shape)

    def _enlarged(self, logits: Tensor, out: Tensor) -> Tensor:
        """The first rows and columns of what `resize` gives at the window's size; on a CPU, in `out`."""
        rows, columns = out.shape[2:]
        if logits.device.type != "cpu":  # where it costs next to nothing, and matrix products may be made in TF32
            return resize(logits, (self._crop_size, self._crop_size))[:, :, :rows, :columns]
        height, width = (self._interpolation(side) for side in logits.shape[2:])
        with full_precision(logits):
            wide = logits[0].contiguous() @ width[:columns].T  # one product; channels last would be one for each class
            torch.matmul(height[:rows], wide, out=out[0])
        return out

    def _interpolation(self, side: int) -> Tensor:
        """(crop, side): what `resize` does along one side."""
        if side not in self._weights:
            self._weights[side] = interpolation(side, self._crop_size, like=torch.empty(0)).T.contiguous()
        return self._weights[side]


def resized_rows(scores: Tensor, rows: slice, height: int, width: int) -> Tensor:
    """Some rows of what `resize` would give: (B, C, h, w) -> (B, C, rows, width)."""
    if (rows.start, rows.stop) == (0, height):
        return resize(scores, (height, width))
    step = (scores.shape[2] - 1) / max(height - 1, 1)
    y = torch.arange(rows.start, rows.stop, dtype=torch.float64, device=scores.device) * step
    above = y.floor().long().clamp(max=scores.shape[2] - 1)
    below = (above + 1).clamp(max=scores.shape[2] - 1)
    weight = (y - above).to(scores.dtype)[None, None, :, None]
    mixed = scores.index_select(2, above).lerp_(scores.index_select(2, below), weight)
    return resize(mixed, (mixed.shape[2], width))


def _padded(image: Tensor, height: int, width: int) -> Tensor:
    """Pad with black, which is not 0 once an image is normalised, at the right and at the bottom."""
    if tuple(image.shape[2:]) == (height, width):
        return image
    padded = image.new_empty((len(image), 3, height, width))
    for channel, black in enumerate(BLACK):
        padded[:, channel].fill_(black)
    padded[:, :, : image.shape[2], : image.shape[3]] = image
    return padded
