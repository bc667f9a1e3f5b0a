from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file

import fastfcn
from fastfcn.errors import UserError
from fastfcn.models.backbones.resnet import ResNet


def reference(depth: int, *, dilated: bool) -> torchvision.models.ResNet:
    torch.manual_seed(0)
    strides = [False, dilated, dilated]
    return torchvision.models.get_model(f"resnet{depth}", weights=None, replace_stride_with_dilation=strides).eval()


@pytest.mark.parametrize("output_stride", [8, 32])
def test_resnet50_equals_torchvisions(output_stride: int, tmp_path: Path) -> None:
    net = reference(50, dilated=output_stride == 8)
    save_file(net.state_dict(), tmp_path / "resnet50.safetensors")
    ours = ResNet(depth=50, output_stride=output_stride, weights=str(tmp_path / "resnet50.safetensors")).eval()
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        x = net.maxpool(net.relu(net.bn1(net.conv1(image))))
        expected = []
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            expected.append(x)
        for level, theirs in zip(ours(image), expected, strict=True):
            torch.testing.assert_close(level, theirs)


@pytest.mark.parametrize("depth", [18, 50])
def test_dilated_stages_compute_the_plain_ones_positions(depth: int) -> None:
    """Equation 2: a dilated backbone computes the plain one's positions and those in between."""
    plain, dilated = ResNet(depth=depth).eval(), ResNet(depth=depth, output_stride=8).eval()
    dilated.load_state_dict(plain.state_dict())
    c3 = torch.randn(1, plain.out_channels[1], 96, 96)
    with torch.no_grad():
        low = plain.layer4(plain.layer3(c3))
        high = dilated.layer4(dilated.layer3(c3))[..., ::4, ::4]
    middle = (..., slice(8, 16), slice(8, 16))  # the border's padding does not reach so far
    torch.testing.assert_close(low[middle], high[middle], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_travel_by_file(suffix: str, tmp_path: Path) -> None:
    source, path = ResNet(depth=18), tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": source.state_dict()}, path)
    else:
        save_file(source.state_dict(), path)
    loaded = ResNet(depth=18, weights=str(path))
    for name, value in source.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_weights_may_be_named_by_an_override(tmp_path: Path) -> None:
    source, path = ResNet(depth=18), tmp_path / "weights.pth"
    torch.save(source.state_dict(), path)
    model = fastfcn.build_model(backbone="resnet18", num_classes=3, overrides=[f"backbone.weights={path}"])
    assert torch.equal(model.backbone.state_dict()["conv1.weight"], source.conv1.weight)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    def write(name: str, state: object) -> str:
        torch.save(state, tmp_path / name)
        return str(tmp_path / name)

    state = ResNet(depth=18).state_dict()
    cases = {
        write("deep.pth", ResNet(depth=34).state_dict()): "has an entry 'layer1.2.bn1.bias'",
        write("missing.pth", {k: v for k, v in state.items() if k != "conv1.weight"}): "no entry 'conv1.weight'",
        write("shape.pth", {**state, "conv1.weight": torch.zeros(64, 1, 7, 7)}): r"\(64, 1, 7, 7\) in the file",
        write("list.pth", [1, 2]): "no state dict",
    }
    (tmp_path / "torn.pth").write_bytes((tmp_path / "deep.pth").read_bytes()[:5000])
    (tmp_path / "torn.safetensors").write_bytes(b"not weights")
    cases[str(tmp_path / "torn.pth")] = "torn.pth is not a readable weights file"
    cases[str(tmp_path / "torn.safetensors")] = "torn.safetensors is not a readable weights file"
    for path, sentence in cases.items():
        with pytest.raises(UserError, match=sentence):
            ResNet(depth=18, weights=path)


def test_a_hostile_weights_file_runs_nothing(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    torch.save({"conv1.weight": Hostile()}, tmp_path / "hostile.pth")
    with pytest.raises(UserError, match="not a readable weights file"):
        ResNet(depth=18, weights=str(tmp_path / "hostile.pth"))
    assert not (tmp_path / "ran").exists()


def test_without_a_network_the_file_and_the_option_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torchvision.models.ResNet50_Weights, "get_state_dict", refuse)
    with pytest.raises(UserError) as caught:
        ResNet(depth=50, weights="IMAGENET1K_V1")
    url = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.url
    for word in (url, f"backbone.weights=/path/to/{url.rpartition('/')[2]}", "run the command again"):
        assert word in str(caught.value)
