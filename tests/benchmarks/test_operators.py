from __future__ import annotations

import pytest
import torch
from torch import nn

import fastfcn
from fastfcn.benchmarks.memory import peak_memory
from fastfcn.benchmarks.operators import Operator, count, extent, roofline
from fastfcn.models.products import linear
from fastfcn.summary import summarise

CPU = torch.device("cpu")


def test_a_matrix_product_counts_two_per_multiply_add_and_each_tensor_once() -> None:
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    assert count(lambda: a @ b) == [Operator("aten.mm", 2 * 3 * 5 * 7, 4 * (15 + 35 + 21))]


def test_onednns_product_counts_as_any_other() -> None:
    x, weight = torch.randn(2, 3, 5), torch.randn(7, 5)
    with torch.no_grad():
        [found] = count(lambda: linear(x, weight))
    assert found == Operator("mkldnn._linear_pointwise", 2 * 2 * 3 * 5 * 7, 4 * (30 + 35 + 42))


def test_views_and_empty_tensors_do_no_work() -> None:
    x = torch.randn(4, 6)
    assert count(lambda: x.view(2, 12).t()[1:].unsqueeze(0).expand(3, -1, -1).detach()) == []
    assert count(lambda: torch.empty(4, 4)) == []


def test_work_in_place_is_counted_and_a_copy_does_not_read_its_target() -> None:
    x, y = torch.zeros(10), torch.ones(10)
    [added] = count(lambda: x.add_(y))
    assert added == Operator("aten.add_", 0, 3 * 40)
    [copied] = count(lambda: x.copy_(y))
    assert copied.bytes == 2 * 40


def test_what_is_expanded_lies_in_memory_once() -> None:
    assert extent(torch.randn(5, 1).expand(5, 1000)) == 20
    assert extent(torch.randn(5, 8)[:, ::2]) == 5 * 4 * 4


def test_the_flops_are_those_of_the_summary() -> None:
    model = fastfcn.build_model(backbone="resnet18", overrides=["head.width=32", "upsample.width=32"]).eval()
    image = torch.randn(1, 3, 64, 64)

    def predict() -> object:
        with torch.no_grad():
            return model(image)

    counted = sum(operator.flops for operator in count(predict)) / 1e9
    assert counted == pytest.approx(summarise(model, image_size=(64, 64)).inference.gflops, rel=1e-6)


def test_the_backward_is_counted_too() -> None:
    x, weight = torch.randn(2, 3, 8, 8, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)

    def step() -> None:
        torch.nn.functional.conv2d(x, weight, padding=1).sum().backward()

    forward = 2 * 2 * 8 * 8 * 4 * 3 * 9
    assert sum(operator.flops for operator in count(step)) == 3 * forward


def test_the_roofline_adds_up_the_larger_of_both_times() -> None:
    operators = [Operator("a", 100, 1), Operator("b", 0, 30), Operator("c", 10, 20)]
    shares = roofline(operators, flops_per_second=10.0, bytes_per_second=10.0)
    assert (shares.arithmetic, shares.bytes, shares.operators) == (10.0, 5.0, 3)
    assert shares.total == 15.0


def test_the_peak_is_of_all_that_is_held_at_once() -> None:
    def call() -> object:
        a = torch.empty(4 << 20)  # 16 MiB
        b = torch.empty(4 << 20)
        del a
        c = torch.empty(2 << 20)  # 8 MiB
        return b, c

    assert peak_memory(call, device=CPU).tensors == pytest.approx(32, abs=0.1)


def test_what_torch_does_not_allocate_shows_in_the_resident_set() -> None:
    import numpy as np

    peak = peak_memory(lambda: np.ones(16 << 20, dtype=np.float32), device=CPU, torch_allocates=False)
    assert peak.tensors is None
    if peak.resident is not None:  # Linux
        assert 60 < peak.resident < 90


def test_a_graph_that_autograd_keeps_is_in_the_peak() -> None:
    layers = nn.Sequential(*(nn.Sigmoid() for _ in range(4)))
    x = torch.zeros(1 << 20, requires_grad=True)  # 4 MiB
    without, with_graph = (
        peak_memory(lambda grad=grad: torch.set_grad_enabled(grad) and layers(x).sum(), device=CPU).tensors  # type: ignore[misc]
        for grad in (False, True)
    )
    assert with_graph is not None
    assert with_graph >= 4 * 4
    assert without is not None


@pytest.mark.parametrize(
    ("layer", "forward"),
    [
        (nn.Conv2d(6, 8, 3, padding=1, bias=False), 2 * 8 * 25 * 6 * 9),
        (nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=6, bias=False), 2 * 6 * 25 * 9),
        (nn.Conv2d(6, 12, 1, groups=3, bias=False), 2 * 12 * 25 * 2),
    ],
)
def test_backward_of_a_convolution_in_groups_is_two_of_its_forward(layer: nn.Conv2d, forward: int) -> None:
    x = torch.randn(1, 6, 5, 5, requires_grad=True)
    found = count(lambda: layer(x).sum().backward())
    by_name = {each.name: each.flops for each in found if "convolution" in each.name}
    assert by_name == {"aten.convolution": forward, "aten.convolution_backward": 2 * forward}
    layer.zero_grad()
    inner = count(lambda: layer(x.detach()).sum().backward())  # no gradient of the image
    assert [each.flops for each in inner if each.name == "aten.convolution_backward"] == [forward]
