"""The encoding layer's arithmetic with a backward of its own: what is kept for it, and what it makes again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastfcn.models.layers import full_precision

#: Features (numbers, not positions) that are worked on at a time: 32 MB of float32 on a CPU, where a part that fits the
#: caches is faster, and 256 MB on a GPU, where few large kernels are.
CPU_NUMBERS = 1 << 23
GPU_NUMBERS = 1 << 26


class _Codebook(NamedTuple):
    """Codewords less their mean, in the type that all is computed in.

    An expanded square cancels badly where features and codewords lie far from zero; both are shifted by the mean
    codeword, which changes no difference x_i - c_k.
    """

    centre: Tensor  # (D,)
    shifted: Tensor  # (K, D)
    squares: Tensor  # (K,)
    scale: Tensor  # (K,)

    @classmethod
    def of(cls, codewords: Tensor, scale: Tensor, dtype: torch.dtype) -> _Codebook:
        centre = codewords.to(dtype).mean(dim=0)
        shifted = codewords.to(dtype) - centre
        return cls(centre, shifted, shifted.square().sum(-1), scale.to(dtype))

    def parts(self, x: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Images of (B, D, N), a few at a time, as (b, D, N) less the centre; the memory layout is that of x."""
        numbers = GPU_NUMBERS if x.is_cuda else CPU_NUMBERS
        step = max(1, numbers // x[0].numel())
        for start in range(0, len(x), step):
            images = slice(start, start + step)
            yield images, x[images].to(self.scale.dtype) - self.centre[:, None]


class EncodingSum(torch.autograd.Function):
    """``e_k = sum_i A_ik (x_i - c_k)`` with ``A_ik = softmax_k(s_k ||x_i - c_k||^2)``, all by matrix products.

    Autograd would keep the shifted features, the assignment and more; here the features as they came and the squared
    distances d_ik (B, N, K) are kept, and the rest is made again. With G the gradient of e, dA_ik = G_k (x_i - c_k) and
    P_ik = A_ik (dA_ik - sum_k A_ik dA_ik), which is the gradient of the softmax's input, the gradients are

    - of x_i:  ``sum_k A_ik G_k + 2 sum_k s_k P_ik (x_i - c_k)``
    - of c_k:  ``-G_k sum_i A_ik - 2 s_k sum_i P_ik (x_i - c_k)``
    - of s_k:  ``sum_i P_ik d_ik``
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, codewords: Tensor, scale: Tensor) -> Tensor:
        """(B, D, N), (K, D), (K,) -> (B, K, D), computed and given in float32 at least."""
        with full_precision(x):
            book = _Codebook.of(codewords, scale, torch.promote_types(x.dtype, torch.float32))
            batch, channels, positions = x.shape
            squared = book.scale.new_empty(batch, positions, len(codewords))
            e = book.scale.new_empty(batch, len(codewords), channels)
            for images, x_t in book.parts(x):
                # A norm, unlike a sum of squares, makes no copy of x.
                norms = torch.linalg.vector_norm(x_t, dim=1).square_().unsqueeze(-1)
                d = torch.add(norms, book.squares, out=squared[images])
                d.baddbmm_(x_t.mT, book.shifted.T.expand(len(x_t), -1, -1), alpha=-2)
                a = torch.softmax(book.scale * d, dim=-1)
                e[images] = a.mT @ x_t.mT - a.sum(dim=1).unsqueeze(-1) * book.shifted
        ctx.save_for_backward(x, codewords, scale, squared)
        return e

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, K, D) -> the gradients of x, in its type and memory layout, of the codewords and of the scale."""
        x, codewords, scale, squared = ctx.saved_tensors
        with full_precision(x):
            book = _Codebook.of(codewords, scale, squared.dtype)
            of_x = torch.empty_like(x)
            of_codewords = torch.zeros_like(book.shifted)
            of_scale = torch.zeros_like(book.scale)
            by_position = x.stride(1) == 1  # channels last: a product should be written as its rows lie in memory
            for images, x_t in book.parts(x):
                d, g = squared[images], grad[images]
                a = torch.softmax(book.scale * d, dim=-1)
                of_a = (x_t.mT @ g.mT).sub_((g * book.shifted).sum(-1).unsqueeze(1))  # (b, N, K)
                p = of_a.sub_((a * of_a).sum(-1, keepdim=True)).mul_(a)
                p_x, p_sum = p.mT @ x_t.mT, p.sum(dim=1)  # (b, K, D), (b, K)
                of_scale += (p * d).sum((0, 1))
                to_codewords = (p_sum.unsqueeze(-1) * book.shifted).sub_(p_x).mul_(2 * book.scale.unsqueeze(-1))
                of_codewords += to_codewords.addcmul_(a.sum(dim=1).unsqueeze(-1), g, value=-1).sum(0)
                q = p.mul_(2 * book.scale)
                left = torch.cat([a, q], dim=-1)  # (b, N, 2K)
                right = torch.cat([g, -book.shifted.expand_as(g)], dim=1)  # (b, 2K, D)
                x_t.mul_(q.sum(-1).unsqueeze(1))
                product = x_t.mT.baddbmm_(left, right).mT if by_position else x_t.baddbmm_(right.mT, left.mT)
                of_x[images] = product
        return of_x, of_codewords.to(codewords.dtype), of_scale.to(scale.dtype)
