"""Golden vectors of the official code: its weights, rebuilt from their names, under this project's names."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GOLDENS = Path(__file__).parent / "goldens"

Renames = list[tuple[str, str]]


def _arm(official: str, ours: str) -> Renames:
    return [
        (f"{official}0.conv1.", f"{ours}0.depthwise."),
        (f"{official}0.bn.", f"{ours}0.norm."),
        (f"{official}0.pointwise.", f"{ours}0.pointwise."),
        (f"{official}1.", f"{ours}1."),
    ]


def _joint(official: str, ours: str) -> Renames:
    arms = [pair for i in (1, 2, 3) for pair in _arm(f"{official}dilation{i}.", f"{ours}arms.{i - 1}.")]
    return [(f"{official}conv_l.", f"{ours}embed_low."), (f"{official}conv_h.", f"{ours}embed_high."), *arms]


#: Official prefix -> ours; the first that fits is taken.
COMMON: Renames = [
    ("pretrained.", "backbone."),
    ("auxlayer.conv5.0.", "aux_head.block.0."),
    ("auxlayer.conv5.1.", "aux_head.block.1."),
    ("auxlayer.conv5.4.", "aux_head.classify.1."),
]
HEADS: Mapping[str, Renames] = {
    "encnet": [
        ("head.conv5.", "head.squeeze."),
        ("head.encmodule.encoding.0.", "head.context.project.0."),
        ("head.encmodule.encoding.1.", "head.context.project.1."),
        ("head.encmodule.encoding.3.", "head.context.encoding."),
        ("head.encmodule.encoding.4.", "head.context.norm."),
        ("head.encmodule.fc.0.", "head.context.gate."),
        ("head.encmodule.selayer.", "head.context.presence."),
        ("head.conv6.1.", "head.classify.1."),
    ],
    "psp": [
        *[(f"head.conv5.0.conv{i}.", f"head.branches.{i - 1}.") for i in (1, 2, 3, 4)],
        ("head.conv5.1.", "head.block.0."),
        ("head.conv5.2.", "head.block.1."),
        ("head.conv5.5.", "head.classify.1."),
    ],
    "deeplab": [
        *[(f"head.aspp.b{i}.", f"head.branches.{i}.") for i in (0, 1, 2, 3)],
        ("head.aspp.b4.gap.1.", "head.branches.4.project.0."),
        ("head.aspp.b4.gap.2.", "head.branches.4.project.1."),
        ("head.aspp.project.", "head.project."),
        ("head.block.4.", "head.classify.1."),
        ("head.block.", "head.block."),
    ],
}
UPSAMPLERS: Mapping[str, Renames] = {
    "none": [],
    "jpu": [
        *[(f"jpu.conv{i}.", f"upsample.embed{i}.") for i in (3, 4, 5)],
        *[pair for i in (1, 2, 3, 4) for pair in _arm(f"jpu.dilation{i}.", f"upsample.arms.{i - 1}.")],
    ],
    "jpu_x": [*_joint("jpu.jum_1.", "upsample.upsample4."), *_joint("jpu.jum_2.", "upsample.upsample5.")],
}


def fill(name: str, shape: Sequence[int]) -> Tensor:
    """The value of an entry, a function of its official name and shape (goldens/README.md)."""
    r = np.random.default_rng(zlib.crc32(name.encode()))
    last = name.rsplit(".", 1)[-1]
    value: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    if last == "num_batches_tracked":
        return torch.zeros(tuple(shape), dtype=torch.int64)
    if last == "running_mean" or last == "bias":
        value = 0.1 * r.standard_normal(shape)
    elif last == "running_var":
        value = r.uniform(0.5, 1.5, shape)
    elif last == "scale":
        value = r.uniform(-1, 0, shape)
    elif last == "codewords":
        value = r.uniform(-1, 1, shape).astype(np.float32) / np.sqrt(prod(shape))
    elif last == "weight" and len(shape) == 1:
        value = r.uniform(0.5, 1.0, shape)
    else:
        value = r.standard_normal(shape) * np.sqrt(1 / prod(shape[1:]))
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def state_dict(golden: str) -> dict[str, Tensor]:
    """The weights behind ``goldens/<golden>.npz`` under this project's names; the ImageNet classifier is left out."""
    head, upsample = golden.split("_", 1)[0], golden.split("_resnet")[0].split("_", 1)[1]
    renames = [*COMMON, *HEADS[head], *UPSAMPLERS[upsample]]
    keys: dict[str, list[int]] = json.loads((GOLDENS / f"{golden}.keys.json").read_text())
    state = {}
    for name, shape in keys.items():
        if name.startswith("pretrained.fc."):
            continue
        old, new = next(pair for pair in renames if name.startswith(pair[0]))
        state[new + name.removeprefix(old)] = fill(name, shape)
    return state
