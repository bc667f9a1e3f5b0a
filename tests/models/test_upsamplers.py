"""The upsamplers after JPU: each operator against its equations, written out position by position."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastfcn
from fastfcn.checkpoint import config_dir
from fastfcn.errors import UserError
from fastfcn.models.upsamplers import dysample
from fastfcn.models.upsamplers.base import Upsampler
from fastfcn.models.upsamplers.bilinear_skip import BilinearSkip
from fastfcn.models.upsamplers.carafe import CARAFE, ContentAwareReassembly, reassemble
from fastfcn.models.upsamplers.dysample import DynamicSampling, DySample
from fastfcn.models.upsamplers.fpn import FPN, Nearest
from fastfcn.models.upsamplers.guided import Guided, GuidedFilter, linear_coefficients
from fastfcn.models.upsamplers.jpu import JPU
from fastfcn.models.upsamplers.sapa import SAPA, PointAffiliation
from fastfcn.report.rows import UPSAMPLERS
from fastfcn.summary import summarise
from fastfcn.sync_norm import SyncNorm
from fastfcn.types import Pyramid

CHANNELS = (8, 12, 16, 24)
BUILT: dict[str, Callable[[], Upsampler]] = {
    "bilinear_skip": lambda: BilinearSkip(CHANNELS, width=8),
    "guided": lambda: Guided(CHANNELS, width=8),
    "carafe": lambda: CARAFE(CHANNELS, width=8, compressed=4),
    "sapa": lambda: SAPA(CHANNELS, width=8, embedding=4),
    "dysample": lambda: DySample(CHANNELS, width=8),
}
OPERATORS: dict[str, Callable[[], nn.Module]] = {
    "nearest": Nearest,
    "guided": lambda: GuidedFilter(4, radius=1, eps=0.01),
    "carafe": lambda: ContentAwareReassembly(4, compressed=3, encoder=3, kernel=5),
    "sapa": lambda: PointAffiliation(4, embedding=3, kernel=3),
    "dysample": lambda: DynamicSampling(4, groups=2),
}

#: Sizes of c3 and what backbones make of them: halves that are rounded up, or down (timm's ConvNeXt).
SIZES = [
    [(16, 8), (8, 4), (4, 2)],
    [(9, 12), (5, 6), (3, 3)],
    [(9, 11), (4, 5), (2, 2)],
    [(3, 1), (2, 1), (1, 1)],
]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def lively(module: nn.Module, std: float = 0.5) -> nn.Module:
    """With weights as large as a training makes them: at first offsets and logits are all but zero."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module


def pyramid(sizes: list[tuple[int, int]], **options: Any) -> Pyramid:
    whole = [(2 * sizes[0][0], 2 * sizes[0][1]), *sizes]
    return Pyramid(*(torch.randn(2, c, *size, **options) for c, size in zip(CHANNELS, whole, strict=True)))


def at(x: Tensor, row: int, column: int) -> Tensor:
    """The feature at a position, zero beyond the edge: (C, h, w) -> (C,)."""
    inside = 0 <= row < x.shape[1] and 0 <= column < x.shape[2]
    return x[:, row, column] if inside else x.new_zeros(len(x))


# What all share.


def test_the_report_knows_every_upsampler() -> None:
    assert set(UPSAMPLERS) == {path.stem for path in (config_dir() / "upsample").glob("*.yaml")}


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", BUILT)
def test_any_size_gives_the_size_of_c3(name: str, sizes: list[tuple[int, int]]) -> None:
    module, levels = BUILT[name](), pyramid(sizes)
    given = module(levels)
    assert given.c5.shape == (2, module.out_channels[-1], *sizes[0])
    assert given[:3] == levels[:3]
    given.c5.square().mean().backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", OPERATORS)
