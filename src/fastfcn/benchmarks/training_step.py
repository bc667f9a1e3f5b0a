"""A whole training step: forward, loss, backward, optimizer; plain against ours."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastfcn import heap
from fastfcn.benchmarks.arms import HEAP_NOT_KEPT, Arm, Unavailable, autocast, compare_values, compiling
from fastfcn.benchmarks.bench import Bench
from fastfcn.benchmarks.machine import has_bfloat16
from fastfcn.benchmarks.plain import plain
from fastfcn.benchmarks.plain_training import plain_loss
from fastfcn.exporting.comparison import Agreement
from fastfcn.models.fastfcn import FastFCN

#: What the loss of the first step may differ by, relative: BatchNorm's sums and dropout are in other orders.
TOLERANCE = 1e-4

#: Of the schedule; no step of a benchmark comes near its end.
_STEPS = 1_000_000


class Way(NamedTuple):
    """A row of ours.

    Attributes:
        precision: of autocast.
        compiled: whether the model is.
        kept_heap: whether freed memory stays with the process, as in a training.
    """

    precision: str = "float32"
    compiled: bool = False
    kept_heap: bool = True


#: The rows by name.
OURS = {
    HEAP_NOT_KEPT: Way(kept_heap=False),
    "ours": Way(),
    "ours, bfloat16": Way("bfloat16"),
    "ours, compiled": Way(compiled=True),
    "ours, bfloat16, compiled": Way("bfloat16", compiled=True),
}


class Step:
    """One training step on one batch, again and again.

    Args:
        model: image -> SegmentationOutput; it learns.
        loss: (output, mask) -> scalar.
        optimizer: of the model's parameters.
        image: (B, 3, H, W).
        mask: (B, H, W).
        precision: of autocast.
    """

    def __init__(
        self,
        model: Callable[[Tensor], Any],
        loss: Callable[[Any, Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        image: Tensor,
        mask: Tensor,
        *,
        precision: str = "float32",
    ) -> None:
        self._model = model
        self._loss = loss
        self._optimizer = optimizer
        self._image = image
        self._mask = mask
        self._precision = precision

    def loss(self, *, seed: int | None = None) -> Tensor:
        """The loss of the batch, with a graph; a seed decides what dropout drops."""
        if seed is not None:
            torch.manual_seed(seed)
        with autocast(self._precision, self._image.device):
            return self._loss(self._model(self._image), self._mask)

    def gradients(self) -> None:
        """Forward and backward alone: the weights stay what they are, with which the first loss is compared."""
        self.loss().backward()
        self._optimizer.zero_grad(set_to_none=True)

    def __call__(self) -> None:
        """Forward, backward, optimizer; the gradients are given back, so that the next call's peak holds its own."""
        self.loss().backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


def step_arms(
    bench: Bench, *, batch: int, size: tuple[int, int], compiled: bool
) -> tuple[list[Arm], dict[str, tuple[str, str]]]:
    """Training steps of the chosen model on a batch of noise.

    Args:
        bench: Model, loss and optimizer.
        batch: Images of a step.
        size: (height, width) in pixels.
        compiled: Whether compiled arms are wanted.

    Returns:
        The arms, and those that cannot be made here: by name, precision and reason.
    """
    model = bench.model().train()
    image, mask = bench.image(*size, batch=batch), bench.mask(*size, batch=batch)
    loss = bench.loss
    reference: list[Tensor] = []

    def plain_step() -> Step:
        twin = plain(model)
        weights = {"aux_weight": loss.aux_weight, "presence_weight": loss.presence_weight}
        sgd = torch.optim.SGD(twin.parameters(), lr=bench.optim.lr, momentum=bench.optim.momentum, foreach=False)
        return Step(twin, lambda out, target: plain_loss(out, target, **weights), sgd, image, mask)

    def our_step(precision: str, *, compile_model: bool) -> Step:
        twin: FastFCN = copy.deepcopy(model).to(memory_format=torch.channels_last)
        sgd, _ = bench.optim.build(twin, global_batch=batch, total_steps=_STEPS)
        if compile_model:
            # Dropout draws as in eager torch, so that the first loss can be compared; the compiler's own way differs.
            twin.compile(options={"fallback_random": True})
        channels_last = image.contiguous(memory_format=torch.channels_last)
        # As in a training: the loss enlarges the logits.
        network = functools.partial(twin, full_size=False)
        return Step(network, _total(loss), sgd, channels_last, mask, precision=precision)

    def check(step: Step, tolerance: float) -> Agreement:
        if not reference:
            reference.append(plain_step().loss(seed=bench.seed).detach())
        return compare_values(step.loss(seed=bench.seed), reference[0], tolerance=tolerance)

    first = plain_step()
    arms = [Arm(name="plain", call=first, check=lambda: check(first, TOLERANCE), items=batch)]
    missing = {}
    for name, (precision, compile_model, kept_heap) in OURS.items():
        if (compile_model and not compiled) or (not kept_heap and not heap.possible()):
            continue
        if precision == "bfloat16" and not has_bfloat16(bench.device):
            missing[name] = precision, "this chip does not compute in bfloat16 by itself"
            continue
        step = our_step(precision, compile_model=compile_model)
        try:
            if compile_model:
                compiling(step.gradients, 1)
        except Unavailable as error:
            missing[name] = precision, str(error)
            continue
        # bfloat16 has 8 bits: the mean over all pixels keeps two to three digits.
        arms.append(
            Arm(
                name=name, call=step, precision=precision, items=batch, kept_heap=kept_heap,
                eager=our_step(precision, compile_model=False) if compile_model else None,
                check=partial(check, step, TOLERANCE if precision == "float32" else 0.02),
            )
        )  # fmt: skip
    return arms, missing


def _total(loss: nn.Module) -> Callable[[Any, Tensor], Tensor]:
    """The sum of the loss's terms."""
    return lambda out, mask: torch.stack(list(loss(out, mask).values())).sum()
