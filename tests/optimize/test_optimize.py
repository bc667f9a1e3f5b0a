"""A rewritten network gives what the network gives: every switch, upsampler, head and kind of backbone."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastfcn
from fastfcn.checkpoint import config_dir
from fastfcn.errors import UserError
from fastfcn.models import products
from fastfcn.models.fastfcn import FastFCN
from fastfcn.optimize import Optimize, rewriting, running
from fastfcn.optimize.folding import fold_batch_norms
from fastfcn.optimize.products import Pointwise
from fastfcn.optimize.winograd import F2, F4, MAX_WASTE, Transform, Winograd, suits
from fastfcn.types import SegmentationOutput
from tests import official

# Neither side is a multiple of 32, or of 8.
SIZE = (70, 89)
UPSAMPLERS = sorted(path.stem for path in (config_dir() / "upsample").glob("*.yaml"))
#: Of the upsamplers that came after the paper one head tells all: the switches look at the Encoding head alone.
LATER = ("bilinear_skip", "carafe", "dysample", "guided", "sapa")
HEADS = sorted(path.stem for path in (config_dir() / "head").glob("*.yaml"))

#: All off: each switch is then tried alone.
OFF: dict[str, Any] = {
    "drop_branches": False,
    "fold_bn": False,
    "commute": False,
    "depthwise": False,
    "winograd": False,
    "onednn": False,
    "channels_last": False,
    "dtype": "float32",
    "compile": False,
    "cuda_graphs": False,
}


@pytest.fixture(autouse=True)
def on_maps_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' maps are too small for Winograd's filtering to gain by; it is to be what is tested."""
    monkeypatch.setattr(Winograd, "min_product", 0)
    monkeypatch.setattr(Winograd, "max_waste", math.inf)


def built(backbone: str, upsample: str, head: str, *overrides: str) -> FastFCN:
    """A network whose norms have statistics and affine parameters of their own."""
    torch.manual_seed(0)
    if upsample.startswith("jpu") or upsample == "bilinear_skip":
        overrides = (*overrides, "upsample.width=64")
    if head == "encoding":
        overrides = (*overrides, "head.width=64")
    model = fastfcn.build_model(backbone=backbone, upsample=upsample, head=head, num_classes=5, overrides=overrides)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return model.eval()


