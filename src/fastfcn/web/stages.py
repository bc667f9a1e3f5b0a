"""Where a model's time goes: backbone, upsampler, head, and the resize of its logits to the image."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from fastfcn.models.fastfcn import FastFCN
from fastfcn.models.layers import resize
from fastfcn.timing import Latency, latency
from fastfcn.types import UInt8Array

STAGES = ("backbone", "upsample", "head", "resize")

#: Rounds that are measured, at most.
ROUNDS = 10

_Arm = Callable[[], None]


def time_stages(models: Mapping[str, FastFCN], image: Tensor, *, seconds: float) -> dict[str, dict[str, Latency]]:
    """Time each stage of some models on one image; stages and models take turns.

    Args:
        models: by name, in evaluation mode, on the image's device.
        image: (1, 3, H, W).
        seconds: the rounds are as many as fit, by a first one that is not measured; one at least, `ROUNDS` at most.

    Returns:
        By model, then by the stages of `STAGES`.
    """
    arms: dict[str, _Arm] = {}
    for name, model in models.items():
        arms |= {f"{stage} {name}": arm for stage, arm in _arms(model, image).items()}
    first = latency(arms, warmup=0, repeats=1, device=image.device)
    once = sum(one.median for one in first.values()) / 1000
    rounds = max(1, min(ROUNDS, int(seconds / max(once, 1e-6))))
    times = latency(arms, warmup=0, repeats=rounds, device=image.device)
    return {name: {stage: times[f"{stage} {name}"] for stage in STAGES} for name in models}


def as_input(image: UInt8Array, device: torch.device) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32, on a device; not normalised, for no time depends on values."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device)
    return (pixels.permute(2, 0, 1)[None].float() / 255).contiguous(memory_format=torch.channels_last)


def _arms(model: FastFCN, image: Tensor) -> dict[str, _Arm]:
    """A function for each stage, to be called in order: it takes what the one before has left."""
    left: dict[str, object] = {"image": image}

    def step(taken: str, given: str, stage: Callable[..., object]) -> None:
        with torch.inference_mode():
            left[given] = stage(left[taken])

    return {
        "backbone": functools.partial(step, "image", "pyramid", model.backbone),
        "upsample": functools.partial(step, "pyramid", "upsampled", model.upsample),
        "head": functools.partial(step, "upsampled", "output", model.head),
        "resize": functools.partial(step, "output", "logits", lambda output: resize(output.logits, image.shape[-2:])),
    }
