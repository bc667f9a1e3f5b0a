"""Checkpoints of mmsegmentation's FastFCN: outputs agree with a restatement of its forward; what differs is refused."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fastfcn
from fastfcn.checkpoint import model_from_checkpoint
from fastfcn.conversion import convert
from fastfcn.data import ade20k
from fastfcn.errors import UserError
from fastfcn.inference import SlidingWindow
from fastfcn.mmseg_names import CITYSCAPES
from fastfcn.official import read_official
from tests.data.tiny import is_one_sentence_with
from tests.weights import mmseg

State = dict[str, Tensor]

#: PSP's bins are a quarter of JPU's channels wide in both; all else may be narrow.
WIDTHS = {"psp": (16, 16), "aspp": (12, 8), "enc": (12, 24)}


@functools.cache
def net(head: str) -> mmseg.EncoderDecoder:
    width, channels = WIDTHS[head]
    return mmseg.EncoderDecoder(head, classes=19, width=width, channels=channels)


def write(path: Path, state: State, **meta: Any) -> Path:
    torch.save({"meta": {"mmseg_version": "0.18.0", "epoch": 215, "iter": 80000, **meta}, "state_dict": state}, path)
    return path


@pytest.mark.parametrize("head", ["psp", "aspp", "enc"])
def test_outputs_agree(head: str, tmp_path: Path) -> None:
    theirs = net(head)
    path = write(tmp_path / "fastfcn.pth", dict(theirs.state_dict()), config=mmseg.CONFIG)
    ours = fastfcn.load_official(path)
    image = torch.randn(2, 3, 90, 132, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits, aux, presence = theirs(image)
        out = ours(image)
        coarse = ours(image, full_size=False)
        assert ours.aux_head is not None
        own_aux = ours.aux_head(ours.backbone(image)).logits
    assert logits.std() > 0.01  # of outputs that say something
    for mine, other in (
        (out.logits, logits),
        (coarse.logits, logits),  # who enlarges later would do it as the paper's code
        (torch.nn.functional.interpolate(own_aux, size=(90, 132), mode="bilinear", align_corners=False), aux),
    ):
        assert (mine - other).abs().max() < 2e-5 * other.abs().max()
    assert (out.presence is None) == (presence is None)
    if presence is not None:
        torch.testing.assert_close(out.presence, presence, rtol=1e-4, atol=1e-5)
    assert not ours.align_corners


def test_windows_see_the_same(tmp_path: Path) -> None:
    """An evaluation asks for logits at the head's resolution and enlarges them; such a model enlarges its own."""
    path = write(tmp_path / "fastfcn.pth", dict(net("psp").state_dict()))
    model = fastfcn.load_official(path)
    window = SlidingWindow(scales=(1.0,), flip=True, base_size=96, crop_size=96, fusion="softmax")
    image = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        scores = window(model, image)
        plain = model(image).logits.softmax(1)
        turned = model(image.flip(3)).logits.flip(3).softmax(1)
    torch.testing.assert_close(scores, (plain + turned) / 2, rtol=1e-4, atol=1e-6)


def test_as_a_checkpoint_of_this_project(tmp_path: Path) -> None:
    path = write(tmp_path / "fastfcn.pth", dict(net("aspp").state_dict()))
    converted = convert(ckpt_path=None, official=str(path), to="safetensors")
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(fastfcn.load_model(converted)(image).logits, fastfcn.load_official(path)(image).logits)
    with pytest.raises(UserError, match="is a model that the original code does not have"):
        convert(ckpt_path=str(converted), official=None, to="official")


def test_the_configuration_of_a_training_builds_the_same_model(tmp_path: Path) -> None:
    """What docs/weights.md says to begin a training with these weights."""
    checkpoint = read_official(write(tmp_path / "a.pth", dict(net("psp").state_dict())))
    model = fastfcn.build_model(
        backbone="resnet50s",
        head="psp",
        num_classes=19,
        overrides=[
            "backbone.stem=resnet_c",
            "backbone.dilate=true",
            "upsample.width=16",
            "upsample.align_corners=false",
            "head.align_corners=false",
            "model.align_corners=false",
        ],
    )
    assert str(model) == str(model_from_checkpoint(checkpoint))
    assert {name: value.shape for name, value in model.state_dict().items()} == {
        name: value.shape for name, value in checkpoint.weights.items()
    }