def check_same(model: FastFCN, image: Tensor, **switches: Any) -> None:
    """Logits to 1e-4 of the largest, and the network itself as it was."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        expected = model(image).logits
    output = Optimize(**switches)(model)(image)
    assert isinstance(output, SegmentationOutput)
    assert output.logits.shape == expected.shape
    assert output.logits.dtype == torch.float32
    assert float((output.logits - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("upsample", "head"), [pair for pair in product(UPSAMPLERS, HEADS) if pair[0] not in LATER or pair[1] == "encoding"]
)
def test_every_upsampler_with_every_head(upsample: str, head: str) -> None:
    model = built("resnet18", upsample, head)
    image = torch.randn(2, 3, *SIZE)
    check_same(model, image, compile=False, dtype="float32")
    for switch in ("drop_branches", "fold_bn", "channels_last", "winograd", "onednn"):
        check_same(model, image, **{**OFF, switch: True})


@pytest.mark.parametrize(
    ("backbone", "upsample"),
    [
        ("resnet50s", "jpu"),
        ("resnet50", "none"),
        ("convnext_atto", "jpu"),
        ("resnet26d", "none"),
        ("resnetv2_50", "fpn"),
    ],
)
def test_every_kind_of_backbone(backbone: str, upsample: str) -> None:
    check_same(built(backbone, upsample, "encoding"), torch.randn(1, 3, *SIZE), compile=False, dtype="float32")


def test_a_backbone_of_one_size_alone() -> None:
    model = built("swin_tiny_patch4_window7_224", "jpu", "fcn")
    check_same(model, torch.randn(1, 3, 224, 224), compile=False, dtype="float32")


def test_no_norm_is_left_behind_a_convolution() -> None:
    for backbone in ("resnet50s", "resnet26d"):
        model = built(backbone, "jpu", "encoding")
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        model.aux_head = None
        auxiliary = 1
        assert fold_batch_norms(model) == len(norms) - auxiliary
        assert not [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


class Twice(nn.Module):
    """Convolutions whose norms must not be folded: read twice, used twice, given away; and one that must."""

    def __init__(self) -> None:
        super().__init__()
        self.read_twice, self.used_twice, self.given, self.plain = (nn.Conv2d(3, 3, 1) for _ in range(4))
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(4))
        for norm in self.norms:
            norm.running_mean += torch.rand(3)  # type: ignore[operator]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.read_twice(x)
        y = y + self.norms[0](y)
        y = self.used_twice(self.norms[1](self.used_twice(y)))
        z = self.given(y)
        return self.norms[3](self.plain(self.norms[2](z))), z


def test_norms_are_folded_by_the_flow_of_the_data() -> None:
    model, x = Twice().eval(), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = model(x)
        assert fold_batch_norms(model) == 1
        for ours, theirs in zip(model(x), expected, strict=True):
            torch.testing.assert_close(ours, theirs)
    assert isinstance(model.norms[3], nn.Identity)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (7, 10)])
def test_a_1x1_convolution_is_a_product(size: tuple[int, int], stride: int, bias: bool) -> None:
    conv = nn.Conv2d(24, 40, 1, stride=stride, bias=bias)
    for x in (torch.randn(2, 24, *size), torch.randn(2, 24, *size).contiguous(memory_format=torch.channels_last)):
        found = Pointwise(conv)(x)
        torch.testing.assert_close(found, conv(x))
        assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "options", [{"kernel_size": 3}, {"kernel_size": 1, "groups": 2}, {"kernel_size": 1, "padding": 1}]
)
def test_other_convolutions_are_no_product(options: dict[str, Any]) -> None:
    assert not Pointwise.suits(nn.Conv2d(4, 4, **options))


def test_products_that_are_not_onednns() -> None:
    """Those that need a gradient, of other number types, of nothing: torch's, with the same result."""
    weight, bias = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    for x in (torch.randn(2, 3, dtype=torch.float64), torch.empty(0, 3, dtype=torch.float64)):
        assert not products.suits(x)
        assert torch.equal(products.linear(x, weight, bias), F.linear(x, weight, bias))
    x = torch.randn(2, 3, requires_grad=True)
    products.linear(x, weight.float(), bias.float()).sum().backward()
    torch.testing.assert_close(x.grad, weight.float().sum(0).expand(2, 3))


@pytest.mark.parametrize("transform", [F2, F4])
def test_winograds_products_by_onednn(transform: Transform) -> None:
    conv = nn.Conv2d(256, 256, 3, padding=2, dilation=2)
    x = torch.randn(1, 256, 9, 14)
    with torch.no_grad():
        torch.testing.assert_close(
            Winograd(conv, transform, onednn=True)(x), Winograd(conv, transform)(x), rtol=1e-4, atol=1e-4
        )


def test_a_1x1_convolution_goes_before_the_resize() -> None:
    model = built("resnet18", "bilinear", "encoding", "head.kernel_size=1")
    image = torch.randn(1, 3, *SIZE)
    check_same(model, image, **{**OFF, "fold_bn": True, "commute": True})
    check_same(model, image, **{**OFF, "commute": True})  # nothing may be exchanged: the norm is in the way
    switches = Optimize(**{**OFF, "fold_bn": True, "commute": True})
    assert isinstance(switches(model).network.model.head, rewriting.ResizeLast)
    assert isinstance(switches(built("resnet18", "bilinear", "encoding")).network.model.upsample, type(model.upsample))


@pytest.mark.parametrize("dilation", [1, 2, 8])
@pytest.mark.parametrize("bias", [True, False])
def test_shifted_maps_are_a_depthwise_convolution(dilation: int, bias: bool) -> None:
    conv = nn.Conv2d(6, 6, 3, padding=dilation, dilation=dilation, groups=6, bias=bias)
    assert rewriting.ShiftedDepthwise.suits(conv)
    x = torch.randn(2, 6, 7, 11)
    with torch.no_grad():
        torch.testing.assert_close(rewriting.ShiftedDepthwise(conv)(x), conv(x))


