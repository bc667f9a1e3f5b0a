"""Every option of every group composes, builds, and runs forward and backward."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch

import fastfcn
from fastfcn.checkpoint import config_dir
from fastfcn.errors import UserError
from fastfcn.losses import SegmentationLoss

# Neither side is a multiple of 32, or of 8.
SIZE = (70, 89)
UPSAMPLERS = sorted(path.stem for path in (config_dir() / "upsample").glob("*.yaml"))
HEADS = sorted(path.stem for path in (config_dir() / "head").glob("*.yaml"))
#: Of the upsamplers that came after the paper one backbone tells the channels' way: their frames are FPN's and JPU's.
LATER = ("bilinear_skip", "carafe", "dysample", "guided", "sapa")
BACKBONES = sorted(path.stem for path in (config_dir() / "backbone").glob("*.yaml"))


def check_trains(backbone: str, upsample: str, head: str, *overrides: str) -> None:
    """One training step: shapes at image size, every parameter gets a finite gradient."""
    torch.manual_seed(0)
    model = fastfcn.build_model(backbone=backbone, upsample=upsample, head=head, num_classes=5, overrides=overrides)
    image = torch.randn(2, 3, *SIZE)
    mask = torch.randint(-1, 5, (2, *SIZE))
    output = model.train()(image)
    assert output.logits.shape == (2, 5, *SIZE)
    assert output.aux is not None
    assert output.aux.shape == (2, 5, *SIZE)
    assert (output.presence is not None) == (head == "encoding")
    torch.stack(list(SegmentationLoss()(output, mask).values())).sum().backward()
    for name, parameter in model.named_parameters():
        # An unused parameter stops DDP: "Expected to have finished reduction".
        assert parameter.grad is not None, f"{name} has no gradient"
        assert parameter.grad.isfinite().all(), name
    with torch.no_grad():
        assert model.eval()(image).aux is None
    levels = model.upsample(model.backbone(image))
    assert [level.shape[1] for level in levels] == list(model.upsample.out_channels)
    assert levels.c5.shape[-2:] == (9, 12)  # stride 8, whatever the upsampler


@pytest.mark.parametrize(("upsample", "head"), list(product(UPSAMPLERS, HEADS)))
def test_every_upsampler_with_every_head(upsample: str, head: str) -> None:
    check_trains("resnet18", upsample, head)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "upsample"),
    [pair for pair in product(BACKBONES, UPSAMPLERS) if pair[1] not in LATER or pair[0] == "timm"],
)
def test_every_backbone_with_every_upsampler(backbone: str, upsample: str) -> None:
    # timm's own name is a key of the group; this one is quick and can be dilated.
    overrides = ["backbone.name=resnet26d"] if backbone == "timm" else []
    check_trains(backbone, upsample, "encoding", *overrides)


@pytest.mark.parametrize("name", ["convnext_atto", "mobilenetv3_small_100", "swin_tiny_patch4_window7_224"])
def test_timm_models_with_jpu(name: str) -> None:
    # Swin takes one size; the pyramid of every model must be NCHW.
    size = (224, 224) if name.startswith("swin") else SIZE
    model = fastfcn.build_model(backbone=name, upsample="jpu", num_classes=5).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, *size)).logits.shape == (1, 5, *size)


def test_dilated_pyramid_of_timm() -> None:
    model = fastfcn.build_model(backbone="convnext_atto", upsample="none", num_classes=5).eval()
    with torch.no_grad():
        strides = [64 // level.shape[-1] for level in model.backbone(torch.randn(1, 3, 64, 64))]
    assert strides == [4, 8, 8, 8]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"backbone": "swin_tiny_patch4_window7_224", "upsample": "none"}, "cannot be dilated.*choose upsample=jpu"),
        ({"backbone": "vit_tiny_patch16_224"}, "gives feature maps at strides .*choose a hierarchical model"),
        ({"backbone": "resnet5"}, "timm has no such model"),
        ({"upsample": "jpv"}, "Could not find 'upsample/jpv': choose one of .*jpu"),
        ({"head": "psp2"}, "Could not find 'head/psp2': choose one of .*psp"),
        ({"overrides": ["output_stride=8"]}, "contradicts the upsampler JPU"),
        ({"upsample": "none", "overrides": ["output_stride=32"]}, "contradicts the upsampler NoUpsample"),
        ({"upsample": "none", "overrides": ["backbone.output_stride=16"]}, "output_stride=16: choose 8"),
        ({"overrides": ["upsample.widht=3"]}, "upsample.widht"),
        ({"overrides": ["+upsample.widht=3"]}, "widht"),
        ({"num_classes": 1}, "at least 2"),
        ({"backbone": "resnet18", "overrides": ["backbone.stem=deep"]}, "deep with depth 50"),
        ({"weights": "nowhere.safetensors"}, "no file nowhere.safetensors"),
        ({"weights": "IMAGENET9"}, "resnet50 has IMAGENET1K_V1, IMAGENET1K_V2"),
        ({"backbone": "resnet50s", "weights": "IMAGENET1K_V1"}, "none with a deep stem"),
    ],
)
def test_what_cannot_be_built_is_refused_with_a_sentence(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        fastfcn.build_model(**arguments)
    assert "\n" not in str(error.value)
