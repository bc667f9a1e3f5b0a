"""1x1 convolutions as matrix products over channels."""

from __future__ import annotations

from torch import Tensor, nn

from fastfcn.models.products import linear


class Pointwise(nn.Module):
    """A 1x1 convolution as the product of a (positions, channels) matrix with its weights.

    Args:
        conv: what `suits` finds suitable.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.stride = conv.stride
        self.register_buffer("weight", conv.weight.detach().flatten(1).contiguous())  # (O, C)
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach().clone())

    @staticmethod
    def suits(conv: nn.Module) -> bool:
        """Whether a module is such a convolution."""
        return (
            type(conv) is nn.Conv2d
            and conv.kernel_size == (1, 1)
            and conv.groups == 1
            and conv.padding in ((0, 0), "valid", "same")
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H, W), in NHWC memory."""
        down, across = self.stride
        x = x[..., ::down, ::across].permute(0, 2, 3, 1).contiguous()
        return linear(x, self.weight, self.bias).permute(0, 3, 1, 2)
