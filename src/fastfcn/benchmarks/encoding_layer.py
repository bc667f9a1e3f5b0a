"""The encoding layer by itself, forward and backward: plain against ours."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastfcn.benchmarks.arms import Arm, compare_values, in_both_ways
from fastfcn.benchmarks.memory import USABLE
from fastfcn.benchmarks.plain import PlainEncoding
from fastfcn.exporting.comparison import TOLERANCE, Agreement
from fastfcn.models.heads.encoding import Encoding

#: The tensors of the size B x N x K x D that the plain layer's forward and backward hold at the same time.
_EXPANDED_AT_ONCE = 4.2


def encoding_arms(
    *, batch: int, channels: int, size: int, codewords: int, device: torch.device, seed: int
) -> list[Arm]:
    """The encoding layer, forward and backward, on a map (batch, channels, size, size).

    The gradients of features, codewords and scale are compared with the plain layer's.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    layer = Encoding(channels, codewords).to(device)
    x = torch.randn(batch, channels, size, size, generator=generator).relu().to(device).requires_grad_()
    upstream = torch.randn(batch, codewords, channels, generator=generator).to(device)
    plainly = PlainEncoding(layer.codewords, layer.scale)
    reference: list[Tensor] = []

    def once(module: nn.Module) -> list[Tensor]:
        out = module(x)
        return [out, *torch.autograd.grad(out, (x, layer.codewords, layer.scale), upstream)]

    def check(module: nn.Module) -> Agreement:
        if not reference:
            reference.extend(each.detach() for each in once(plainly))
        pairs = zip(once(module), reference, strict=True)
        found = [compare_values(ours, theirs, tolerance=TOLERANCE) for ours, theirs in pairs]
        return max(found, key=lambda each: each.error)

    def arm(name: str, module: nn.Module) -> Arm:
        return Arm(name=name, call=lambda: once(module), check=lambda: check(module), items=batch)

    return in_both_ways([arm("plain", plainly), arm("ours", layer)])


def largest_batch(batch: int, *, channels: int, size: int, codewords: int, memory: int | None) -> int:
    """The largest batch, at most the one asked for, of which the plain layer fits into the memory.

    Args:
        batch: What is asked for.
        channels: D.
        size: Side of the map.
        codewords: K.
        memory: Bytes; None where nobody knows, and all fits.

    Returns:
        0 where not even one image fits.
    """
    if memory is None:
        return batch
    each = int(_EXPANDED_AT_ONCE * size**2 * codewords * channels * 4)
    return min(batch, int(USABLE * memory) // each)
