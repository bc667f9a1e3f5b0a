from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastfcn.models.heads.encoding import Encoding


def by_definition(x: Tensor, codewords: Tensor, scale: Tensor) -> Tensor:
    """The equations as they stand, in float64, with the B x N x K x D tensor."""
    x, codewords, scale = x.double().flatten(2).transpose(1, 2), codewords.double(), scale.double()
    residual = x[:, :, None] - codewords
    assignment = torch.softmax(scale * residual.square().sum(-1), dim=-1)
    return (assignment[..., None] * residual).sum(1)


@pytest.mark.parametrize("offset", [0.0, 10.0, 100.0])
@pytest.mark.parametrize("scale", [(-1.0, 0.0), (-0.05, -0.04)])
def test_precision_far_from_zero(offset: float, scale: tuple[float, float]) -> None:
    torch.manual_seed(0)
    layer = Encoding(64, 32)
    with torch.no_grad():
        layer.codewords.copy_(torch.randn(32, 64) + offset)
        layer.scale.uniform_(*scale)
    x = torch.randn(2, 64, 9, 7) + offset
    expected = by_definition(x, layer.codewords.detach(), layer.scale.detach())
    error = (layer(x).detach().double() - expected).abs().max() / expected.abs().max()
    # The bare expansion has 2e-4 at an offset of 10 and 2e-2 at 100.
    assert error < 3e-6 * max(1.0, offset / 10)


def test_gradients_by_finite_differences() -> None:
    torch.manual_seed(0)
    layer = Encoding(5, 4).double()
    x = torch.randn(2, 5, 3, 2, dtype=torch.float64, requires_grad=True)

    def forward(x: Tensor, codewords: Tensor, scale: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(layer, {"codewords": codewords, "scale": scale}, (x,))
        return y

    assert torch.autograd.gradcheck(forward, (x, layer.codewords, layer.scale))


def test_autocast_computes_in_float32() -> None:
    layer, x = Encoding(16, 4), torch.randn(1, 16, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    torch.testing.assert_close(y, layer(x))


class LargestTensor(TorchDispatchMode):
    """Counts the elements of the largest tensor that any operator gives, forward and backward."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.numel = max(self.numel, leaf.numel())
        return out


def test_the_expanded_tensor_never_exists() -> None:
    """B=16, D=512, 64x64, K=32: the features are 33.5 million numbers, the expanded tensor would be 1.07 billion."""
    batch, channels, positions, codewords = 16, 512, 64 * 64, 32
    with FakeTensorMode(), LargestTensor() as largest:  # shapes alone: nothing is computed
        layer = Encoding(channels, codewords)
        x = torch.empty(batch, channels, 64, 64, requires_grad=True)
        layer(x).sum().backward()
    assert largest.numel == batch * positions * channels