def test_gradients_are_those_of_differences(name: str) -> None:
    operator = lively(OPERATORS[name]()).double()
    coarse = torch.randn(1, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    fine = torch.randn(1, 4, 5, 4, dtype=torch.float64, requires_grad=True)
    parameters = tuple(operator.parameters())
    assert torch.autograd.gradcheck(lambda *inputs: operator(*inputs[:2]), (coarse, fine, *parameters))


@pytest.mark.parametrize("name", BUILT)
def test_the_same_again_and_in_channels_last(name: str) -> None:
    module, levels = lively(BUILT[name](), 0.1), pyramid(SIZES[1])
    runs = []
    for layout in (torch.contiguous_format, torch.contiguous_format, torch.channels_last):
        module.zero_grad()
        c5 = module(Pyramid(*(level.contiguous(memory_format=layout) for level in levels))).c5
        c5.square().mean().backward()
        runs.append([c5, *(parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None)])
    for first, again, last in zip(*runs, strict=True):
        assert torch.equal(first, again)
        torch.testing.assert_close(last, first, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BUILT)
def test_under_autocast_the_map_is_near(name: str) -> None:
    module, levels = BUILT[name]().eval(), pyramid(SIZES[0])
    with torch.no_grad():
        expected = module(levels).c5
        with torch.autocast("cpu", dtype=torch.bfloat16):
            near = module(levels).c5
    assert float((near - expected).abs().max()) < 0.03 * float(expected.abs().max())


def test_norms_are_synchronised_as_the_others_are() -> None:
    for name, build in BUILT.items():
        module = build()
        norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
        synchronised = [m for m in SyncNorm().apply(module).modules() if isinstance(m, nn.SyncBatchNorm)]
        assert len(synchronised) == len(norms) == (4 if name == "bilinear_skip" else 0)


@pytest.mark.parametrize("name", [name for name in BUILT if name != "bilinear_skip"])
def test_they_differ_from_fpn_in_the_operator_alone(name: str) -> None:
    ours, fpn = BUILT[name](), FPN(CHANNELS, width=8)
    shapes = {key: value.shape for key, value in ours.state_dict().items() if not key.startswith("enlarge")}
    assert shapes == {key: value.shape for key, value in fpn.state_dict().items()}
    assert ours.out_channels == fpn.out_channels
    ours.load_state_dict(fpn.state_dict(), strict=False)
    ours.enlarge5, ours.enlarge4 = Nearest(), Nearest()
    levels = pyramid(SIZES[1])
    assert torch.equal(ours(levels).c5, fpn(levels).c5)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: CARAFE(CHANNELS, kernel=4), "upsample.kernel=4: give an odd number"),
        (lambda: CARAFE(CHANNELS, encoder=2), "upsample.encoder=2: give an odd number"),
        (lambda: SAPA(CHANNELS, kernel=0), "upsample.kernel=0: give an odd number"),
        (lambda: DySample(CHANNELS, width=6), "upsample.groups=4: give a divisor of upsample.width=6"),
        (lambda: Guided(CHANNELS, radius=0), "upsample.radius=0, upsample.eps=0.01: give a radius"),
        (lambda: Guided(CHANNELS, eps=0), "eps above 0"),
    ],
)
def test_what_cannot_be_built_is_refused(build: Callable[[], Upsampler], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build()


# CARAFE.


def test_reassembly_is_the_sum_over_the_window() -> None:
    x, kernels = torch.randn(3, 4, 5), torch.randn(4, 5, 4, 9)
    expected = torch.zeros(3, 8, 10)
    for row in range(8):
        for column in range(10):
            i, j = row // 2, column // 2
            w = kernels[i, j, 2 * (row % 2) + column % 2].view(3, 3)
            for n in (-1, 0, 1):
                for m in (-1, 0, 1):
                    expected[:, row, column] += w[n + 1, m + 1] * at(x, i + n, j + m)
    torch.testing.assert_close(reassemble(x[None], kernels[None])[0], expected)


def test_carafes_kernels_are_a_softmax_over_the_shuffled_pixels() -> None:
    operator = ContentAwareReassembly(4, compressed=3, encoder=3, kernel=5)
    lively(operator)
    x = torch.randn(2, 4, 3, 6)
    kernels = operator.kernels(x)
    assert kernels.shape == (2, 3, 6, 4, 25)
    assert (kernels > 0).all()
    torch.testing.assert_close(kernels.sum(-1), torch.ones(2, 3, 6, 4))
    # Section 3.2: the map of 4 k^2 channels is shuffled to k^2 at the fine resolution, then normalised over them.
    fine = F.pixel_shuffle(operator.encode(operator.compress(x)), 2).softmax(dim=1)
    for row, column in ((0, 0), (0, 1), (3, 4), (5, 11)):
        own = kernels[:, row // 2, column // 2, 2 * (row % 2) + column % 2]
        torch.testing.assert_close(own, fine[:, :, row, column])


def test_a_kernel_of_the_middle_alone_is_nearest_neighbour() -> None:
    x = torch.randn(2, 4, 3, 5)
    operator = ContentAwareReassembly(4, compressed=3, encoder=3, kernel=5)
    with torch.no_grad():
        operator.encode.bias.view(25, 4)[12] = 100.0  # type: ignore[union-attr]
    for height, width in ((6, 10), (5, 9), (7, 11)):  # twice as many, one less, one more: the last is repeated
        rows, columns = (torch.arange(size).div(2, rounding_mode="floor") for size in (height, width))
        expected = x[:, :, rows.clamp(max=2)][:, :, :, columns.clamp(max=4)]
        torch.testing.assert_close(operator(x, torch.empty(2, 4, height, width)), expected)


# SAPA.


def test_affiliation_is_the_softmax_of_the_similarities() -> None:
    operator = PointAffiliation(4, embedding=3, kernel=3)
    lively(operator)
    coarse, fine = torch.randn(1, 4, 3, 4), torch.randn(1, 4, 6, 8)
    embed_x, embed_y = operator.embed_coarse, operator.embed_fine
    got = operator(coarse, fine)[0]
    for row in range(6):
        for column in range(8):
            y = embed_y(operator.norm_fine(fine[0, :, row, column]))
            similarities, features = [], []
            for n in (-1, 0, 1):
                for m in (-1, 0, 1):
                    i, j = row // 2 + n, column // 2 + m
                    inside = 0 <= i < 3 and 0 <= j < 4
                    x = at(coarse[0], i, j)
                    similarities.append(embed_x(operator.norm_coarse(x)) @ y if inside else x.new_zeros(()))
                    features.append(x)
            w = torch.stack(similarities).softmax(0)
            torch.testing.assert_close(got[:, row, column], w @ torch.stack(features), rtol=1e-4, atol=1e-5)
    kernels = operator.kernels(coarse, fine)
    torch.testing.assert_close(kernels.sum(-1), torch.ones(1, 3, 4, 4))


def test_a_fine_position_takes_from_what_resembles_it() -> None:
    """Two surfaces whose border runs through the middle of coarse positions: each fine position chooses one."""
    operator = PointAffiliation(2, embedding=2, kernel=3)
    for linear in (operator.embed_coarse, operator.embed_fine):
        nn.init.eye_(linear.weight)
        linear.weight.data.mul_(10)
    surface = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    coarse = surface[torch.tensor([[0, 0, 1, 1]] * 4)].permute(2, 0, 1)[None]
    belongs = torch.tensor([[0] * 5 + [1] * 3] * 8)  # the border of the fine map lies one position further
    given = operator(coarse, surface[belongs].permute(2, 0, 1)[None]).detach()
    torch.testing.assert_close(given, surface[belongs].permute(2, 0, 1)[None], rtol=0, atol=1e-3)
    nearest = Nearest()(coarse, given)
    assert float((nearest - given).abs().max()) > 1.9  # which nearest neighbour gets wrong


# DySample.


def test_without_offsets_sampling_is_bilinear() -> None:
    operator = DynamicSampling(8, groups=4)
    nn.init.zeros_(operator.offset.weight)
    x = torch.randn(2, 8, 5, 7)
    expected = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(operator(x, torch.empty(2, 1, 10, 14)), expected)
    torch.testing.assert_close(operator(x, torch.empty(2, 1, 9, 13)), expected[:, :, :9, :13])


def test_sampling_is_bilinear_at_the_learned_places() -> None:
    operator = DynamicSampling(4, groups=2)
    lively(operator, 1.0)
    x = torch.randn(1, 4, 3, 4)
    got = operator(x, torch.empty(1, 1, 6, 8))[0]
    offsets = 0.25 * operator.offset(x)[0].view(2, 2, 2, 2, 3, 4)  # group, (x, y), row and column within, h, w
    moved = 0
    for row in range(6):
        for column in range(8):
            for group in range(2):
                dx, dy = offsets[group, :, row % 2, column % 2, row // 2, column // 2].tolist()
                # The middle of the fine position, in coarse positions, and from there to the learned place.
                across = min(max((column + 0.5) / 2 - 0.5 + dx, 0), 3)
                down = min(max((row + 0.5) / 2 - 0.5 + dy, 0), 2)
                moved += math.hypot(dx, dy) > 0.1
                expected = torch.zeros(2)
                for i in range(3):
                    for j in range(4):
                        weight = max(0.0, 1 - abs(i - down)) * max(0.0, 1 - abs(j - across))
                        expected += weight * x[0, 2 * group : 2 * group + 2, i, j]
                torch.testing.assert_close(got[2 * group : 2 * group + 2, row, column], expected, rtol=1e-4, atol=1e-5)
    assert moved > 60


def test_on_a_gpu_deterministic_gradients_are_refused_with_a_sentence() -> None:
    cuda = torch.device("cuda")
    dysample._need_backward(cuda)
    try:
        torch.use_deterministic_algorithms(True)
        dysample._need_backward(torch.device("cpu"))
        with torch.no_grad():
            dysample._need_backward(cuda)
        with pytest.raises(UserError, match=r"deterministic=true: .*choose deterministic=warn"):
            dysample._need_backward(cuda)
        torch.use_deterministic_algorithms(True, warn_only=True)
        dysample._need_backward(cuda)
    finally:
        torch.use_deterministic_algorithms(False)


# The guided filter.


def test_coefficients_are_the_least_squares_of_each_window() -> None:
    guide, target, radius, eps = torch.randn(4, 5).double(), torch.randn(4, 5).double(), 1, 0.3
    lines = {}
    for row in range(4):
        for column in range(5):
            rows = slice(max(row - radius, 0), row + radius + 1)
            columns = slice(max(column - radius, 0), column + radius + 1)
            i, p = guide[rows, columns].flatten(), target[rows, columns].flatten()
            # sum_i (a I_i + b - p_i)^2 + eps a^2 over the window: rows I_i and 1, and one for eps of each pixel.
            left = torch.stack([torch.cat([i, (eps * i.new_tensor(len(i))).sqrt()[None]]),
                                torch.cat([torch.ones_like(i), i.new_zeros(1)])], dim=1)  # fmt: skip
            right = torch.cat([p, p.new_zeros(1)])
            lines[row, column] = torch.linalg.lstsq(left, right[:, None]).solution.flatten()
    a, b = linear_coefficients(guide[None, None], target[None, None], radius=radius, eps=eps)
    for row in range(4):
        for column in range(5):
            near = [line for (i, j), line in lines.items() if abs(i - row) <= radius and abs(j - column) <= radius]
            mean = torch.stack(near).mean(0)
            torch.testing.assert_close(torch.stack([a[0, 0, row, column], b[0, 0, row, column]]), mean)


def test_a_line_over_the_guide_is_found_again_at_the_fine_resolution() -> None:
    fine = torch.randn(2, 4, 8, 6)
    operator = GuidedFilter(4, radius=1, eps=1e-9)
    coarse = F.interpolate(fine, (4, 3), mode="bilinear", align_corners=True)
    torch.testing.assert_close(operator(coarse, fine), fine, rtol=0, atol=1e-3)  # itself its guide
    torch.testing.assert_close(operator(2 * coarse - 3, fine), 2 * fine - 3, rtol=0, atol=1e-3)


def test_a_flat_guide_gives_the_smoothed_target() -> None:
    coarse = torch.randn(1, 4, 4, 3)
    smooth = coarse
    for _ in range(2):
        smooth = F.avg_pool2d(smooth, 3, stride=1, padding=1, count_include_pad=False)
    expected = F.interpolate(smooth, (8, 6), mode="bilinear", align_corners=True)
    given = GuidedFilter(4, radius=1, eps=0.01)(coarse, torch.full((1, 4, 8, 6), 5.0))
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)


# Costs.


@pytest.mark.parametrize("backbone", ["resnet50s", "resnet101s"])
def test_bilinear_with_skips_costs_what_jpu_costs(backbone: str) -> None:
    costs = []
    for upsample in ("bilinear_skip", "jpu"):
        with torch.device("meta"):
            model = fastfcn.build_model(backbone=backbone, upsample=upsample, num_classes=59)
        costs.append(summarise(model, image_size=(512, 512)).parts)
    ours, theirs = costs
    for part, closeness in (("upsample", 0.02), ("head", 0.0)):
        assert ours[part].parameters == pytest.approx(theirs[part].parameters, rel=closeness / 4)
        assert ours[part].gflops == pytest.approx(theirs[part].gflops, rel=closeness)


def test_the_weights_that_differ_are_jpus_depthwise_halves() -> None:
    ours, jpu = BilinearSkip(CHANNELS, width=8), JPU(CHANNELS, width=8)
    halves = [name for name, _ in jpu.named_parameters() if "depthwise" in name or ".0.norm" in name]
    depthwise = sum(jpu.get_parameter(name).numel() for name in halves)
    count = [sum(p.numel() for p in module.parameters()) for module in (ours, jpu)]
    assert count[0] + depthwise == count[1]


def test_operators_have_the_published_number_of_weights() -> None:
    """In Faster R-CNN's FPN, three operators of 256 channels: CARAFE 0.22 M, SAPA-B 0.05 M (Lu et al. 2022)."""
    counts = {}
    for name, operator in (
        ("carafe", ContentAwareReassembly(256, compressed=64, encoder=3, kernel=5)),
        ("sapa", PointAffiliation(256, embedding=32, kernel=5)),
    ):
        counts[name] = round(3 * sum(p.numel() for p in operator.parameters()) / 1e6, 2)
    assert counts == {"carafe": 0.22, "sapa": 0.05}


COSTS = re.findall(
    r"^\| (resnet\w+) \| (\w+) \| ([\d,]+) \| ([\d.]+) \| ([\d,]+) \| ([\d.]+) \|$",
    (config_dir().parent / "docs/upsamplers.md").read_text(),
    flags=re.MULTILINE,
)


def test_the_table_of_costs_has_all_upsamplers() -> None:
    assert [(row[0], row[1]) for row in COSTS] == [(b, up) for b in ("resnet50s", "resnet101s") for up in UPSAMPLERS]


@pytest.mark.parametrize("row", [row for row in COSTS if row[0] == "resnet50s"], ids=lambda row: "-".join(row[:2]))
def test_costs_are_those_of_the_table(row: tuple[str, ...]) -> None:
    with torch.device("meta"):
        model = fastfcn.build_model(backbone=row[0], upsample=row[1], num_classes=59)
    summary = summarise(model.eval(), image_size=(512, 512))
    whole, part = summary.inference, summary.parts["upsample"]
    assert row[2:] == (
        f"{whole.parameters:,}", f"{whole.gflops:.2f}", f"{part.parameters:,}", f"{part.gflops:.2f}",
    )  # fmt: skip
