"""``task=targets``: every target of speed in one table, target against measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fastfcn.benchmarks import tables, training
from fastfcn.benchmarks.bench import Bench, sizes_of
from fastfcn.benchmarks.evaluation import measure as measure_evaluation
from fastfcn.benchmarks.gpu_targets import gpu_targets
from fastfcn.benchmarks.inference import choose, measure_group
from fastfcn.benchmarks.inference_arms import PLAIN, rows
from fastfcn.benchmarks.judging import Target, fastest, lightest, same, table
from fastfcn.benchmarks.measuring import Measured
from fastfcn.benchmarks.models_measured import Named, chosen
from fastfcn.benchmarks.rates import Rates
from fastfcn.errors import UserError
from fastfcn.inference import SlidingWindow

#: Arms of predictions whose speed is a target, by name; those that cannot be made here are told.
EXPORTED = ("ONNX Runtime", "OpenVINO", "OpenVINO bfloat16")
REWRITTEN = (
    "+ commute",
    "+ winograd",
    "+ onednn",
    "+ kept heap",
    "+ compile, depthwise",
    "+ bfloat16, without compile",
    "+ bfloat16, with compile",
)

#: Rows by which JPU and the dilated model are optimised alike. Winograd's filtering takes the ordinary 3x3 convolutions
#: alone: what it leaves of the dilated ones' cost weighs differently in the two. ONNX Runtime comes nearest to the
#: chip's rate for both.
ALIKE = ("+ commute", "+ winograd", "+ onednn", "+ kept heap", "ONNX Runtime")

#: What loss and gradient are to differ from plain's by, at most, relative to the largest.
SAME_LOSS = 1e-6

#: The groups of targets, in the order of the table.
GROUPS = ("inference", "jpu", "training", "evaluation", "gpu")


def run(
    *,
    bench: Bench,
    groups: Sequence[str] = GROUPS,
    image_size: Sequence[int] = (512, 512),
    depths: Sequence[int] = (50, 101),
    compiled: bool = True,
    seconds: float = 6.0,
    warmup_seconds: float = 3.0,
    train_size: Sequence[int] = (256, 256),
    encoding_batch: int = 16,
    encoding_size: int = 64,
    loss_size: Sequence[int] = (480, 480),
    evaluation_size: Sequence[int] = (188, 250),
    evaluation_base: int = 260,
    evaluation_crop: int = 240,
) -> dict[str, Any]:
    """Measure what is needed to judge the targets; write targets.json and targets.md.

    The multi-scale evaluation runs at half the paper's sizes, whose plain arm alone would take the ten minutes; windows
    and scales are as many as at the full sizes, and task=evaluation measures those.

    Args:
        bench: Model, loss, optimizer, device.
        groups: Of GROUPS.
        image_size: (height, width) of predictions.
        depths: Of the ResNets by which JPU is compared with the dilated model.
        compiled: Whether compiled arms are among those tried; compiling takes minutes.
        seconds: Of measured calls of an arm that are enough; instead of the protocol's.
        warmup_seconds: The longest warm-up; instead of the protocol's.
        train_size: (height, width) of a training step.
        encoding_batch: B of the encoding layer.
        encoding_size: Side of its map.
        loss_size: (height, width) of the masks for resize and cross entropy.
        evaluation_size: (height, width) of the evaluated picture.
        evaluation_base: Long side at scale 1.
        evaluation_crop: Side of the windows.

    Returns:
        What the JSON file holds.

    Raises:
        UserError: An option that does not exist, or numbers that make no sense.
    """
    if not groups or not set(groups) <= set(GROUPS):
        raise UserError(f"task.groups={list(groups)}: choose among {', '.join(GROUPS)}.")
    if not depths or not set(depths) <= {18, 34, 50, 101, 152}:
        raise UserError(f"task.depths={list(depths)}: choose depths of conf/backbone, 50 and 101 for the targets.")
    size, train, loss = (
        (pair[0], pair[1])
        for key, values in {"image_size": image_size, "train_size": train_size, "loss_size": loss_size}.items()
        for pair in [sizes_of(key, values, 2)]
    )
    picture = sizes_of("evaluation_size", evaluation_size, 2)
    bench = replace(bench, plan=replace(bench.plan, seconds=seconds, warmup_seconds=warmup_seconds))
    names = _arms(compiled)
    wanted = choose(rows(bench.device), names)
    rates = bench.rates(dict.fromkeys(["float32", "bfloat16", *(row.precision for row in rows(bench.device))]))
    tables_of: dict[str, list[Measured]] = {}

    def inference() -> list[Target]:
        [found] = measure_group(bench, [chosen(bench)], wanted, rates, size=size, batch=1).values()
        tables_of[f"Inference, {chosen(bench).label}, {size[0]} x {size[1]}, batch 1"] = found
        inside = [each for each in found if each.name not in EXPORTED]
        outside = [each for each in found if each.name in EXPORTED]
        return [
            fastest("inference in float32 within torch", 2.2, inside, "float32"),
            fastest("inference in bfloat16 within torch", 4.0, inside, "bfloat16"),
            fastest("inference in float32 as an exported model", 2.7, outside, "float32", plain=found[0]),
            fastest("inference in bfloat16 as an exported model", 5.0, outside, "bfloat16", plain=found[0]),
        ]

    def jpu() -> list[Target]:
        return [target for depth in depths for target in _jpu(bench, rates, depth, size, tables_of)]

    def trained() -> list[Target]:
        parts = {
            "step": training.step(bench, rates, batch=2, size=train, compiled=compiled),
            "loss": training.cross_entropy(bench, rates, batch=4, size=loss),
            "confusion": training.confusion(bench, rates, batch=4, num_classes=150),
            "encoding": training.encoding(
                bench, rates, batch=encoding_batch, channels=512, size=encoding_size, codewords=32
            ),
        }
        tables_of.update({part.title: part.found for part in parts.values()})
        encoding, losses = parts["encoding"].found, parts["loss"].found
        return [
            fastest("encoding layer, forward and backward", 25.0, encoding, "float32"),
            lightest("memory of the encoding layer", 1 / 15, encoding),
            fastest("resize and cross entropy", 2.0, losses, "float32"),
            lightest("memory of resize and cross entropy", 1 / 3, losses),
            same("difference of loss and gradient from float64", SAME_LOSS, losses),
            fastest("confusion matrix at 150 classes", 12.0, parts["confusion"].found, "float32"),
            fastest("training step in float32", 2.0, parts["step"].found, "float32"),
            fastest(
                "training step in bfloat16",
                3.0 if bench.device.type == "cuda" else 2.5,
                parts["step"].found,
                "bfloat16",
            ),
        ]

    def evaluated() -> list[Target]:
        protocol = SlidingWindow(
            scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75), flip=True, base_size=evaluation_base, crop_size=evaluation_crop
        )
        found = measure_evaluation(bench, rates, protocol, size=(picture[0], picture[1]))
        tables_of[f"Evaluation at six scales with mirror images, windows of {evaluation_crop}"] = found
        return [fastest("multi-scale evaluation", 6.0 if bench.device.type == "cuda" else 2.0, found, None)]

    def of_gpu() -> list[Target]:
        targets, found = gpu_targets(bench, rates, size=size, train_size=train, compiled=compiled)
        tables_of.update(found)
        return targets

    makers: dict[str, Callable[[], list[Target]]] = dict(
        zip(GROUPS, (inference, jpu, trained, evaluated, of_gpu), strict=True)
    )
    targets: list[Target] = []
    written: dict[str, Any] = {}
    wanted_groups = [name for name in GROUPS if name in groups]
    for name in wanted_groups:  # each is kept as soon as it is measured: what comes after may not fit into the memory
        targets += makers[name]()
        record = {
            "task": "targets",
            "targets": [{**target._asdict(), "met": target.met} for target in targets],
            "rates": rates._asdict(),
            "tables": {title: [each.as_dict() for each in found] for title, found in tables_of.items()},
        }
        text = [f"# Targets of speed, {tables.device_name(bench)}", table(targets)]
        text.append("Times are told against the plain formulation of the same run, JPU's against the dilated model.")
        for title, found in tables_of.items():
            text += [f"## {title}", tables.speeds(found, reference=found[0].name), tables.limits(found)]
        markdown = "\n\n".join([*text, tables.how(bench, rates)])
        written = bench.write("targets", record, markdown, shown=name == wanted_groups[-1])
    return written


def _jpu(
    bench: Bench, rates: Rates, depth: int, size: tuple[int, int], tables_of: dict[str, list[Measured]]
) -> list[Target]:
    """JPU against the dilated model, both optimised alike, taking turns: with each of the rows in ALIKE."""
    wanted = {101: 2.4}.get(depth, 2.1)
    pair = [Named(f"resnet{depth}s" if depth >= 50 else f"resnet{depth}", up, "encoding") for up in ("none", "jpu")]
    row = [row for row in rows(bench.device) if row.name in ALIKE]
    found = measure_group(bench, pair, row, rates, size=size, batch=1)
    dilated, ours = ([each.renamed(f"{named.label}: {each.name}") for each in found[named]] for named in pair)
    tables_of[f"JPU over dilated, ResNet-{depth}, Encoding head, {size[0]} x {size[1]}, batch 1"] = [*dilated, *ours]
    return [
        fastest(f"JPU over dilated, ResNet-{depth}, both {arm.name}", wanted, [one, other], "float32")
        for arm, one, other in zip(row, dilated, ours, strict=True)
    ]


def _arms(compiled: bool) -> list[str]:
    names = [*REWRITTEN, *EXPORTED]
    compiling = ("+ compile, depthwise", "+ bfloat16, with compile")
    return [PLAIN, *(name for name in names if compiled or name not in compiling)]
