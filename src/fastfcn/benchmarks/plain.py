"""The plain formulation that every speed is told against: the paper's equations as they stand, in eager torch.

Nothing here is clever, and nothing may become so: float32, NCHW, autograd throughout.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from fastfcn.models.fastfcn import FastFCN
from fastfcn.models.heads.encoding import Encoding
from fastfcn.models.layers import resize
from fastfcn.types import HeadOutput, Pyramid, SegmentationOutput


class PlainEncoding(nn.Module):
    """The encoding layer by the expanded tensor of all residuals, B x N x K x D (EncNet, equations 1 and 2).

    Args:
        codewords: (K, D).
        scale: (K,).
    """

    def __init__(self, codewords: nn.Parameter, scale: nn.Parameter) -> None:
        super().__init__()
        self.codewords = codewords
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) -> (B, K, D)."""
        features = x.flatten(2).transpose(1, 2)  # (B, N, D)
        residuals = features[:, :, None, :] - self.codewords  # r_ik = x_i - c_k, (B, N, K, D)
        assignment = torch.softmax(self.scale * residuals.square().sum(-1), dim=-1)  # (B, N, K)
        return (assignment[..., None] * residuals).sum(dim=1)


class PlainFastFCN(nn.Module):
    """The model of Figure 2: every logit map is resized to the image's size.

    Args:
        model: whose parts are taken.
    """

    def __init__(self, model: FastFCN) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.upsample = model.upsample
        self.head = model.head
        self.aux_head = model.aux_head

    def forward(self, image: Tensor) -> SegmentationOutput:
        """(B, 3, H, W) -> logits at image size; in training the auxiliary ones too; presence."""
        size = image.shape[-2:]
        pyramid: Pyramid = self.backbone(image)
        out: HeadOutput = self.head(self.upsample(pyramid))
        aux = None
        if self.aux_head is not None and self.training:
            aux = resize(self.aux_head(pyramid).logits, size)
        return SegmentationOutput(resize(out.logits, size), aux, out.presence)


def plain(model: FastFCN) -> PlainFastFCN:
    """A copy of a model in the plain formulation, in its mode and on its device; the model stays as it is."""
    twin = copy.deepcopy(model)
    for parent in list(twin.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Encoding):
                setattr(parent, name, PlainEncoding(child.codewords, child.scale))
    plainly = PlainFastFCN(twin).train(model.training)
    return plainly.to(memory_format=torch.contiguous_format)