@pytest.mark.parametrize("transform", [F2, F4], ids=["F2", "F4"])
@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize("size", [(8, 8), (7, 13), (1, 5)])
def test_minimal_filtering_is_the_convolution(transform: Transform, dilation: int, size: tuple[int, int]) -> None:
    conv = nn.Conv2d(5, 4, 3, padding=dilation, dilation=dilation, bias=dilation != 2).double()
    assert not suits(conv)
    assert suits(conv, min_channels=4)
    x = torch.randn(2, 5, *size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(Winograd(conv, transform)(x), conv(x))


def test_a_map_that_the_tiles_do_not_fit_is_convolved_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Winograd, "max_waste", MAX_WASTE)
    conv = nn.Conv2d(4, 8, 3, padding=6, dilation=6)  # each of its 36 grids has 2 x 2 positions, a tile 4 x 4
    layer = Winograd(conv, F4)
    layer.weight.fill_(torch.nan)
    few, enough = torch.randn(1, 4, 12, 12), torch.randn(1, 4, 24, 24)
    with torch.no_grad():
        torch.testing.assert_close(layer(few), conv(few))
        assert layer(enough).isnan().all()


def test_a_map_of_few_tiles_is_convolved_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Winograd, "min_product", 4 * 8 * 16)  # of four tiles in each of the four grids
    conv = nn.Conv2d(4, 8, 3, padding=2, dilation=2)
    layer = Winograd(conv, F4)
    layer.weight.fill_(torch.nan)
    few, enough = torch.randn(1, 4, 8, 15), torch.randn(1, 4, 9, 15)
    with torch.no_grad():
        torch.testing.assert_close(layer(few), conv(few))
        assert layer(enough).isnan().all()


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(512, 512, 3),
        nn.Conv2d(512, 512, 3, padding=1, stride=2),
        nn.Conv2d(512, 512, 3, padding=1, groups=2),
        nn.Conv2d(512, 512, 1),
        nn.Conv2d(128, 512, 3, padding=1),
        nn.ReLU(),
    ],
)
def test_what_minimal_filtering_does_not_suit(conv: nn.Module) -> None:
    assert not suits(conv)


def test_dead_branches_are_gone() -> None:
    model = built("resnet18", "jpu", "encoding")
    optimized = Optimize(compile=False, dtype="float32")(model)
    names = {name for name, _ in optimized.network.named_parameters()}
    assert not [name for name in names if "aux_head" in name or "presence" in name]
    assert model.aux_head is not None


@pytest.mark.parametrize("golden", ["encnet_jpu_resnet50_pcontext", "psp_jpu_resnet50_pcontext"])
def test_bfloat16_is_near_and_differs_at_ties_alone(golden: str, tmp_path: Path) -> None:
    torch.save({"state_dict": official.official_state(golden)}, tmp_path / "model_best.pth.tar")
    model = fastfcn.load_official(tmp_path / "model_best.pth.tar")
    image = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    optimized = Optimize(dtype="bfloat16", compile=False)(model)
    assert optimized.applied["dtype"] == "bfloat16"
    with torch.no_grad():
        expected = model(image).logits
    logits = optimized(image).logits
    largest = float(expected.abs().max())
    assert float((logits - expected).abs().max()) < 0.03 * largest
    first, second = expected.topk(2, dim=1).values.unbind(1)
    clear = first - second > 0.06 * largest
    assert clear.any()
    assert torch.equal(logits.argmax(1)[clear], expected.argmax(1)[clear])


@pytest.mark.slow
@pytest.mark.parametrize("upsample", ["jpu", "none"])
def test_bfloat16_finds_the_classes_of_a_trained_network(upsample: str) -> None:
    torch.manual_seed(0)
    model = built("resnet18", upsample, "encoding")
    colours = torch.randn(5, 3)

    def batch(count: int) -> tuple[Tensor, Tensor]:
        mask = torch.randint(5, (count, 6, 6)).repeat_interleave(16, 1).repeat_interleave(16, 2)
        return colours[mask].permute(0, 3, 1, 2) + 0.3 * torch.randn(count, 3, 96, 96), mask

    optimizer = torch.optim.Adam(model.train().parameters(), lr=1e-3)
    for _ in range(60):
        image, mask = batch(8)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(image).logits, mask).backward()
        optimizer.step()
    image, mask = batch(8)
    with torch.no_grad():
        expected = model.eval()(image).logits.argmax(1)
    assert float((expected == mask).float().mean()) > 0.8
    found = Optimize(dtype="bfloat16", compile=False)(model)(image).logits.argmax(1)
    assert float((found == expected).float().mean()) >= 0.995


