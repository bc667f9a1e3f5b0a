from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastfcn.models.heads.encoding import Encoding
from fastfcn.models.heads.encoding_sum import EncodingSum


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


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("scale", [(-1.0, 0.0), (-0.05, -0.04)])
@pytest.mark.parametrize("last", [True, False])
def test_gradients_by_definition(offset: float, scale: tuple[float, float], last: bool) -> None:
    """Over several parts of the batch, in both memory layouts, which the gradient keeps."""
    torch.manual_seed(0)
    codewords = (torch.randn(32, 64) + offset).requires_grad_()
    factors = torch.empty(32).uniform_(*scale).requires_grad_()
    x = torch.randn(5, 64, 9, 7) + offset
    x = x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format).requires_grad_()
    weights = torch.randn(5, 32, 64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastfcn.models.heads.encoding_sum.CPU_NUMBERS", 2 * 64 * 63)
        ours = torch.autograd.grad(
            EncodingSum.apply(x.flatten(2), codewords, factors), (x, codewords, factors), weights
        )
    exact = torch.autograd.grad(by_definition(x, codewords, factors), (x, codewords, factors), weights.double())
    for found, expected in zip(ours, exact, strict=True):
        assert (found - expected).abs().max() <= 1e-5 * max(1.0, offset / 10) * expected.abs().max()
    assert ours[0].stride() == x.stride()


@pytest.mark.parametrize("last", [True, False])
def test_features_are_kept_as_they_came(last: bool) -> None:
    """Neither a copy in another layout nor one in float32 is kept, only the distances to the codewords besides."""
    x = torch.randn(4, 512, 16, 16, dtype=torch.bfloat16)
    x = x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format).requires_grad_()
    layer, kept = Encoding(512, 8), dict[int, int]()

    def pack(value: Tensor) -> Tensor:
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        e = layer(x)
    own = {value.untyped_storage().data_ptr() for value in (x, *layer.parameters())}
    assert own <= set(kept)
    assert sum(size for pointer, size in kept.items() if pointer not in own) == 4 * 256 * 8 * 4
    e.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16


def test_a_second_derivative_is_refused() -> None:
    x = torch.randn(1, 4, 3, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(Encoding(4, 2)(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.slow
def test_compiled_layer_agrees() -> None:
    torch.manual_seed(0)
    layer, x = Encoding(16, 4), torch.randn(2, 16, 8, 8, requires_grad=True)
    compiled = torch.compile(layer, fullgraph=True)
    for found, expected in zip(
        torch.autograd.grad(compiled(x).square().sum(), (x, *layer.parameters())),
        torch.autograd.grad(layer(x).square().sum(), (x, *layer.parameters())),
        strict=True,
    ):
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


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


class HeldAtOnce(TorchDispatchMode):
    """The most bytes that what operators give holds at one time, besides tensors that were there before."""

    def __init__(self, *before: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self.seen = {value.untyped_storage()._cdata for value in before}

    def _freed(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self.seen:
                    self.seen.add(key)
                    self.now += size
                    weakref.finalize(storage, self._freed, key, size)
                    self.most = max(self.most, self.now)
        return out


def test_memory_is_less_than_a_fifteenth_of_the_expanded_form() -> None:
    """Forward and backward at B=16, D=512, 64x64, K=32: the expanded form holds its residuals, 4.3 GB, at the least."""
    with FakeTensorMode():
        layer = Encoding(512, 32)
        x = torch.empty(16, 512, 64, 64, requires_grad=True)
        with HeldAtOnce(x) as held:
            layer(x).sum().backward()
    expanded = 16 * 64 * 64 * 32 * 512 * 4
    assert 16 * 512 * 64 * 64 * 4 < held.most < expanded / 15  # the gradient of x alone is 134 MB, 224 MB were seen
