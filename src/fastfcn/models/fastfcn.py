"""The whole model (Figure 2): backbone, upsampler, head, and an auxiliary head in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor, nn

from fastfcn.errors import UserError
from fastfcn.models.layers import ALIGN_CORNERS, resize
from fastfcn.models.upsamplers.base import Upsampler
from fastfcn.types import Pyramid, SegmentationOutput


class Backbone(Protocol):
    """What the model asks of a backbone, besides being a module that maps an image to a Pyramid."""

    output_stride: int
    out_channels: tuple[int, int, int, int]

    def stage(self, level: str) -> nn.Module | None:
        """The module that makes a level, c2 to c5, for activation checkpointing; None where there is none."""


UpsamplerFactory = Callable[[Sequence[int]], Upsampler]
HeadFactory = Callable[[Sequence[int], int], nn.Module]


class FastFCN(nn.Module):
    """A backbone, an upsampler and a head in a row; each is built from the channels that the one before publishes.

    Args:
        num_classes: of all logits.
        backbone: the module image -> Pyramid.
        upsample: ``upsample(in_channels)`` gives the module Pyramid -> Pyramid.
        head: ``head(in_channels, num_classes)`` gives the module Pyramid -> HeadOutput.
        aux_head: the same, on the backbone's pyramid, used in training only; None for none.
        align_corners: how logits are enlarged: as the paper's code does, or, when false, as mmsegmentation. Such logits
            are always enlarged here: who does it later, or of a part alone, does it as the paper's code.

    Raises:
        UserError: the backbone's output stride is not the one that the upsampler expects.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: nn.Module,
        upsample: UpsamplerFactory,
        head: HeadFactory,
        aux_head: HeadFactory | None = None,
        align_corners: bool = ALIGN_CORNERS,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise UserError(f"num_classes={num_classes}: segmentation needs at least 2 classes.")
        channels: tuple[int, int, int, int] = backbone.out_channels  # type: ignore[assignment]
        self.num_classes = num_classes
        self.align_corners = align_corners
        self.backbone = backbone
        self.upsample = upsample(channels)
        self.head = head(self.upsample.out_channels, num_classes)
        self.aux_head = aux_head(channels, num_classes) if aux_head is not None else None
        if backbone.output_stride != self.upsample.input_stride:
            raise UserError(
                f"output_stride={backbone.output_stride} contradicts the upsampler {type(self.upsample).__name__}, "
                f"which expects {self.upsample.input_stride}: leave output_stride out, it follows the upsampler."
            )

    def extra_repr(self) -> str:
        """What no module inside shows, where it is not the paper's; `fastfcn.official` compares what models print."""
        return "" if self.align_corners == ALIGN_CORNERS else f"align_corners={self.align_corners}"

    def forward(self, image: Tensor, *, full_size: bool = True) -> SegmentationOutput:
        """(B, 3, H, W), normalised -> logits (and, in training, auxiliary logits) at image size, and presence.

        Without `full_size` the logits stay at the head's resolution, for whoever resizes them later, or only a part
        (not those of a model without `align_corners`).
        """
        pyramid: Pyramid = self.backbone(image)
        logits, presence = self.head(self.upsample(pyramid))
        aux = self.aux_head(pyramid).logits if self.aux_head is not None and self.training else None
        if full_size or not self.align_corners:
            size, aligned = image.shape[-2:], self.align_corners
            logits = resize(logits, size, align_corners=aligned)
            aux = None if aux is None else resize(aux, size, align_corners=aligned)
        return SegmentationOutput(logits, aux, presence)
