"""``task=evaluation``: several scales with mirror images, one window at a time against windows in batches."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastfcn.benchmarks import tables
from fastfcn.benchmarks.arms import Arm, Unavailable
from fastfcn.benchmarks.bench import Bench, sizes_of
from fastfcn.benchmarks.machine import has_bfloat16
from fastfcn.benchmarks.measuring import Measured, not_measured
from fastfcn.benchmarks.plain import plain
from fastfcn.benchmarks.plain_evaluation import one_window_at_a_time
from fastfcn.benchmarks.predictions import Predict, channels_last, logits_of, mixed, optimized
from fastfcn.benchmarks.rates import Rates
from fastfcn.exporting.comparison import Agreement, compare_logits
from fastfcn.inference import SlidingWindow
from fastfcn.models.fastfcn import FastFCN

#: The largest logit that a random model is brought to: sums of exp(2 x logit) must stay numbers.
_LARGEST = 5.0

#: Scores are compared by their logarithms, which are sums of logits, of values above this.
_LEAST = 1e-30

#: In the names of the rows whose freed memory stays with the process, as eval.py has it.
_KEPT = ", kept heap"


def run(
    *,
    bench: Bench,
    image_size: Sequence[int] = (375, 500),
    scales: Sequence[float] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
    flip: bool = True,
    base_size: int = 520,
    crop_size: int = 480,
    windows: int = 8,
) -> dict[str, Any]:
    """Measure the evaluation of one picture by the protocol of the paper's Tables 3 to 5.

    Args:
        bench: Model, device, protocol.
        image_size: (height, width) of the picture; most of VOC's are 375 x 500.
        scales: Of the protocol.
        flip: Whether mirror images are asked too.
        base_size: Long side at scale 1.
        crop_size: Side of the windows.
        windows: How many go through the model together in our arms.

    Returns:
        What the JSON file holds.

    Raises:
        UserError: Numbers that make no sense.
    """
    height, width = sizes_of("image_size", image_size, 2)
    rates = bench.rates(["float32", *(["bfloat16"] if has_bfloat16(bench.device) else [])])
    protocol = SlidingWindow(scales=tuple(scales), flip=flip, base_size=base_size, crop_size=crop_size, windows=windows)
    found = measure(bench, rates, protocol, size=(height, width))
    title = (
        f"# Evaluation, one picture of {height} x {width}, {len(protocol.scales)} scales"
        f"{' with mirror images' if flip else ''}, windows of {crop_size}, {' '.join(bench.chosen.values())}"
    )
    record = {
        "task": "evaluation",
        "image_size": [height, width],
        "model": dict(bench.chosen),
        "settings": {**protocol.settings(), "windows": windows},
        "rates": rates._asdict(),
        "arms": [each.as_dict() for each in found],
    }
    text = [title, tables.speeds(found, reference="plain"), tables.limits(found), tables.how(bench, rates)]
    return bench.write("evaluation", record, "\n\n".join(text))


def measure(bench: Bench, rates: Rates, protocol: SlidingWindow, *, size: tuple[int, int]) -> list[Measured]:
    """All arms on one picture of noise; scores are compared with the plain arm's."""
    model = bench.model()
    image = bench.image(*size)
    _tame(model, bench.image(protocol.crop_size, protocol.crop_size))
    plainly = logits_of(plain(model))

    def one_at_a_time() -> Tensor:
        with torch.no_grad():
            return one_window_at_a_time(
                plainly,
                image,
                scales=protocol.scales,
                flip=protocol.flip,
                base_size=protocol.base_size,
                crop_size=protocol.crop_size,
            )

    reference = one_at_a_time()

    def arm(name: str, call: Callable[[], Tensor], precision: str = "float32") -> Arm:
        def check() -> Agreement:
            return compare_logits(_logarithm(call()), _logarithm(reference), precision=precision)

        return Arm(name=name, call=call, precision=precision, check=check, kept_heap=_KEPT in name)

    arms, missing = [arm("plain", one_at_a_time)], []
    for name, (precision, make) in _ours(image).items():
        try:
            predict = make(model)
        except Unavailable as error:
            missing.append(not_measured(name, str(error), precision=precision))
            continue
        arms.append(arm(name, _slide(protocol, predict, image), precision))
    return [*bench.measure(arms, rates), *missing]


def _ours(example: Tensor) -> dict[str, tuple[str, Callable[[FastFCN], Predict]]]:
    """Our arms by name: precision, and what makes the prediction of a batch of windows, at the head's resolution."""
    switches = dict.fromkeys(("drop_branches", "fold_bn", "channels_last", "commute", "winograd", "onednn"), True)

    def optimised(model: FastFCN) -> Predict:
        return logits_of(optimized(model, switches, full_size=False))

    found: dict[str, tuple[str, Callable[[FastFCN], Predict]]] = {
        "windows in batches": ("float32", lambda model: _coarse(copy.deepcopy(model))),
        "windows in batches, channels_last": (
            "float32",
            lambda model: channels_last(model, example, full_size=False).predict,
        ),
    }
    low = has_bfloat16(example.device)
    if low:
        found["windows in batches, channels_last, autocast"] = (
            "bfloat16",
            lambda model: mixed(model, example, full_size=False).predict,
        )
    found["windows in batches, optimised"] = found[f"windows in batches, optimised{_KEPT}"] = "float32", optimised
    if low:
        found[f"windows in batches, optimised{_KEPT}, bfloat16"] = (
            "bfloat16",
            lambda model: logits_of(optimized(model, {**switches, "dtype": "bfloat16"}, full_size=False)),
        )
    return found


def _coarse(model: Callable[..., Any]) -> Predict:
    return logits_of(functools.partial(model, full_size=False))


def _slide(protocol: SlidingWindow, predict: Predict, image: Tensor) -> Callable[[], Tensor]:
    def call() -> Tensor:
        with torch.no_grad():
            return protocol(predict, image)

    return call


def _logarithm(scores: Tensor) -> Tensor:
    return scores.clamp(min=_LEAST).log()


def _tame(model: FastFCN, image: Tensor) -> None:
    """Scale the classifier where logits are so large, as some random weights make them, that exp would overflow."""
    with torch.no_grad():
        largest = float(model(image).logits.abs().max())
        if largest > 4 * _LARGEST:
            last = [module for module in model.head.modules() if isinstance(module, nn.Conv2d)][-1]
            for value in last.parameters():
                value.mul_(_LARGEST / largest)
