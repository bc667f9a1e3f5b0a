"""What a prediction of each model costs: parameters, operations, and time measured side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from fastfcn.models.fastfcn import FastFCN
from fastfcn.summary import summarise
from fastfcn.timing import Latency, latency


class Costs(NamedTuple):
    """Of one model's prediction for one image.

    Attributes:
        parameters: of the parts that a prediction uses.
        gflops: 1e9 floating-point operations, a multiply-add counting as two.
        latency: wall-clock time in milliseconds.
        output_stride: of the backbone.
    """

    parameters: int
    gflops: float
    latency: Latency
    output_stride: int


def measure(models: Mapping[str, FastFCN], image: Tensor, *, warmup: int, repeats: int) -> list[Costs]:
    """Count and time the prediction of one image by each model; the models take turns.

    Args:
        models: in evaluation mode, on the device and in the memory layout of ``image``.
        image: (1, 3, H, W).
        warmup: rounds that are not measured.
        repeats: rounds that are measured.

    Raises:
        UserError: ``warmup`` or ``repeats`` make no sense.
    """

    def arm(model: FastFCN) -> Callable[[], object]:
        def predict() -> object:
            with torch.inference_mode():
                return model(image)

        return predict

    arms = {name: arm(model) for name, model in models.items()}
    timed = latency(arms, warmup=warmup, repeats=repeats, device=image.device)
    costs = []
    for name, model in models.items():
        parameters, gflops = summarise(model, image_size=(image.shape[2], image.shape[3])).inference
        costs.append(Costs(parameters, gflops, timed[name], int(model.backbone.output_stride)))  # type: ignore[arg-type]
    return costs
