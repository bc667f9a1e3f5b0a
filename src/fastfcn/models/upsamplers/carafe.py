"""CARAFE: Content-Aware ReAssembly of FEatures (Wang et al., ICCV 2019, arXiv 1905.02188)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from fastfcn.errors import UserError
from fastfcn.models.upsamplers.top_down import TopDown, covering, cropped, joined, windows


def reassemble(x: Tensor, kernels: Tensor) -> Tensor:
    """Weighted sums of neighbours, a kernel for each position of the fine grid (section 3.3).

    ``X'_l' = sum_{n=-r..r} sum_{m=-r..r} W_l'(n, m) X_(i+n, j+m)`` with l' = (i', j'), (i, j) = (i' // 2, j' // 2) and
    r = k // 2; all channels share the kernel. Beyond the edge X is zero, as in the authors' code.

    Args:
        x: (B, C, h, w).
        kernels: (B, h, w, 4, k^2), of the four fine positions in each coarse one, row by row.

    Returns:
        (B, C, 2h, 2w).
    """
    size = round(kernels.shape[-1] ** 0.5)
    return joined(kernels @ windows(x, size))


class ContentAwareReassembly(nn.Module):
    """The operator: kernels are predicted from the coarse map itself (section 3.2), then it is reassembled by them.

    Channel compressor: 1x1 to ``compressed`` channels. Content encoder: ``W_l' = psi(N(X_l, encoder))`` (equation 1), a
    convolution to k^2 channels for each of the four fine positions. Kernel normaliser: softmax over the k^2.

    Args:
        channels: C.
        compressed: C_m.
        encoder: side of the content encoder's convolution, odd.
        kernel: k, side of a reassembly kernel, odd.

    Raises:
        UserError: a side is not odd.
    """

    def __init__(self, channels: int, *, compressed: int, encoder: int, kernel: int) -> None:
        super().__init__()
        for key, side in (("encoder", encoder), ("kernel", kernel)):
            if side < 1 or side % 2 == 0:
                raise UserError(f"upsample.{key}={side}: give an odd number, a window has a middle.")
        self.compress = nn.Conv2d(channels, compressed, 1)
        self.encode = nn.Conv2d(compressed, 4 * kernel**2, encoder, padding=encoder // 2)
        nn.init.xavier_uniform_(self.compress.weight)
        nn.init.normal_(self.encode.weight, std=0.001)  # at first each kernel is nearly the mean of its window
        for module in (self.compress, self.encode):
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def kernels(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, h, w, 4, k^2), each sums to 1."""
        logits = self.encode(self.compress(x)).unflatten(1, (-1, 4))  # k^2 before 4: the order of a pixel shuffle
        return torch.softmax(logits.permute(0, 3, 4, 2, 1), dim=-1)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B, C, h, w), and (B, ., H, W) whose size alone is read -> (B, C, H, W)."""
        height, width = fine.shape[-2:]
        coarse = covering(coarse, (height, width))
        return cropped(reassemble(coarse, self.kernels(coarse)), (height, width))


class CARAFE(TopDown):
    """CARAFE in the place of nearest neighbour in the top-down pathway, as in the paper's FPN and UperNet (section 4).

    Args:
        in_channels: channels of c2 to c5.
        width: channels of every merged map.
        compressed: C_m, 64 in the paper.
        encoder: k_encoder, 3 in the paper: k_up - 2.
        kernel: k_up, 5 in the paper.
    """

    def __init__(
        self, in_channels: Sequence[int], *, width: int = 256, compressed: int = 64, encoder: int = 3, kernel: int = 5
    ) -> None:
        operator = partial(ContentAwareReassembly, compressed=compressed, encoder=encoder, kernel=kernel)
        super().__init__(in_channels, width=width, operator=operator)
