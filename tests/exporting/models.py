"""Models of a few hundred kilobytes, of every upsampler and head."""

from __future__ import annotations

import functools

import torch
from torch import nn

import fastfcn
from fastfcn.models.fastfcn import FastFCN

CLASSES = 5


@functools.cache
def tiny(upsample: str = "jpu", head: str = "encoding") -> FastFCN:
    """With BatchNorm statistics and logits as of a trained model: of no channel zero, of no class all alike."""
    width = [] if upsample in ("none", "bilinear") else [f"upsample.width={16 if upsample == 'jpu_x' else 8}"]
    if upsample == "jpu_x":
        width = ["upsample.width=64"]  # GroupNorm has 32 groups, of half of it
    own = [*width, *(["head.width=16", "head.num_codewords=4"] if head == "encoding" else [])]
    torch.manual_seed(0)
    backbone = "resnet18" if upsample == "none" else "test_efficientnet"  # which cannot be dilated
    model = fastfcn.build_model(backbone=backbone, upsample=upsample, head=head, num_classes=CLASSES, overrides=own)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()
