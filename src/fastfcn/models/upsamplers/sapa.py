"""SAPA: Similarity-Aware Point Affiliation (Lu et al., NeurIPS 2022, arXiv 2209.12866)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from fastfcn.errors import UserError
from fastfcn.models.upsamplers.carafe import reassemble
from fastfcn.models.upsamplers.top_down import TopDown, covering, cropped, extended, quarters, windows


class PointAffiliation(nn.Module):
    """The operator, in the variant SAPA-B: a fine position takes from the coarse neighbours that resemble it.

    ``W_l'(p) = softmax_p sim(x_p, y_l')`` over the k x k coarse positions p around l = l' // 2, with the low-rank
    bilinear similarity ``sim(x, y) = (P_x x)^T (P_y y)`` of normalised features, x of the coarse map and y of the fine
    one; then ``X'_l' = sum_p W_l'(p) x_p``. Beyond the edge x_p and P_x x_p are zero, as in the authors' code.

    Args:
        channels: of both maps.
        embedding: d, rows of P_x and P_y.
        kernel: k, odd.

    Raises:
        UserError: `kernel` is not odd.
    """

    def __init__(self, channels: int, *, embedding: int, kernel: int) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise UserError(f"upsample.kernel={kernel}: give an odd number, a window has a middle.")
        self.kernel = kernel
        self.norm_coarse, self.norm_fine = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.embed_coarse, self.embed_fine = nn.Linear(channels, embedding), nn.Linear(channels, embedding)
        for module in (self.embed_coarse, self.embed_fine):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)

    def kernels(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B, C, h, w), (B, C, 2h, 2w) -> (B, h, w, 4, k^2), each sums to 1."""
        x = self.embed_coarse(self.norm_coarse(coarse.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        y = self.embed_fine(self.norm_fine(fine.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        similarity = quarters(y) @ windows(x, self.kernel).transpose(-1, -2)
        return torch.softmax(similarity, dim=-1)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B, C, h, w), (B, C, H, W) -> (B, C, H, W)."""
        height, width = fine.shape[-2:]
        coarse = covering(coarse, (height, width))
        fine = extended(fine, [2 * side for side in coarse.shape[-2:]])
        return cropped(reassemble(coarse, self.kernels(coarse, fine)), (height, width))


class SAPA(TopDown):
    """SAPA-B in the place of nearest neighbour in the top-down pathway; the lateral map is the encoder's feature.

    Args:
        in_channels: channels of c2 to c5.
        width: channels of every merged map.
        embedding: d, 32 in the paper.
        kernel: K, 5 in the paper.
    """

    def __init__(self, in_channels: Sequence[int], *, width: int = 256, embedding: int = 32, kernel: int = 5) -> None:
        operator = partial(PointAffiliation, embedding=embedding, kernel=kernel)
        super().__init__(in_channels, width=width, operator=operator)
