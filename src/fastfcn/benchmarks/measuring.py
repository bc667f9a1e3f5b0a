"""From arms to figures: agreement first, then time, memory, and how near the chip's limits each comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from fastfcn import heap
from fastfcn.benchmarks.arms import Arm
from fastfcn.benchmarks.memory import Peak, peak_memory
from fastfcn.benchmarks.operators import Shares, count, roofline
from fastfcn.benchmarks.protocol import Clock, Plan, Timing, measure
from fastfcn.benchmarks.rates import Rates
from fastfcn.exporting.comparison import Agreement


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was found about an arm.

    Attributes:
        name: of the arm.
        precision: of its matrix products.
        timing: None where it was not timed, for the reason in `note`.
        peak: None likewise.
        gflops: 1e9 operations of convolutions and matrix products in a call.
        gigabytes: 1e9 bytes that its operators read and write, each input and output once.
        shares: the op-by-op roofline.
        launches: seconds that its operators cost by being called at all: their number times the smallest's time.
        agreement: with the reference; None where there is nothing to compare.
        items: images of a call.
        rates: of the device.
        note: why it was not timed.
        facts: the arm's own.
    """

    name: str
    precision: str
    timing: Timing | None
    peak: Peak | None
    gflops: float | None = None
    gigabytes: float | None = None
    shares: Shares | None = None
    launches: float | None = None
    agreement: Agreement | None = None
    items: int = 1
    rates: Rates | None = None
    note: str = ""
    facts: dict[str, object]

    @property
    def seconds(self) -> float | None:
        """Median time of a call."""
        return None if self.timing is None else self.timing.median / 1000

    @property
    def per_second(self) -> float | None:
        """Images per second, by the median."""
        return None if self.seconds is None else self.items / self.seconds

    @property
    def flop_share(self) -> float | None:
        """Operations per second over the matrix rate."""
        if self.seconds is None or self.gflops is None or self.rates is None:
            return None
        return 1e9 * self.gflops / self.seconds / self.rates.flops_per_second[self.precision]

    @property
    def byte_share(self) -> float | None:
        """Bytes per second over the copy rate."""
        if self.seconds is None or self.gigabytes is None or self.rates is None:
            return None
        return 1e9 * self.gigabytes / self.seconds / self.rates.bytes_per_second

    @property
    def roofline_share(self) -> float | None:
        """The op-by-op roofline's time over the measured time; fusing operators can bring it above 1."""
        return None if self.seconds is None or self.shares is None else self.shares.total / self.seconds

    @property
    def bound(self) -> str | None:
        """What takes the largest part of the time by the rates: arithmetic, bytes or launches."""
        if self.shares is None or self.launches is None or self.shares.total == 0:
            return None
        parts = {"arithmetic": self.shares.arithmetic, "bytes": self.shares.bytes, "launches": self.launches}
        return max(parts, key=lambda name: parts[name])

    def renamed(self, name: str) -> Measured:
        """The same under another name."""
        return replace(self, name=name)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file; times in milliseconds, memory in MiB."""
        rate = {
            "gflops_per_second": None if self.seconds is None or self.gflops is None else self.gflops / self.seconds,
            "share_of_matrix_rate": self.flop_share,
            "gigabytes_per_second": (
                None if self.seconds is None or self.gigabytes is None else self.gigabytes / self.seconds
            ),
            "share_of_copy_rate": self.byte_share,
        }
        return {
            "name": self.name,
            "precision": self.precision,
            "milliseconds": None if self.timing is None else self.timing._asdict(),
            "items": self.items,
            "per_second": self.per_second,
            "peak_memory_mib": None if self.peak is None else self.peak._asdict(),
            "gflops": self.gflops,
            "gigabytes": self.gigabytes,
            **rate,
            "roofline": None if self.shares is None else {**self.shares._asdict(), "share": self.roofline_share},
            "launch_seconds": self.launches,
            "bound_by": self.bound,
            "agreement": None if self.agreement is None else self.agreement._asdict(),
            "note": self.note,
            **self.facts,
        }


def measure_arms(
    arms: Sequence[Arm], *, device: torch.device, plan: Plan, clock: Clock, rates: Rates, memory: bool = True
) -> list[Measured]:
    """Compare, count, time and weigh arms, interleaved in one run.

    An arm in float32 whose output is another is not timed: it computes something else. One of fewer bits is timed, and
    its agreement told.

    Args:
        arms: They take turns in this order, those that keep the heap behind the others.
        device: Where they compute.
        plan: How often and how long.
        clock: Tells the time of a call.
        rates: Of the device, of every arm's precision.
        memory: Whether peaks are wanted: one or two more calls of each.
    """
    agreements = {arm.name: arm.check() for arm in arms if arm.check is not None}
    refused = {
        arm.name: f"not timed: its output differs from the reference by {agreements[arm.name].error:.1e}"
        for arm in arms
        if arm.precision == "float32" and arm.name in agreements and not agreements[arm.name].fine
    }
    chosen = [arm for arm in arms if arm.name not in refused]
    within = {arm.name: heap.kept for arm in chosen if arm.kept_heap and heap.possible()}
    # Those of one setting have their turns one behind the other: it changes twice in a round.
    calls = {arm.name: arm.call for arm in sorted(chosen, key=lambda arm: arm.name in within)}
    timings = measure(calls, plan, clock, within=within)
    found = []
    for arm in arms:
        if arm.name in refused:
            found.append(_untimed(arm, agreements[arm.name], refused[arm.name]))
            continue
        operators = count(arm.eager or arm.call)
        shares = roofline(
            operators,
            flops_per_second=rates.flops_per_second[arm.precision],
            bytes_per_second=rates.bytes_per_second,
        )
        found.append(
            Measured(
                name=arm.name,
                precision=arm.precision,
                timing=timings[arm.name],
                peak=peak_memory(arm.call, device=device, torch_allocates=arm.torch_allocates) if memory else None,
                gflops=sum(operator.flops for operator in operators) / 1e9,
                gigabytes=sum(operator.bytes for operator in operators) / 1e9,
                shares=shares,
                launches=len(operators) * rates.launch_seconds,
                agreement=agreements.get(arm.name),
                items=arm.items,
                rates=rates,
                facts={"kept_heap": arm.name in within, **arm.facts},
            )
        )
    return found


def _untimed(arm: Arm, agreement: Agreement | None, note: str) -> Measured:
    return Measured(
        name=arm.name, precision=arm.precision, timing=None, peak=None, agreement=agreement, note=note, facts=arm.facts
    )


def not_measured(name: str, why: str, *, precision: str = "float32") -> Measured:
    """The row of an arm that could not be made, with the reason."""
    return Measured(name=name, precision=precision, timing=None, peak=None, note=f"not measured: {why}", facts={})
