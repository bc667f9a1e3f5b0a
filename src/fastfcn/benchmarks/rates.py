"""What the chip can do, measured in the run that uses it: matrix rate, copy rate, cost of a launch."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import torch

from fastfcn.benchmarks.protocol import Clock, Plan, measure
from fastfcn.models.products import linear, suits

#: Number types that an arm computes its matrix products in, by name. TF32 exists on NVIDIA's GPUs alone.
PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

#: Side of the square matrices, and bytes of the array that is copied, far beyond any cache.
_SIDE = {"cpu": 2048, "cuda": 8192}
_BYTES = {"cpu": 1 << 28, "cuda": 1 << 30}


class Rates(NamedTuple):
    """Measured rates of a device.

    Attributes:
        flops_per_second: of a square matrix product, by precision; the faster of torch's and oneDNN's on a CPU.
        bytes_per_second: of a copy, reading and writing both counted.
        launch_seconds: of the smallest operator, what each costs however little it does.
    """

    flops_per_second: dict[str, float]
    bytes_per_second: float
    launch_seconds: float


def measure_rates(
    precisions: Iterable[str], *, device: torch.device, clock: Clock, plan: Plan, side: int | None = None
) -> Rates:
    """Measure the rates of a device.

    Args:
        precisions: Of which the matrix rate is wanted, names of `PRECISIONS`.
        device: Where.
        clock: Tells the time of a call.
        plan: How often and how long; medians are told.
        side: Of the square matrices; None is large enough for the device's best rate.
    """
    side = side or _SIDE.get(device.type, 2048)
    rates = {}
    with torch.inference_mode():
        for precision in dict.fromkeys(precisions):
            a, b = (torch.randn(side, side, device=device, dtype=PRECISIONS[precision]) for _ in range(2))
            out = torch.empty_like(a)
            # On some processors torch's own product is far from what the chip can: oneDNN's counts where it is faster.
            ways = {"torch": partial(torch.mm, a, b, out=out)} | ({"oneDNN": partial(linear, a, b)} if suits(a) else {})
            with tf32(precision == "tf32"):
                times = measure(ways, plan, clock)
            rates[precision] = 2 * side**3 / (min(time.median for time in times.values()) / 1000)
        size = _BYTES.get(device.type, 1 << 28) if side >= 2048 else side * side
        source = torch.zeros(size, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        copied = measure({"": lambda: target.copy_(source)}, plan, clock)[""]
        one = torch.zeros(1, device=device)

        def many() -> None:
            for _ in range(1000):
                one.add_(1.0)

        launched = measure({"": many}, plan, clock)[""]
    return Rates(rates, 2 * size / (copied.median / 1000), launched.median / 1000 / 1000)


class tf32:  # noqa: N801
    """Let float32 convolutions and matrix products use TF32 on a GPU, or not, for a while.

    Args:
        allowed: Whether they may.
    """

    def __init__(self, allowed: bool) -> None:
        self._allowed = allowed

    def __enter__(self) -> None:
        self._before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self._allowed

    def __exit__(self, *_: object) -> None:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self._before
