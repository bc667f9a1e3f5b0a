"""``task=memory``: where the peak of a prediction and of a training step lies, part by part, plain against ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastfcn.benchmarks import tables
from fastfcn.benchmarks.arms import HEAP_NOT_KEPT
from fastfcn.benchmarks.bench import Bench, sizes_of
from fastfcn.benchmarks.memory import METHODS, Peak, peak_memory
from fastfcn.benchmarks.plain import plain
from fastfcn.benchmarks.predictions import logits_of
from fastfcn.benchmarks.training_step import step_arms
from fastfcn.report.tables import Column, markdown, number

PARTS = ("backbone", "upsample", "head")


class Use(NamedTuple):
    """A line of the table.

    Attributes:
        what: part or whole, and in which mode.
        arm: plain or ours.
        peak: of it.
    """

    what: str
    arm: str
    peak: Peak


def run(
    *, bench: Bench, image_size: Sequence[int] = (512, 512), batch: int = 1, train_batch: int = 2
) -> dict[str, Any]:
    """Measure peaks; a part's is above its input and the weights, a training's of a part is forward and backward.

    Args:
        bench: Model, loss, optimizer, device.
        image_size: (height, width) in pixels.
        batch: Images of a prediction.
        train_batch: Images of a training step; at least 2 for BatchNorm.

    Returns:
        What the JSON file holds.

    Raises:
        UserError: Numbers that make no sense.
    """
    height, width = sizes_of("image_size", image_size, 2)
    sizes_of("batch", [batch])
    sizes_of("train_batch", [train_batch])
    model = bench.model()
    found: list[Use] = []
    for arm, built in (("plain", plain(model)), ("ours", model)):
        image = bench.image(height, width, batch=batch)
        predict = logits_of(built)
        found.append(_use(bench, "prediction", arm, partial(predict, image)))
        found += _parts(bench, built.eval(), image, arm, training=False)
        images = bench.image(height, width, batch=train_batch)
        found += _parts(bench, built.train(), images, arm, training=True)
        model.eval()
    steps, _ = step_arms(bench, batch=train_batch, size=(height, width), compiled=False)
    # Its peaks are those of ours.
    steps = [each for each in steps if each.name != HEAP_NOT_KEPT]
    found += [_use(bench, "training step, optimizer included", each.name, each.call) for each in steps]
    weights = sum(value.numel() * value.element_size() for value in (*model.parameters(), *model.buffers())) / 2**20
    columns = [
        Column("what", tuple(use.what for use in found), text=True),
        Column("arm", tuple(use.arm for use in found), text=True),
        Column("tensors MiB", tuple(number(use.peak.tensors, 1) for use in found)),
        Column("resident MiB", tuple(number(use.peak.resident, 1) for use in found)),
    ]
    title = (
        f"# Peak memory, {' '.join(bench.chosen.values())}, {height} x {width} pixels, prediction of {batch}, "
        f"training step of {train_batch}, {bench.num_classes} classes"
    )
    notes = [f"The weights themselves take {weights:,.1f} MiB and are not in the figures.", tables.device_name(bench)]
    notes += [f"{name}: {method}." for name, method in METHODS.items()]
    record = {
        "task": "memory",
        "model": dict(bench.chosen),
        "image_size": [height, width],
        "batch": batch,
        "train_batch": train_batch,
        "weights_mib": weights,
        "peaks_mib": [{"what": use.what, "arm": use.arm, **use.peak._asdict()} for use in found],
    }
    text = "\n\n".join([title, markdown(columns), "\n".join(f"- {note}" for note in notes)])
    return bench.write("memory", record, text)


def _use(bench: Bench, what: str, arm: str, call: Callable[[], object]) -> Use:
    call()
    return Use(what, arm, peak_memory(call, device=bench.device))


def _parts(bench: Bench, model: nn.Module, image: Tensor, arm: str, *, training: bool) -> list[Use]:
    """Each part by itself, on what the part before it gave."""
    found, value = [], image
    mode = "forward and backward" if training else "prediction"
    for name in PARTS:
        part = model.get_submodule(name)

        def once(part: nn.Module = part, value: Any = value) -> object:
            with torch.set_grad_enabled(training):
                out = part(value)
                if training:
                    _backward(out, part)
                return None if training else out

        if not list(part.parameters()) and training:  # nothing to learn: the backward of its neighbours holds it
            found.append(Use(f"{name}, {mode}", arm, Peak(None, None)))
        else:
            found.append(_use(bench, f"{name}, {mode}", arm, once))
        with torch.no_grad():
            value = part(value)
    return found


def _backward(out: Any, part: nn.Module) -> None:
    """The gradients of a part's weights, from its last output."""
    last = out.logits if hasattr(out, "logits") else out.c5
    torch.autograd.grad(last.sum(), [p for p in part.parameters() if p.requires_grad], allow_unused=True)