def test_classes(tmp_path: Path) -> None:
    state = dict(net("psp").state_dict())
    assert read_official(write(tmp_path / "a.pth", state)).facts == CITYSCAPES
    names = [f"n{index}" for index in range(19)]
    told = write(tmp_path / "b.pth", state, CLASSES=names, PALETTE=[[index, 0, 0] for index in range(19)])
    assert read_official(told).facts.class_names == tuple(names)
    newer = write(tmp_path / "c.pth", state, dataset_meta={"classes": CITYSCAPES.class_names, "palette": []})
    assert read_official(newer).facts == CITYSCAPES
    wide = {**state, "decode_head.conv_seg.weight": torch.zeros(150, 16, 1, 1)}
    wide |= {"decode_head.conv_seg.bias": torch.zeros(150), "auxiliary_head.conv_seg.bias": torch.zeros(150)}
    wide["auxiliary_head.conv_seg.weight"] = torch.zeros(150, 256, 1, 1)
    assert read_official(write(tmp_path / "d.pth", wide)).facts.class_names == ade20k.CLASS_NAMES


def without(prefix: str) -> Callable[[State], State]:
    return lambda state: {name: value for name, value in state.items() if not name.startswith(prefix)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("neck."), ["no entry neck.conv_layers.0.0.conv.weight", "JPU neck"]),
        (without("backbone.stem."), ["no entry backbone.stem.0.weight", "ResNetV1c"]),
        (without("decode_head.psp_modules."), ["no entry", "decode_head.psp_modules.0.1.conv.weight"]),
        (without("decode_head.conv_seg.weight"), ["no entry decode_head.conv_seg.weight"]),
        (without("decode_head.bottleneck."), ["no entry decode_head.bottleneck.conv.weight"]),
        (without("backbone.layer3.5."), ["5 blocks in backbone.layer3"]),
        (
            lambda state: {**state, "decode_head.lateral_convs.0.conv.weight": torch.zeros(1)},
            ["lateral connections (decode_head.lateral_convs.0.conv.weight)"],
        ),
        (lambda state: {**state, "decode_head.extra": torch.zeros(1)}, ["decode_head.extra", "no place for"]),
        (
            lambda state: {**state, "neck.dilation_layers.1.0.depthwise_conv.bn.weight": torch.zeros(5)},
            ["neck.dilation_layers.1.0.depthwise_conv.bn.weight is (5,)", "needs (48,)"],
        ),
    ],
)
def test_what_does_not_fit_is_named(change: Callable[[State], State], words: list[str], tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", change(dict(net("psp").state_dict())))
    with pytest.raises(UserError) as caught:
        fastfcn.load_official(path)
    is_one_sentence_with(caught.value, [str(path), *words])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("dilations=(1, 1, 2, 4)", "dilations=(1, 1, 1, 1)", ["backbone.dilations=(1, 1, 1, 1)", "(1, 1, 2, 4)"]),
        ("contract_dilation=True", "norm_eval=True", ["backbone.contract_dilation=False"]),
        ("mid_channels=512, dilations=(1, 2, 4, 8), align_corners=False", "align_corners=True", ["neck.align_corners"]),
        ("pool_scales=(1, 2, 3, 6)", "pool_scales=(1, 2, 4, 8)", ["decode_head.pool_scales=(1, 2, 4, 8)"]),
        ("in_index=1", "in_index=0", ["auxiliary_head.in_index=0"]),
        ("model = dict(", "model = 5 + dict(", ["cannot be read"]),
        ("model = dict(", "model = dict((", ["cannot be read"]),
    ],
)
def test_other_options_are_refused(old: str, new: str, words: list[str], tmp_path: Path) -> None:
    assert mmseg.CONFIG.count(old) == 1
    path = write(tmp_path / "a.pth", dict(net("psp").state_dict()), config=mmseg.CONFIG.replace(old, new))
    with pytest.raises(UserError) as caught:
        fastfcn.load_official(path)
    is_one_sentence_with(caught.value, [str(path), *words])


def test_a_bare_state_dict_and_one_of_an_older_torch(tmp_path: Path) -> None:
    state = {name: value for name, value in net("enc").state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "bare.pth")
    assert fastfcn.load_official(tmp_path / "bare.pth").num_classes == 19
