"""The network that is exported: rewritten by what other runtimes do not do themselves, with both ends if asked."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastfcn.exporting.description import Description
from fastfcn.exporting.request import Wanted
from fastfcn.models.fastfcn import FastFCN
from fastfcn.optimize import rewriting
from fastfcn.optimize.folding import fold_batch_norms
from fastfcn.optimize.optimizer import Logits
from fastfcn.types import IMAGENET_MEAN, IMAGENET_STD


def for_export(model: FastFCN, *, half: bool = False) -> nn.Module:
    """A copy that gives logits alone: BatchNorm folded, dead branches left out, 1x1 convolutions before a resize.

    Args:
        model: On the CPU.
        half: In half precision, but for what is small and decides much (`rewriting.to_half`).

    Returns:
        image (B, 3, H, W) -> logits (B, C, H, W) float32.
    """
    with torch.inference_mode(mode=False), torch.no_grad():
        twin = copy.deepcopy(model).eval().requires_grad_(False).float()
        rewriting.drop_dead_branches(twin)
        fold_batch_norms(twin)
        rewriting.convolve_before_resize(twin)
        if half:
            rewriting.to_half(twin, torch.float16)
        # Channels last in memory, as a training leaves the weights, would be an order that files need not know.
        return Logits(twin.to(memory_format=torch.contiguous_format), full_size=True).eval()


class WithEnds(nn.Module):
    """A network with normalisation before it and argmax behind it, each where it is wanted.

    Args:
        network: Normalised images -> logits.
        wanted: Says which.
        dtype: Of the images that the network takes.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, wanted: Wanted, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.network = network
        self.normalise = wanted.normalise
        self.argmax = wanted.argmax
        self.dtype = dtype
        scale, shift = normalisation(largest=255 if wanted.pixels == "uint8" else 1)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) as `wanted.takes` says -> logits (B, C, H, W) float32, or class ids (B, H, W) int64."""
        if self.normalise:
            image = image.float() * self.scale + self.shift
        logits: Tensor = self.network(image.to(self.dtype))
        return logits.argmax(1) if self.argmax else logits


def normalisation(*, largest: float) -> tuple[Tensor, Tensor]:
    """What pixels of 0 to `largest` are multiplied by, and what is added then: each (1, 3, 1, 1)."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return 1 / (largest * std), -mean / std


def normalised(pixels: Tensor) -> Tensor:
    """RGB (B, 3, H, W) uint8 -> what the model takes, float32."""
    scale, shift = normalisation(largest=255)
    return pixels.float() * scale + shift


def as_input(image: Tensor, description: Description) -> Tensor:
    """A normalised image (B, 3, H, W) as the file takes it; for `uint8` rounded to whole values of 0 to 255."""
    if description.takes == "normalised":
        return image.float()
    scale, shift = normalisation(largest=255 if description.takes == "uint8" else 1)
    pixels = (image.float() - shift) / scale
    return pixels.round().clamp(0, 255).to(torch.uint8) if description.takes == "uint8" else pixels


def picture(size: Sequence[int], *, batch: int, seed: int) -> Tensor:
    """What an export is tried on where no data are: coarse patches and fine noise, (batch, 3, height, width) uint8."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, *(side // 16 + 2 for side in size), generator=generator)
    patches = torch.nn.functional.interpolate(coarse, size=tuple(size), mode="bilinear")
    noise = torch.rand(batch, 3, *size, generator=generator)
    return (255 * (0.8 * patches + 0.2 * noise)).round().to(torch.uint8)
