"""What every task is handed: the models to measure, the device, how long, and where the figures go."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from fastfcn.benchmarks.machine import conditions
from fastfcn.benchmarks.measuring import Measured, measure_arms
from fastfcn.benchmarks.protocol import Call, Clock, Plan, Timing, clock_of, measure
from fastfcn.benchmarks.rates import Rates, measure_rates, tf32
from fastfcn.errors import UserError
from fastfcn.models.fastfcn import FastFCN
from fastfcn.whole_files import check_folder, write_text

#: Seconds that a rate is measured, where the plan gives more.
_RATE_SECONDS = 3.0


class NamedModel(Protocol):
    """Builds a model by the names of its groups' options, at their defaults."""

    def __call__(self, *, backbone: str, upsample: str, head: str, num_classes: int) -> FastFCN:
        """A new model, randomly initialised."""


def _nothing(*_: object, **__: object) -> FastFCN:
    raise AssertionError("this task was handed no models")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The workbench of a run.

    Attributes:
        build: ``build(num_classes)`` gives the model that the configuration's groups describe.
        named: gives others, by the names of the groups' options.
        chosen: names of the options that `build` has, by group: backbone, upsample, head.
        num_classes: of the logits, where the task does not vary them.
        device: where everything is computed.
        plan: how often and how long.
        clock: tells the time of a call; None is the device's own.
        matrix_side: of the square matrices by which the matrix rate is measured; None is large enough for the best.
        out: the folder of the results; None writes none.
        loss: a `SegmentationLoss`, for the tasks that train.
        optim: an `SGDPoly`, likewise.
        open_split: opens a split of the chosen data; None where none were chosen.
        seed: of weights and inputs.

    Raises:
        UserError: the folder cannot be written to, which shows before anything is measured.
    """

    build: Callable[[int], FastFCN] = _nothing
    named: NamedModel = _nothing
    chosen: Mapping[str, str] = field(default_factory=dict)
    num_classes: int = 59
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    plan: Plan = field(default_factory=Plan)
    clock: Clock | None = None
    matrix_side: int | None = None
    out: Path | None = None
    loss: Any = None
    optim: Any = None
    open_split: Callable[[str], Any] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.out is not None:
            check_folder(self.out, key="out")

    def model(self, *, num_classes: int | None = None, **names: str) -> FastFCN:
        """A model in evaluation mode on the device: the chosen one, or the one that the three names describe."""
        torch.manual_seed(self.seed)
        classes = num_classes or self.num_classes
        model = self.named(**names, num_classes=classes) if names else self.build(classes)
        return model.eval().to(self.device)

    def image(self, *size: int, batch: int = 1) -> Tensor:
        """Noise that has the statistics of normalised images: (batch, 3, height, width)."""
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(batch, 3, *size, generator=generator).to(self.device)

    def mask(self, *size: int, batch: int, num_classes: int | None = None) -> Tensor:
        """Random class ids in patches of 16 pixels, a tenth of them ignored: (batch, height, width) int64."""
        generator = torch.Generator().manual_seed(self.seed)
        coarse = [-(-side // 16) for side in size]
        ids = torch.randint(0, num_classes or self.num_classes, (batch, *coarse), generator=generator)
        ids[torch.rand(ids.shape, generator=generator) < 0.1] = -1
        spread = ids.repeat_interleave(16, 1).repeat_interleave(16, 2)
        return spread[:, : size[0], : size[1]].contiguous().to(self.device)

    def rates(self, precisions: Iterable[str]) -> Rates:
        """The device's rates, measured now; they scatter little, and a few seconds of each are enough."""
        plan = replace(self.plan, seconds=min(self.plan.seconds, _RATE_SECONDS))
        return measure_rates(precisions, device=self.device, clock=self._clock, plan=plan, side=self.matrix_side)

    def measure(
        self, arms: Sequence[Any], rates: Rates, *, memory: bool = True, plan: Plan | None = None
    ) -> list[Measured]:
        """Compare, time and weigh arms, interleaved."""
        with tf32(False):  # arms that may use it say so themselves
            return measure_arms(
                arms, device=self.device, plan=plan or self.plan, clock=self._clock, rates=rates, memory=memory
            )

    def time(self, calls: Mapping[str, Call]) -> dict[str, Timing]:
        """Time calls by name, interleaved."""
        return measure(calls, self.plan, self._clock)

    @property
    def _clock(self) -> Clock:
        return self.clock or clock_of(self.device)

    def write(self, name: str, record: Mapping[str, Any], markdown: str, *, shown: bool = True) -> dict[str, Any]:
        """Write ``<name>.json`` and ``<name>.md`` into the folder, print the text, give back what the JSON file holds.

        Args:
            name: of the files.
            record: plain values; the conditions and the protocol are added.
            markdown: the text.
            shown: Whether it is printed; not, where more of it comes.
        """
        plan = self.plan
        whole = {
            **record,
            "protocol": {
                "repeats": plan.repeats,
                "seconds": plan.seconds,
                "warmup_seconds": plan.warmup_seconds,
                "tolerance": plan.tolerance,
                "seed": self.seed,
                "order": "arms take turns within one run",
                "clock": "CUDA events" if self.device.type == "cuda" else "perf_counter",
            },
            "conditions": conditions(self.device),
        }
        if shown:
            print(markdown)
        if self.out is not None:
            write_text(self.out / f"{name}.json", json.dumps(whole, indent=2) + "\n")
            write_text(self.out / f"{name}.md", markdown + "\n")
            if shown:
                print(f"\nfigures: {self.out / name}.json, {self.out / name}.md")
        return whole


def sizes_of(key: str, values: Sequence[int], count: int | None = None) -> tuple[int, ...]:
    """The numbers of a list, if all are positive.

    Args:
        key: of the configuration, for the message.
        values: The list.
        count: How many there must be; None is any number but 0.

    Raises:
        UserError: They are not what they should be.
    """
    wrong = not values or any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in values)
    if wrong or (count is not None and len(values) != count):
        number = "whole numbers" if count is None else f"{count} whole numbers"
        raise UserError(f"task.{key}={list(values)}: give {number} above 0 in a list.")
    return tuple(values)
