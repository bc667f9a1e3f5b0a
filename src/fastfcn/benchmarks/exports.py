"""``task=exports``: how fast exported models are, each in its own runtime, and how well they agree with eager torch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastfcn.benchmarks import tables
from fastfcn.benchmarks.bench import Bench, sizes_of
from fastfcn.benchmarks.export_rows import Row, table
from fastfcn.errors import UserError
from fastfcn.exporting.comparison import compare_export
from fastfcn.exporting.description import Description
from fastfcn.exporting.making import make
from fastfcn.exporting.network import normalised, picture
from fastfcn.exporting.quantising import fitted, spread
from fastfcn.exporting.request import Precision, Wanted, files_of
from fastfcn.exporting.runtime import TRUSTED, Exported, load_exported
from fastfcn.own_entry import own_entry
from fastfcn.types import DataFacts

#: The reference of all that is made of a model.
EAGER = "torch, eager"

#: What is made: name of the row, format, precision, and whether AOTInductor's file is meant.
ROWS: Mapping[str, tuple[str, Precision, bool]] = {
    "torch.export": ("torch_export", "fp32", False),
    "AOTInductor": ("torch_export", "fp32", True),
    "ONNX Runtime": ("onnx", "fp32", False),
    "ONNX Runtime fp16": ("onnx", "fp16", False),
    "ONNX Runtime int8": ("onnx", "int8", False),
    "OpenVINO": ("openvino", "fp32", False),
    "OpenVINO fp16": ("openvino", "fp16", False),
    "OpenVINO int8": ("openvino", "int8", False),
}


def run(
    *,
    bench: Bench,
    image_size: Sequence[int] = (512, 512),
    batch: int = 1,
    rows: Sequence[str] | None = None,
    dynamic: bool = False,
    calibration_images: int = 32,
    files: Sequence[str] = (),
    trusted: Sequence[str] = ("fastfcn",),
) -> dict[str, Any]:
    """Export the model in every way, or take files that are there; write exports.json and exports.md.

    Args:
        bench: Model, protocol; on the CPU.
        image_size: (height, width) in pixels.
        batch: Images of a prediction.
        rows: Names of `ROWS` that are wanted; None: all.
        dynamic: Export for any batch and size.
        calibration_images: On which int8's ranges are found, of the training split of the chosen data.
        files: Exported files to measure instead; the first is what the others are compared with.
        trusted: ``pt2`` among them lets a .pt2 be opened.

    Returns:
        What the JSON file holds.

    Raises:
        UserError: An option that does not exist, or numbers that make no sense.
    """
    height, width = sizes_of("image_size", image_size, 2)
    sizes_of("batch", [batch])
    sizes_of("calibration_images", [calibration_images])
    if unknown := [name for name in rows or () if name not in ROWS]:
        raise UserError(f"task.rows: there is no row {unknown[0]!r}: choose among {', '.join(ROWS)}.")
    if bench.device.type != "cpu":
        raise UserError("task=exports measures runtimes of the CPU: choose device=cpu.")
    wanted = Wanted(size=(height, width), batch=1 if dynamic else batch, dynamic=dynamic, aot_inductor=False)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pixels, calibration, note = _images(bench, (height, width), batch, calibration_images)
        if files:
            found = [_file(Path(path), batch, trusted) for path in files]
        else:
            chosen = {name: ROWS[name] for name in (ROWS if rows is None else rows)}
            found = list(_made(bench, chosen, folder, wanted, calibration))
        _measure(bench, found, normalised(pixels))
    where = f"{height} x {width} pixels, batch {batch}"
    title = f"# Exported models, {'files' if files else ' '.join(bench.chosen.values())}, {where}"
    record = {
        "task": "exports",
        "model": None if files else dict(bench.chosen),
        "image_size": [height, width],
        "batch": batch,
        "dynamic": dynamic,
        "images": note,
        "rows": [row.as_dict() for row in found],
    }
    return bench.write("exports", record, "\n\n".join([title, table(found), _how(bench, note)]))


def _made(
    bench: Bench, chosen: Mapping[str, tuple[str, Precision, bool]], folder: Path, wanted: Wanted, images: list[Tensor]
) -> Iterator[Row]:
    """Eager torch, then a row for each export."""
    model = bench.model()
    yield Row(name=EAGER, predict=lambda image: model(image).logits, mib=_mib_of(model))
    names = tuple(f"class {index}" for index in range(bench.num_classes))
    facts = DataFacts("benchmark", names, tuple((0, 0, 0) for _ in names))
    for index, (name, (to, precision, compiled)) in enumerate(chosen.items()):
        own = Wanted(**{**vars(wanted), "precision": precision, "aot_inductor": compiled})
        path = (
            folder
            / f"{index}"
            / ("model.pt2" if to == "torch_export" else "model.onnx" if to == "onnx" else "model.xml")
        )
        path.parent.mkdir()
        size = None if own.dynamic else (int(own.size[0]), int(own.size[1])) if own.size else None
        description = Description(
            format=to, precision=precision, takes="normalised", gives="logits", size=size,
            batch=None if own.dynamic else own.batch, least=1, entry=own_entry({}, facts), source={},
        )  # fmt: skip
        try:
            make(model, to, path, wanted=own, description=description, images=images)
            files = files_of(path, to, own)
            opened = load_exported(files[-1] if compiled else path, trusted=("fastfcn", TRUSTED))
        except UserError as error:
            yield Row(name=name, precision=precision, note=f"not measured: {error}")
            continue
        weighed = [files[-1]] if compiled else files
        yield Row(name=name, predict=_predict(opened), precision=precision, mib=_mib(weighed))


def _file(path: Path, batch: int, trusted: Sequence[str]) -> Row:
    """The row of a file that is there."""
    opened = load_exported(path, trusted=trusted)
    weights = [path.with_suffix(".bin")] if path.suffix == ".xml" else []
    return Row(
        name=path.name, predict=_predict(opened), precision=opened.description.precision, mib=_mib([path, *weights])
    )


def _predict(opened: Exported) -> Callable[[Tensor], Tensor]:
    def predict(image: Tensor) -> Tensor:
        return opened(image).logits if opened.description.takes != "normalised" else opened.run(image)

    return predict


def _measure(bench: Bench, rows: Sequence[Row], image: Tensor) -> None:
    """Compare each row with the first, then time them in turns."""
    able = [row for row in rows if row.predict is not None]
    with torch.no_grad():
        reference = None
        for row in able:
            assert row.predict is not None
            found = row.predict(image)
            if reference is None:
                reference = found
            else:
                row.agreement = compare_export(found, reference, precision=row.precision)

        def call(row: Row) -> Callable[[], object]:
            return lambda: row.predict(image) if row.predict is not None else None

        timings = bench.time({row.name: call(row) for row in able})
    for row in able:
        row.timing = timings[row.name]


def _images(bench: Bench, size: tuple[int, int], batch: int, count: int) -> tuple[Tensor, list[Tensor], str]:
    """What is predicted, (batch, 3, h, w) uint8; what is calibrated on; and what both are, in words."""
    if bench.open_split is None:
        made = [picture(size, batch=1, seed=seed)[0] for seed in range(count + batch)]
        return torch.stack(made[:batch]), made[batch:], "pictures made for the purpose, without data=..."
    dataset = bench.open_split("train")
    found = [fitted(dataset[index].image, size) for index in spread(len(dataset), count + batch)]
    if len(found) <= batch:
        raise UserError(f"task.batch={batch}: the training split has {len(found)} images, and int8 needs others.")
    return torch.stack(found[:batch]), found[batch:], f"{len(found)} images of {dataset.facts.name}"


def _how(bench: Bench, images: str) -> str:
    plan = bench.plan
    lines = [
        tables.device_name(bench) + ".",
        f"Each is warmed up until its time no longer falls by {plan.tolerance:.0%}, {plan.warmup_seconds:g} s at most; "
        f"then all take turns until each has {plan.repeats} calls or {plan.seconds:g} s. Times are medians.",
        "Largest difference: of the logits, over the largest logit of the first row. Same class: part of the pixels.",
        f"Compared, and int8 calibrated, on {images}. With random weights classes lie close together, and what is made "
        "for the purpose is no data: the agreement of a trained model is told by export.py and eval.py.",
    ]
    return "\n".join(["## How it was measured", "", *(f"- {line}" for line in lines)])


def _mib(paths: Sequence[Path]) -> float:
    return sum(path.stat().st_size for path in paths) / 2**20


def _mib_of(model: torch.nn.Module) -> float:
    return sum(value.nbytes for value in (*model.parameters(), *model.buffers())) / 2**20
