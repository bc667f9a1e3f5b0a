"""3x3 convolutions by Winograd's minimal filtering: fewer multiplications for the same sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastfcn.models.products import linear
from fastfcn.models.products import suits as suits_product

#: Channels, in and out, from which on a convolution gains by it; with fewer the transforms cost what they save.
MIN_CHANNELS = 256

#: Multiplications of each product of matrices, tiles x channels in x channels out, from which on the filtering gains:
#: with fewer tiles more time goes into reading its weights, of which there are 4 times as many, than is saved. On an
#: AMD EPYC the two were equal at 4 << 20, whatever the channels and the map's size, in float32 and in bfloat16.
MIN_PRODUCT = 6 << 20

#: Positions of all tiles over those of the map, up to which it is used. Maps of 480 x 480 images have 1.14 at most. The
#: grids of a wide dilation have fewer positions than a tile: of ASPP's on a map of 64 x 64, 2.25 to 5.06, all together
#: were slower than the convolutions. Where the two are equal was not measured.
MAX_WASTE = 1.3


class Transform(NamedTuple):
    """The matrices of F(m x m, 3 x 3) (Lavin and Gray, CVPR 2016, section 4): Y = A^T [(G g G^T) . (B^T d B)] A.

    Attributes:
        b: B^T, (m + 2, m + 2), of a tile of the input.
        g: G, (m + 2, 3), of the kernel.
        a: A^T, (m, m + 2), of the products.
    """

    b: Sequence[Sequence[float]]
    g: Sequence[Sequence[float]]
    a: Sequence[Sequence[float]]


#: 2.25 times fewer multiplications; its constants are exact in any number type.
F2 = Transform(
    b=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    g=((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    a=((1, 1, 1, 0), (0, 1, -1, -1)),
)

#: 4 times fewer; loses about one decimal digit of float32, and too many of bfloat16.
F4 = Transform(
    b=(
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
    g=(
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
    a=((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
)


def settled(x: Tensor) -> Tensor:
    """The same values, which a compiler has to write to memory once.

    It would work them out again for every position of every reader, where the readers are no library calls.
    """
    x = x.contiguous()
    return x.as_strided(x.shape, x.stride())


def suits(conv: nn.Module, *, min_channels: int = MIN_CHANNELS) -> bool:
    """Whether a module is a convolution that keeps the size, dilated or not, and gains by it."""
    return (
        type(conv) is nn.Conv2d
        and conv.kernel_size == (3, 3)
        and conv.stride == (1, 1)
        and conv.groups == 1
        and conv.dilation[0] == conv.dilation[1]
        and conv.padding == conv.dilation
        and conv.padding_mode == "zeros"
        and min(conv.in_channels, conv.out_channels) >= min_channels
    )


class Winograd(nn.Module):
    """A 3x3 convolution, dilated or not, as (m + 2)^2 matrix products of tiles that overlap by two rows and columns.

    The transforms on both sides of a tile are one product each with the Kronecker square of the matrix. A dilated
    convolution is an ordinary one on each of the d x d grids of every d-th position. A map of few tiles, or one that
    they do not fit, is convolved as before.

    Args:
        conv: what `suits` finds suitable.
        transform: F2 or F4.
        onednn: Whether the products are oneDNN's, one by one, or torch's, in a batch.
    """

    kernel: Tensor
    weight: Tensor
    bias: Tensor | None
    into: Tensor
    back: Tensor

    #: Multiplications of a product from which on the filtering is used.
    min_product = MIN_PRODUCT
    #: Positions of the tiles over those of the map up to which it is used.
    max_waste = MAX_WASTE

    def __init__(self, conv: nn.Conv2d, transform: Transform, *, onednn: bool = False) -> None:
        super().__init__()
        self.size = len(transform.a)
        self.dilation = conv.dilation[0]
        self.onednn = onednn
        kernel = conv.weight.detach()
        b, g, a = (torch.tensor(matrix, dtype=torch.float64, device=kernel.device) for matrix in transform)
        # (O, C, 3, 3) -> ((m + 2)^2, O, C)
        weight = torch.einsum("ia,ocab,jb->ijoc", g, kernel.double(), g).flatten(0, 1)
        self.register_buffer("kernel", kernel.clone())
        self.register_buffer("weight", weight.to(kernel.dtype).contiguous())
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach().clone())
        self.register_buffer("into", torch.kron(b, b).to(kernel.dtype))  # ((m + 2)^2, (m + 2)^2)
        self.register_buffer("back", torch.kron(a, a).to(kernel.dtype))  # (m^2, (m + 2)^2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H, W)."""
        m, d = self.size, self.dilation
        batch, _, height, width = x.shape
        down, across = -(-height // (m * d)), -(-width // (m * d))  # tiles of each grid
        count = d * d * down * across  # tiles of an image
        few = batch * count * self.weight[0].numel() < self.min_product
        if few or count * m * m > self.max_waste * height * width:
            return F.conv2d(x, self.kernel, self.bias, padding=d, dilation=d)
        bottom, right = down * m * d - height, across * m * d - width
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, d, d + right, d, d + bottom))
        # (B, d h, d w, C) -> (B d d, h, w, C)
        x = x.unflatten(1, (-1, d)).unflatten(3, (-1, d)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        tiles = x.unfold(1, m + 2, m).unfold(2, m + 2, m).permute(4, 5, 0, 1, 2, 3)
        shape = tiles.shape[2:5]
        tiles = settled(tiles.flatten(0, 1).flatten(1))
        v = (self.into @ tiles).unflatten(1, (-1, self.weight.shape[2]))  # ((m + 2)^2, tiles, C)
        products = self._products(v)
        y = self.back @ products.flatten(1)
        # (m, m, B, d, d, down, across, O) -> (B, down, m, d, across, m, d, O)
        y = y.view(m, m, batch, d, d, *shape[1:], -1).permute(2, 5, 0, 3, 6, 1, 4, 7)
        y = y.flatten(4, 6).flatten(1, 3)[:, :height, :width]
        if self.bias is not None:
            y = y + self.bias
        return settled(y).permute(0, 3, 1, 2)

    def _products(self, v: Tensor) -> Tensor:
        """((m + 2)^2, tiles, C) -> ((m + 2)^2, tiles, O)."""
        if self.onednn and suits_product(v):
            return torch.stack([linear(part, weight) for part, weight in zip(v, self.weight, strict=True)])
        return torch.bmm(v, self.weight.transpose(1, 2))
