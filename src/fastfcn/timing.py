"""How long functions take, compared fairly in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from fastfcn.errors import UserError


class Latency(NamedTuple):
    """Wall-clock time of one call, milliseconds, and the number of calls that it was measured on."""

    median: float
    p10: float
    p90: float
    repeats: int


def latency(
    arms: Mapping[str, Callable[[], object]],
    *,
    warmup: int,
    repeats: int,
    device: torch.device | str = "cpu",
) -> dict[str, Latency]:
    """Measures the wall-clock time of several functions side by side.

    The arms take turns (A B C, A B C, ...), so that a machine that grows slower or busier meanwhile, or a clock that
    changes with heat, hits all of them alike. A device that works asynchronously is waited for before and after each
    call: the time holds the launch of the work and the work itself, and none of the arm before.

    Args:
        arms: Functions without arguments by name. They decide on precision and gradients themselves.
        warmup: Rounds that are not measured: they load kernels, choose algorithms and compile.
        repeats: Rounds that are measured.
        device: Where the arms compute.

    Raises:
        UserError: ``warmup`` is negative or ``repeats`` is below 1.
    """
    if warmup < 0 or repeats < 1:
        raise UserError(f"timing needs warmup >= 0 and repeats >= 1, got warmup={warmup} and repeats={repeats}")
    wait = _waiter(torch.device(device))
    times: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(warmup + repeats):
        for name, call in arms.items():
            wait()
            start = time.perf_counter()
            call()
            wait()
            elapsed = time.perf_counter() - start
            if turn >= warmup:
                times[name].append(1000 * elapsed)
    return {name: _statistics(values) for name, values in times.items()}


def _waiter(device: torch.device) -> Callable[[], None]:
    """A function that returns once all work given to the device is done."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    if device.type == "mps":
        return torch.mps.synchronize
    return lambda: None


def _statistics(milliseconds: list[float]) -> Latency:
    p10, median, p90 = np.percentile(milliseconds, [10, 50, 90])
    return Latency(median=float(median), p10=float(p10), p90=float(p90), repeats=len(milliseconds))
