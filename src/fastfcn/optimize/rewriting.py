"""Parts of the network in a form that computes the same with less."""

from __future__ import annotations

from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastfcn.models.fastfcn import FastFCN
from fastfcn.models.heads.encoding import ContextEncoding, EncodingHead
from fastfcn.models.layers import resize
from fastfcn.models.upsamplers.bilinear import Bilinear
from fastfcn.optimize.products import Pointwise
from fastfcn.optimize.winograd import Transform, Winograd, settled, suits
from fastfcn.types import HeadOutput, Pyramid


def drop_dead_branches(model: FastFCN) -> None:
    """Remove, in place, what no logit depends on: the auxiliary head and the presence output."""
    model.aux_head = None
    for module in model.modules():
        if isinstance(module, ContextEncoding):
            module.presence = None


class ShiftedDepthwise(nn.Module):
    """A depthwise 3x3 convolution as the sum of nine shifted maps, each times a number per channel.

    As library calls that would be nine passes; a compiler makes one loop of it. Libraries have fast kernels for the
    dilations that are usual, and for dilation 8 on a CPU one that is fifteen times slower.

    Args:
        conv: depthwise, 3x3, of stride 1, size kept.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.dilation = conv.dilation[0]
        self.register_buffer("weight", conv.weight.detach().flatten(1).t().contiguous())  # (9, C)
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach().clone())

    @staticmethod
    def suits(conv: nn.Module) -> bool:
        """Whether a module is such a convolution."""
        return (
            type(conv) is nn.Conv2d
            and conv.kernel_size == (3, 3)
            and conv.stride == (1, 1)
            and conv.groups == conv.in_channels == conv.out_channels > 1
            and conv.dilation[0] == conv.dilation[1]
            and conv.padding == conv.dilation
            and conv.padding_mode == "zeros"
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        d, (height, width) = self.dilation, x.shape[-2:]
        padded = settled(F.pad(x.permute(0, 2, 3, 1), (0, 0, d, d, d, d)))
        total = self.bias
        for tap in range(9):
            top, left = d * (tap // 3), d * (tap % 3)
            term = padded[:, top : top + height, left : left + width] * self.weight[tap]
            total = term if total is None else total + term
        assert total is not None
        return total.permute(0, 3, 1, 2)


class ResizeLast(nn.Module):
    """A head behind a bilinear resize whose first step is a 1x1 convolution, which is done before the resize.

    Both are linear, the one over channels and the other over positions, and the weights of a resize sum to 1, so they
    commute, bias included; the convolution then runs on a sixteenth of the positions. BatchNorm must be folded: it
    stands before the ReLU, which does not commute.

    Args:
        head: whose ``squeeze`` begins with the 1x1 convolution.
    """

    def __init__(self, head: EncodingHead) -> None:
        super().__init__()
        self.conv = head.squeeze[0]
        head.squeeze[0] = nn.Identity()
        self.head = head

    def forward(self, pyramid: Pyramid) -> HeadOutput:
        """c5 at stride 32 -> logits at the size of c3."""
        output: HeadOutput = self.head(pyramid._replace(c5=resize(self.conv(pyramid.c5), pyramid.c3.shape[-2:])))
        return output


def convolve_before_resize(model: FastFCN) -> None:
    """Exchange, in place, a resize and the 1x1 convolution behind it where nothing else stands between or reads it."""
    head = model.head
    if isinstance(model.upsample, Bilinear) and isinstance(head, EncodingHead):
        conv, norm = head.squeeze[0], head.squeeze[1]
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (1, 1) and isinstance(norm, nn.Identity):
            model.head = ResizeLast(head)
            model.upsample = nn.Identity()  # type: ignore[assignment]


def shift_depthwise(model: nn.Module) -> None:
    """Put `ShiftedDepthwise`, in place, for each dilated depthwise convolution."""
    for name, module in list(model.named_modules()):
        if ShiftedDepthwise.suits(module):
            assert isinstance(module, nn.Conv2d)
            if module.dilation != (1, 1):
                model.set_submodule(name, ShiftedDepthwise(module))


def filter_minimally(model: nn.Module, transform: Transform, *, onednn: bool) -> None:
    """Put `Winograd`, in place, for each convolution that gains by it; `onednn` says whose its products are."""
    for name, module in list(model.named_modules()):
        if suits(module):
            assert isinstance(module, nn.Conv2d)
            model.set_submodule(name, Winograd(module, transform, onednn=onednn))


def multiply_pointwise(model: nn.Module) -> None:
    """Put `Pointwise`, in place, for each 1x1 convolution in float32."""
    for name, module in list(model.named_modules()):
        if Pointwise.suits(module):
            assert isinstance(module, nn.Conv2d)
            if module.weight.dtype == torch.float32:
                model.set_submodule(name, Pointwise(module))


class Cast(nn.Module):
    """To another number type.

    Args:
        dtype: which.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x.to(self.dtype)


def to_half(model: FastFCN, dtype: torch.dtype) -> None:
    """Hold the network in 16 bits, bfloat16 or float16, in place, but for what is small and decides much.

    In float32 stay the encoding layer, which sums over all positions, with the gate behind it, and the classifier,
    whose logits are compared.
    """
    contexts = [module for module in model.modules() if isinstance(module, ContextEncoding)]
    head = model.head.head if isinstance(model.head, ResizeLast) else model.head
    classify = getattr(head, "classify", None)
    precise: list[nn.Module] = [part for context in contexts for part in (context.encoding, context.norm, context.gate)]
    precise += [classify] if isinstance(classify, nn.Sequential) else []
    kept = {id(tensor) for part in precise for tensor in chain(part.parameters(), part.buffers())}
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.is_floating_point() and id(tensor) not in kept:
            tensor.data = tensor.data.to(dtype)
    for context in contexts:
        context.gate = nn.Sequential(context.gate, Cast(dtype))  # type: ignore[assignment]
    if isinstance(classify, nn.Sequential):
        head.classify = nn.Sequential(Cast(torch.float32), classify)
