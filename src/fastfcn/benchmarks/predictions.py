"""The forms of a model in which its predictions are timed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastfcn.benchmarks.arms import autocast
from fastfcn.benchmarks.plain import plain
from fastfcn.benchmarks.rates import tf32
from fastfcn.models.fastfcn import FastFCN
from fastfcn.optimize import Optimize, Optimized

#: image (B, 3, H, W) -> logits (B, C, H, W), without gradients.
Predict = Callable[[Tensor], Tensor]

#: All switches of `fastfcn.optimize.Optimize`, off.
OFF: Mapping[str, Any] = {
    "drop_branches": False, "fold_bn": False, "channels_last": False, "commute": False, "winograd": False,
    "onednn": False, "depthwise": False, "compile": False, "cuda_graphs": False, "dtype": "float32",
}  # fmt: skip


class Made(NamedTuple):
    """A prediction that is ready to be timed.

    Attributes:
        predict: what is timed.
        eager: the same computation in eager torch, where its operators do not show in `predict`; None: they do.
    """

    predict: Predict
    eager: Predict | None = None


def logits_of(model: Callable[[Tensor], Any]) -> Predict:
    """A prediction without gradients, whatever the model gives."""

    def predict(image: Tensor) -> Tensor:
        with torch.no_grad():  # inference mode hides composed operators from the counter
            out = model(image)
            logits: Tensor = out if isinstance(out, Tensor) else out.logits
            return logits

    return predict


def plainly(model: FastFCN, _: Tensor) -> Made:
    """The plain formulation."""
    return Made(logits_of(plain(model)))


def channels_last(model: FastFCN, _: Tensor, *, full_size: bool = True) -> Made:
    """The model as it is, in NHWC memory."""
    twin = copy.deepcopy(model).to(memory_format=torch.channels_last)
    return Made(logits_of(lambda image: twin(image.contiguous(memory_format=torch.channels_last), full_size=full_size)))


def mixed(model: FastFCN, image: Tensor, *, full_size: bool = True) -> Made:
    """The same under autocast to bfloat16."""
    inner = channels_last(model, image, full_size=full_size).predict

    def predict(image: Tensor) -> Tensor:
        with autocast("bfloat16", image.device):
            return inner(image)

    return Made(predict)


def with_tf32(model: FastFCN, image: Tensor) -> Made:
    """The same, its float32 products in TF32."""
    inner = channels_last(model, image).predict

    def predict(image: Tensor) -> Tensor:
        with tf32(True):
            return inner(image)

    return Made(predict)


def optimized(model: FastFCN, switches: Mapping[str, Any], *, full_size: bool = True) -> Optimized:
    """A copy of the model as `fastfcn.optimize` rewrites it; what is not named is off."""
    return Optimize(**{**OFF, **switches})(model, full_size=full_size)
