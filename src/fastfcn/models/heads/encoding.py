"""The Encoding head of EncNet (Zhang et al., CVPR 2018), the global context module of the paper (section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastfcn.errors import UserError
from fastfcn.models.heads.encoding_sum import EncodingSum
from fastfcn.models.layers import classifier, conv_bn_relu, full_precision
from fastfcn.types import HeadOutput, Pyramid


class Encoding(nn.Module):
    """The encoding layer: residuals to K codewords, softly assigned and summed over the positions.

    With N = H * W features x_i, codewords c_k and smoothing factors s_k (EncNet, equations 1 and 2):
    ``A_ik = softmax_k(s_k ||x_i - c_k||^2)`` and ``e_k = sum_i A_ik (x_i - c_k)``.

    Args:
        channels: D, channels of a feature.
        num_codewords: K.
    """

    def __init__(self, channels: int, num_codewords: int) -> None:
        super().__init__()
        bound = (channels * num_codewords) ** -0.5
        self.codewords = nn.Parameter(torch.empty(num_codewords, channels).uniform_(-bound, bound))
        self.scale = nn.Parameter(torch.empty(num_codewords).uniform_(-1, 0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) -> (B, K, D), computed in float32 at least.

        The square is expanded into matrix products, so that no B x N x K x D tensor exists. An expansion cancels badly
        where features and codewords lie far from zero; both are shifted by the mean codeword first, which changes no
        difference x_i - c_k. Where gradients are asked for, `EncodingSum` does the same and keeps less for them; a
        compiler or exporter gets the plain operators, out of which it makes its own.
        """
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            e: Tensor = EncodingSum.apply(x.flatten(2), self.codewords, self.scale)
            return e
        with full_precision(x):
            dtype = torch.promote_types(x.dtype, torch.float32)
            codewords, scale = self.codewords.to(dtype), self.scale.to(dtype)
            centre = codewords.mean(dim=0)
            c = codewords - centre  # (K, D)
            x = x.flatten(2).transpose(1, 2).to(dtype) - centre  # (B, N, D)
            squared = x.square().sum(-1, keepdim=True) - 2 * (x @ c.T) + c.square().sum(-1)  # (B, N, K)
            assignment = torch.softmax(scale * squared, dim=-1)  # (B, N, K)
            return assignment.transpose(1, 2) @ x - assignment.sum(dim=1).unsqueeze(-1) * c


class ContextEncoding(nn.Module):
    """The Context Encoding Module (EncNet, Figure 2): scene statistics that gate channels and predict presence.

    Args:
        channels: D, of the feature map.
        num_classes: of the presence output.
        num_codewords: K, 32 in EncNet.
        presence: whether there is a presence output.
    """

    def __init__(self, channels: int, num_classes: int, *, num_codewords: int, presence: bool = True) -> None:
        super().__init__()
        self.project = conv_bn_relu(channels, channels, 1)
        self.encoding = Encoding(channels, num_codewords)
        self.norm = nn.BatchNorm1d(num_codewords)
        self.gate = nn.Linear(channels, channels)
        self.presence = nn.Linear(channels, num_classes) if presence else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, D, H, W) -> the gated map of the same shape, and presence logits (B, num_classes) or None."""
        e = torch.relu(self.norm(self.encoding(self.project(x)))).mean(dim=1)  # (B, D)
        gate = torch.sigmoid(self.gate(e))[:, :, None, None]
        return torch.relu(x + x * gate), self.presence(e) if self.presence is not None else None


class EncodingHead(nn.Module):
    """A convolution to ``width``, the Context Encoding Module, a classifier.

    Args:
        in_channels: channels of the pyramid's levels; the last is read.
        num_classes: of the logits.
        kernel_size: of the first convolution: 1 behind JPU, which has mixed neighbours already, 3 behind all else.
        width: D.
        num_codewords: K.
        presence: predict which classes occur in the image, for the SE loss.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        *,
        kernel_size: int = 3,
        width: int = 512,
        num_codewords: int = 32,
        presence: bool = True,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise UserError(
                f"head_kernel_size={kernel_size}: choose an odd one, which has a centre; 1 behind JPU, 3 else."
            )
        self.squeeze = conv_bn_relu(in_channels[-1], width, kernel_size)
        self.context = ContextEncoding(width, num_classes, num_codewords=num_codewords, presence=presence)
        self.classify = classifier(width, num_classes)

    def forward(self, pyramid: Pyramid) -> HeadOutput:
        """The last level (B, C, h, w) -> logits (B, num_classes, h, w) and presence (B, num_classes)."""
        x, presence = self.context(self.squeeze(pyramid.c5))
        return HeadOutput(self.classify(x), presence)
