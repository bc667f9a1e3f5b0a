"""What a prediction of each model costs: parameters, operations, and time measured side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from fastfcn.models.fastfcn import FastFCN
from fastfcn.summary import summarise
from fastfcn.timing import Latency, latency

#: A median of fewer rounds says nothing.
LEAST_ROUNDS = 3


class Costs(NamedTuple):
    """Of one model's prediction for one image.

    Attributes:
        parameters: of the parts that a prediction uses.
        gflops: 1e9 floating-point operations, a multiply-add counting as two.
        latency: wall-clock time in milliseconds; None where it was not asked for.
        memory_gib: the GPU's peak during a prediction, the model's own weights among it; None on a CPU.
    """

    parameters: int
    gflops: float
    latency: Latency | None = None
    memory_gib: float | None = None


def count(models: Mapping[str, FastFCN], image: Tensor) -> list[Costs]:
    """Parameters and operations of each model's prediction of one image (1, 3, H, W)."""
    counted = (summarise(model, image_size=(image.shape[2], image.shape[3])).inference for model in models.values())
    return [Costs(parameters, gflops) for parameters, gflops in counted]


def timed(
    models: Mapping[str, FastFCN], image: Tensor, *, warmup: int, repeats: int, seconds: float
) -> tuple[dict[str, Latency], int]:
    """Time the prediction of one image by each model; the models take turns.

    Args:
        models: in evaluation mode, on the device and in the memory layout of ``image``.
        image: (1, 3, H, W).
        warmup: rounds that are not measured.
        repeats: rounds that are measured.
        seconds: where these would take longer, fewer rounds are measured, but three at least.

    Returns:
        By name, the number of rounds told in each; and how many rounds were not measured.

    Raises:
        UserError: ``warmup`` or ``repeats`` make no sense.
    """

    def arm(model: FastFCN) -> Callable[[], object]:
        def predict() -> object:
            with torch.inference_mode():
                return model(image)

        return predict

    arms = {name: arm(model) for name, model in models.items()}
    if warmup == 0 or repeats <= LEAST_ROUNDS:
        return latency(arms, warmup=warmup, repeats=repeats, device=image.device), warmup
    # the first round loads kernels and tells nothing; how long a round takes shows in the second
    latency(arms, warmup=0, repeats=1, device=image.device)
    probe = latency(arms, warmup=0, repeats=1, device=image.device)
    round_seconds = sum(taken.median for taken in probe.values()) / 1000
    more = max(warmup - 2, 0)
    if round_seconds * repeats > seconds:
        repeats, more = max(LEAST_ROUNDS, int(seconds / round_seconds)), 0
    return latency(arms, warmup=more, repeats=repeats, device=image.device), 2 + more


def peak_memory(model: FastFCN, image: Tensor) -> float | None:
    """The GPU's peak during a prediction, GiB, without what other models hold there; None on a CPU."""
    if image.device.type != "cuda":
        return None
    own = sum(value.numel() * value.element_size() for value in (*model.parameters(), *model.buffers()))
    held = torch.cuda.memory_allocated(image.device)
    torch.cuda.reset_peak_memory_stats(image.device)
    with torch.inference_mode():
        model(image)
    torch.cuda.synchronize(image.device)
    return (torch.cuda.max_memory_allocated(image.device) - held + own) / 2**30
