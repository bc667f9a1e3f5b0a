"""Names of weights that do not exist: the sentence lists those that do, or the nearest ones."""

from __future__ import annotations

import pytest

import fastfcn
from fastfcn.errors import UserError
from tests.data.tiny import is_one_sentence_with


@pytest.mark.parametrize(
    ("backbone", "weights", "words"),
    [
        ("resnet18", "IMAGENET1K_V2", ["backbone.weights=IMAGENET1K_V2", "resnet18 has IMAGENET1K_V1", "a file"]),
        ("resnet18", "default", ["backbone.weights=default", "IMAGENET1K_V1"]),
        ("resnet50s", "DEFAULT", ["none with a deep stem", "a file"]),
        ("resnetv2_50x", None, ["backbone.name=resnetv2_50x", "timm has no such model", "resnetv2_50"]),
        ("convnxt_tiny", None, ["backbone.name=convnxt_tiny", "convnext_tiny"]),
        ("test_efficientnet", "in12k", ["backbone.weights=in12k", "test_efficientnet has r160_in1k"]),
        ("resnet18", "nowhere/weights.pth", ["backbone.weights", "no file nowhere/weights.pth"]),
        ("test_efficientnet", "nowhere.safetensors", ["backbone.weights", "no file nowhere.safetensors"]),
    ],
)
def test_names_that_do_not_exist(backbone: str, weights: str | None, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        fastfcn.build_model(backbone=backbone, weights=weights, num_classes=3)
    is_one_sentence_with(caught.value, words)
