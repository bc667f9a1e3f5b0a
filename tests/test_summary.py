import copy

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from fastfcn.summary import summarise
from fastfcn.types import HeadOutput, Pyramid


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=4, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, image: Tensor) -> Pyramid:
        c2 = self.norm(self.conv(image))
        return Pyramid(c2, c2, c2, c2)


class Head(nn.Module):
    def __init__(self, level: str) -> None:
        super().__init__()
        self.level = level
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Conv2d(8, 5, 1)

    def forward(self, pyramid: Pyramid) -> HeadOutput:
        return HeadOutput(self.classifier(self.dropout(self.depthwise(getattr(pyramid, self.level)))))


class Upsample(nn.Module):
    def forward(self, pyramid: Pyramid) -> Pyramid:
        return pyramid


class Model(nn.Module):
    def __init__(self, *, aux: bool = True) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.upsample = Upsample()
        self.head = Head("c5")
        self.aux_head = Head("c4") if aux else None


def test_costs_are_those_of_pencil_and_paper() -> None:
    summary = summarise(Model(), image_size=(64, 32))
    pixels = 16 * 8  # the only level has stride 4
    backbone = 2 * pixels * 8 * 3 * 9 / 1e9
    head = 2 * pixels * (8 * 9 + 8 * 5) / 1e9
    assert tuple(summary.parts["backbone"]) == pytest.approx((3 * 8 * 9 + 16, backbone))
    assert summary.parts["upsample"] == (0, 0.0)
    assert tuple(summary.parts["head"]) == pytest.approx((8 * 9 + 8 * 5 + 5, head))
    assert summary.parts["aux_head"] == summary.parts["head"]
    assert summary.inference.parameters == summary.parts["backbone"].parameters + summary.parts["head"].parameters
    assert summary.inference.gflops == pytest.approx(backbone + head)


def test_model_without_auxiliary_head() -> None:
    summary = summarise(Model(aux=False), image_size=(32, 32))
    assert "aux_head" not in summary.parts
    assert "aux_head" not in summary.as_dict()


def test_summary_has_no_side_effects() -> None:
    model = Model().train()
    model.head.eval()
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    pointers = [value.data_ptr() for value in model.parameters()]
    random_state = torch.get_rng_state()
    summarise(model, image_size=(32, 32))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [module.training for module in model.modules()] == modes
    assert [value.data_ptr() for value in model.parameters()] == pointers
    assert all(value.grad is None for value in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_table_and_dict_show_every_part() -> None:
    summary = summarise(Model(), image_size=(512, 480))
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(summary.table())
    text = console.export_text()
    for word in ("backbone", "upsample", "head", "aux_head", "inference", "512 x 480", "GFLOPs"):
        assert word in text
    plain = summary.as_dict()
    assert plain["image_size"] == [512, 480]
    assert plain["inference"]["parameters"] == summary.inference.parameters
