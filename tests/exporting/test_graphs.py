"""Graphs for any size give, at sizes they have not seen, what the model gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastfcn.errors import UserError
from fastfcn.exporting import onnx_file, openvino_file
from fastfcn.exporting.network import WithEnds, for_export
from fastfcn.exporting.program import LEAST_SIDE, trace
from fastfcn.exporting.request import Wanted
from fastfcn.models.fastfcn import FastFCN
from fastfcn.models.layers import pool
from fastfcn.models.upsamplers.top_down import covering, cropped
from tests.exporting.models import tiny

#: Odd, unequal, the smallest, and those whose halves are rounded up at other levels.
SIZES = [(1, LEAST_SIDE, LEAST_SIDE), (3, 65, 131), (1, 100, 40), (2, 64, 96)]

PAIRS = [
    ("jpu", "encoding"), ("none", "psp"), ("bilinear", "encoding"), ("fpn", "aspp"), ("jpu_x", "fcn"),
    ("bilinear_skip", "psp"), ("guided", "fcn"), ("carafe", "fcn"), ("sapa", "fcn"), ("dysample", "fcn"),
]  # fmt: skip


@pytest.mark.parametrize(("upsample", "head"), PAIRS)
def test_every_upsampler_and_head_for_any_size(upsample: str, head: str) -> None:
    model = tiny(upsample, head)
    traced = trace(WithEnds(for_export(model), Wanted()).eval(), Wanted(dynamic=True), size=None)
    assert_same(traced.module(), model)


def assert_same(ours: nn.Module, model: FastFCN) -> None:
    for index, (batch, height, width) in enumerate(SIZES):
        image = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(index))
        with torch.no_grad():
            found, reference = ours(image), model(image).logits
        assert found.shape == reference.shape
        assert float((found - reference).abs().max() / reference.abs().max()) < 1e-4, (batch, height, width)


def test_the_model_in_torch_is_left_as_it_is() -> None:
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for_export(model, half=True)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("size", [(1, 1), (5, 5), (7, 12), (6, 36), (13, 8)])
@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_pooling_for_a_graph_is_torchs(size: tuple[int, int], bins: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(pool(x, bins), F.adaptive_avg_pool2d(x, bins), atol=1e-6, rtol=1e-5)


class Pooling(nn.Module):
    """What the PSP head does with a map.

    Args:
        own: By `pool`, else by torch's operator.
    """

    def __init__(self, *, own: bool) -> None:
        super().__init__()
        self.own = own

    def forward(self, image: Tensor) -> Tensor:
        return pool(image, 3) if self.own else F.adaptive_avg_pool2d(image, 3)


@pytest.mark.parametrize("own", [False, True], ids=["torch's", "ours"])
def test_torchs_pooling_exports_cleanly_and_is_silently_wrong_at_other_sizes(own: bool, tmp_path: Path) -> None:
    """Why `pool` is: should torch mend its export, the first case fails, and `pool` can go."""
    module = Pooling(own=own).eval()
    onnx_file.write(trace(module, Wanted(dynamic=True), size=None), tmp_path / "a.onnx")
    run = onnx_file.runner(tmp_path / "a.onnx")
    example = torch.randn(2, 3, 96, 160)
    torch.testing.assert_close(run(example), module(example), atol=1e-5, rtol=1e-4)
    other = torch.randn(1, 3, 131, 203)
    wrong = float((run(other) - module(other)).abs().max() / module(other).abs().max())
    assert wrong < 1e-5 if own else wrong > 0.01


class Halves(nn.Module):
    """What CARAFE, SAPA and DySample do with sizes that do not divide."""

    def forward(self, image: Tensor) -> Tensor:
        coarse = covering(F.max_pool2d(image, 3, 2, 1), image.shape[-2:])
        return cropped(F.pixel_shuffle(coarse.repeat(1, 4, 1, 1), 2), image.shape[-2:])


def test_sizes_that_do_not_divide_are_those_of_torch_in_other_runtimes(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    onnx_file.write(trace(Halves().eval(), Wanted(dynamic=True), size=None), path)
    runtimes = [onnx_file.runner(path), openvino_file.compiled(openvino_file.converted(path))]
    for size in ((34, 63), (35, 36), (97, 131)):
        image = torch.randn(1, 3, *size)
        for run in runtimes:
            torch.testing.assert_close(run(image), Halves()(image), atol=1e-6, rtol=1e-5)


def test_a_model_that_no_graph_can_say_is_told_in_a_sentence() -> None:
    class Asks(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image if image.sum() > 0 else -image

    with pytest.raises(UserError, match=r"torch\.export cannot make a graph of this model") as caught:
        trace(Asks().eval(), Wanted(dynamic=True), size=None)
    assert "\n" not in str(caught.value)