def test_under_autocast_the_number_type_is_the_switchs() -> None:
    model, image = built("resnet18", "jpu", "encoding"), torch.randn(1, 3, *SIZE)
    optimized = Optimize(compile=False, dtype="float32")(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = optimized(image).logits
    assert torch.equal(logits, optimized(image).logits)


class Counted(nn.Module):
    """Counts how often the compiler is given it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


def test_a_shape_is_compiled_when_it_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    network, compiled = Counted(), []

    def compiler(module: nn.Module, *, dynamic: bool) -> Any:
        assert not dynamic

        def run(image: Tensor) -> Tensor:
            compiled.append(tuple(image.shape))
            y: Tensor = module(image)
            return y

        return run

    monkeypatch.setattr(torch, "compile", compiler)
    monkeypatch.setattr(running, "MAX_SHAPES", 2)
    runner = running.Runner(network, compiled=True, cuda_graphs=True, autotune=False)
    assert not runner.cuda_graphs  # on a CPU there are none
    first, second, third, fourth = (torch.randn(1, 3, 4, width) for width in (4, 5, 6, 7))
    for image in (first, second, third, fourth):
        runner(image)
    assert not compiled
    for image in (first, second):
        runner(image)
    assert set(compiled) == {(1, 3, 4, 4), (1, 3, 4, 5)}
    with pytest.warns(UserWarning, match="2 shapes of images are compiled"):
        runner(third)
    for image in (third, fourth, fourth):
        assert torch.equal(runner(image), network(image))
    assert set(compiled) == {(1, 3, 4, 4), (1, 3, 4, 5)}


def test_without_a_compiler_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import cpp_builder, exc

    def none() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    model = built("resnet18", "bilinear", "fcn")
    with pytest.raises(UserError, match=r"needs a C\+\+ compiler.*optimize.compile=false"):
        Optimize()(model)
    Optimize(compile=False)(model)


def test_a_compiler_that_fails_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiler(message: str) -> Any:
        def run(image: Tensor) -> Tensor:
            raise RuntimeError(message)

        return lambda module, **options: run

    image = torch.randn(1, 3, 4, 4)
    for message, kind in (("CppCompileError: no Python.h", UserError), ("a fault of the program", RuntimeError)):
        monkeypatch.setattr(torch, "compile", compiler(message))
        runner = running.Runner(Counted(), compiled=True, cuda_graphs=False, autotune=False)
        runner(image)
        with pytest.raises(kind, match=r"C\+\+ compiler could not build|a fault"):
            runner(image)


def test_switches_that_change_nothing_are_refused() -> None:
    with pytest.raises(UserError, match=r"optimize\.dtype=float16: choose auto"):
        Optimize(dtype="float16")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"optimize\.compile=false changes nothing without inference\.optimize=true"):
        Optimize(compile=False).wanted(False)
    assert Optimize().wanted(False) is None
    assert Optimize(compile=False).wanted(True) == Optimize(compile=False)


@pytest.mark.slow
@pytest.mark.parametrize("upsample", ["jpu", "none"])
def test_compiled_networks_give_the_same(upsample: str) -> None:
    # Minimal filtering too; two sizes, and a batch.
    model = built("resnet50", upsample, "encoding", "head.width=512")
    with torch.inference_mode():
        optimized, rounded = (Optimize(dtype=dtype)(model) for dtype in ("float32", "bfloat16"))
        found = [module for module in optimized.network.modules() if isinstance(module, Winograd)]
        assert found
        for shape in ((1, 3, 64, 96), (2, 3, 70, 89)):
            image = torch.randn(*shape)
            expected = model(image).logits
            for _ in range(2):  # the second is compiled
                logits = optimized(image).logits
            assert float((logits - expected).abs().max()) < 1e-4 * float(expected.abs().max())
        for _ in range(2):
            logits = rounded(image).logits
        assert float((logits - expected).abs().max()) < 0.05 * float(expected.abs().max())
    assert set(optimized.run.programs) == {(1, 3, 64, 96), (2, 3, 70, 89)}


@pytest.mark.slow
def test_the_compiler_packs_the_weights() -> None:
    """What makes a compiled network fast on a CPU, and what torch leaves out in silence where it is asked wrongly."""
    optimized = Optimize(dtype="float32")(built("resnet18", "jpu", "fcn"))
    image = torch.randn(1, 3, 128, 128)
    for _ in range(2):
        optimized(image)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        optimized(image)
    called = {event.key for event in profile.key_averages()}
    assert [name for name in called if name.startswith("mkldnn::_convolution_pointwise")]
    assert not [name for name in called if "slow_conv" in name or "batch_norm" in name]
