"""``task=training``: the encoding layer, resize and cross entropy, the confusion matrix, and the whole step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastfcn.benchmarks import tables
from fastfcn.benchmarks.bench import Bench, sizes_of
from fastfcn.benchmarks.confusion_matrix import confusion_arms
from fastfcn.benchmarks.encoding_layer import encoding_arms, largest_batch
from fastfcn.benchmarks.loss_layer import loss_arms
from fastfcn.benchmarks.measuring import Measured, not_measured
from fastfcn.benchmarks.memory import free
from fastfcn.benchmarks.rates import Rates
from fastfcn.benchmarks.training_step import OURS, step_arms
from fastfcn.errors import UserError

#: What there is to measure, in this order: the whole step in a process whose memory nothing else has shaped, and the
#: plain encoding layer, which takes most of it, at the end.
PARTS = ("step", "cross_entropy", "confusion", "encoding")


class Part(NamedTuple):
    """A table of the report.

    Attributes:
        title: of its section.
        found: the arms, the plain one first.
        note: under the table; may be empty.
    """

    title: str
    found: list[Measured]
    note: str = ""


def run(
    *,
    bench: Bench,
    parts: Sequence[str] = PARTS,
    batch: int = 2,
    image_size: Sequence[int] = (256, 256),
    compiled: bool = True,
    encoding_batch: int = 16,
    encoding_size: int = 64,
    encoding_channels: int = 512,
    codewords: int = 32,
    loss_batch: int = 4,
    loss_size: Sequence[int] = (480, 480),
    confusion_batch: int = 4,
    confusion_classes: int = 150,
) -> dict[str, Any]:
    """Measure parts of a training and the whole step, each against its plain formulation.

    Args:
        bench: Model, loss, optimizer, device, protocol.
        parts: Of PARTS.
        batch: Images of a whole step.
        image_size: (height, width) of a whole step's images.
        compiled: Whether steps of compiled models are among the arms; compiling takes a minute or two.
        encoding_batch: B of the encoding layer; less where the plain layer does not fit into the memory.
        encoding_size: Side of its map.
        encoding_channels: D.
        codewords: K.
        loss_batch: Images of resize and cross entropy.
        loss_size: (height, width) of their masks; the logits lie at stride 8.
        confusion_batch: Images of 480 x 480 pixels that are counted.
        confusion_classes: Their classes.

    Returns:
        What the JSON file holds.

    Raises:
        UserError: An option that does not exist, or numbers that make no sense.
    """
    if not parts or not set(parts) <= set(PARTS):
        raise UserError(f"task.parts={list(parts)}: choose among {', '.join(PARTS)}.")
    height, width = sizes_of("image_size", image_size, 2)
    loss_height, loss_width = sizes_of("loss_size", loss_size, 2)
    numbers = {
        "batch": batch, "encoding_batch": encoding_batch, "encoding_size": encoding_size,
        "encoding_channels": encoding_channels, "codewords": codewords, "loss_batch": loss_batch,
        "confusion_batch": confusion_batch, "confusion_classes": confusion_classes,
    }  # fmt: skip
    for key, value in numbers.items():
        sizes_of(key, [value])
    precisions = dict.fromkeys(
        ["float32", *(way.precision for way in OURS.values() if "step" in parts and (compiled or not way.compiled))]
    )
    rates = bench.rates(precisions)
    makers: dict[str, Callable[[], Part]] = {
        "encoding": lambda: encoding(
            bench, rates, batch=encoding_batch, channels=encoding_channels, size=encoding_size, codewords=codewords
        ),
        "cross_entropy": lambda: cross_entropy(bench, rates, batch=loss_batch, size=(loss_height, loss_width)),
        "confusion": lambda: confusion(bench, rates, batch=confusion_batch, num_classes=confusion_classes),
        "step": lambda: step(bench, rates, batch=batch, size=(height, width), compiled=compiled),
    }
    measured = {name: makers[name]() for name in PARTS if name in parts}
    text = ["# Training"]
    for part in measured.values():
        text += [f"## {part.title}", *([part.note] if part.note else [])]
        text += [tables.speeds(part.found, reference="plain"), tables.limits(part.found)]
    record = {
        "task": "training",
        "rates": rates._asdict(),
        "model": dict(bench.chosen),
        "parts": {
            name: {"title": part.title, "note": part.note, "arms": [each.as_dict() for each in part.found]}
            for name, part in measured.items()
        },
    }
    return bench.write("training", record, "\n\n".join([*text, tables.how(bench, rates)]))


def encoding(bench: Bench, rates: Rates, *, batch: int, channels: int, size: int, codewords: int) -> Part:
    """The encoding layer, forward and backward; the batch is smaller where the plain layer would not fit."""
    memory = free(bench.device)
    fits = largest_batch(batch, channels=channels, size=size, codewords=codewords, memory=memory)
    title = f"Encoding layer, forward and backward, B={fits}, D={channels}, {size}x{size}, K={codewords}"
    if fits == 0:
        reason = "the tensor of all residuals of one image does not fit into the memory"
        return Part(title, [not_measured("plain", reason), not_measured("ours", "nothing to compare with")])
    note = (
        ""
        if fits == batch
        else f"Of the batch of {batch} that was asked for, the plain layer does not fit into memory."
    )
    arms = encoding_arms(
        batch=fits, channels=channels, size=size, codewords=codewords, device=bench.device, seed=bench.seed
    )
    return Part(title, bench.measure(arms, rates), note)


def cross_entropy(bench: Bench, rates: Rates, *, batch: int, size: tuple[int, int]) -> Part:
    """Resize and cross entropy, forward and backward."""
    mask = bench.mask(*size, batch=batch)
    arms = loss_arms(mask, num_classes=bench.num_classes, stride=8, seed=bench.seed)
    title = (
        f"Resize and cross entropy, forward and backward, B={batch}, {size[0]}x{size[1]}, {bench.num_classes} classes"
    )
    return Part(title, bench.measure(arms, rates))


def confusion(bench: Bench, rates: Rates, *, batch: int, num_classes: int) -> Part:
    """The confusion matrix of a batch of predictions."""
    mask = bench.mask(480, 480, batch=batch, num_classes=num_classes)
    arms = confusion_arms(mask, num_classes=num_classes, seed=bench.seed)
    return Part(f"Confusion matrix, B={batch}, 480x480, {num_classes} classes", bench.measure(arms, rates))


def step(bench: Bench, rates: Rates, *, batch: int, size: tuple[int, int], compiled: bool) -> Part:
    """The whole step."""
    arms, missing = step_arms(bench, batch=batch, size=size, compiled=compiled)
    found = bench.measure(arms, rates)
    found += [not_measured(name, why, precision=precision) for name, (precision, why) in missing.items()]
    model = " ".join(bench.chosen.values())
    return Part(f"Training step, {model}, B={batch}, {size[0]}x{size[1]}, {bench.num_classes} classes", found)
