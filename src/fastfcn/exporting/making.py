"""A model made into one of the formats, and found to give what the model gives."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fastfcn.errors import UserError
from fastfcn.exporting import onnx_file, openvino_file, quantising, torch_file
from fastfcn.exporting.comparison import LEAST, Agreement, compare_export
from fastfcn.exporting.description import Description
from fastfcn.exporting.network import WithEnds, as_input, for_export, normalised, picture
from fastfcn.exporting.program import LEAST_SIDE, trace
from fastfcn.exporting.request import SUFFIXES, Wanted, files_of
from fastfcn.exporting.runtime import TRUSTED, load_exported
from fastfcn.models.fastfcn import FastFCN


class Compared(NamedTuple):
    """A file against eager torch on images of one size.

    Attributes:
        file: its name.
        shape: (batch, height, width).
        agreement: what was found.
    """

    file: str
    shape: tuple[int, int, int]
    agreement: Agreement


def make(
    model: FastFCN, to: str, path: Path, *, wanted: Wanted, description: Description, images: Sequence[Tensor] = ()
) -> None:
    """Write a model in a format.

    Args:
        model: In evaluation mode, on the CPU.
        to: Of `SUFFIXES`.
        path: The file; what else belongs to it (`files_of`) comes beside.
        wanted: How.
        description: What the file is to say; the least size is filled in.
        images: For `int8`: (3, height, width) uint8, of the size that is exported.

    Raises:
        UserError: The model or a package does not allow it.
    """
    half = wanted.precision == "fp16" and to != "openvino"  # which stores half precision by itself
    network = WithEnds(for_export(model, half=half), wanted, dtype=torch.float16 if half else torch.float32).eval()
    traced = trace(network, wanted, size=description.size)
    text = replace(description, least=LEAST_SIDE).to_json()
    if to == "torch_export":
        torch_file.write(traced, path, text=text)
        for compiled in files_of(path, to, wanted)[1:]:
            torch_file.write_compiled(traced, compiled, text=text, fixed=not wanted.dynamic)
        return
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source = Path(folder, "exact.onnx")
        onnx_file.write(traced, source, output=description.gives)
        if wanted.precision == "int8":
            exact, source = source, Path(folder, "int8.onnx")
            quantising.quantise(exact, source, _inputs(images, description))
        if to == "onnx":
            onnx_file.describe(source, path, text=text)
        else:
            openvino_file.write(openvino_file.converted(source), path, text=text, half=wanted.precision == "fp16")


def _inputs(images: Sequence[Tensor], description: Description) -> Iterable[Tensor]:
    for batch in quantising.batches(images, description.batch or 1):
        yield as_input(normalised(batch), description)


def compare(
    model: FastFCN, paths: Sequence[Path], *, wanted: Wanted, size: tuple[int, int], images: Sequence[Tensor] = ()
) -> list[Compared]:
    """Run files in their own runtimes and compare them with the model in eager torch.

    Args:
        model: In evaluation mode, on the CPU.
        paths: What `make` has written; those are opened that are no other's weights.
        wanted: How.
        size: (height, width) of the fixed size, or one among the free ones.
        images: Of the data, (3, height, width) uint8; pictures made for the purpose where there are none.

    Raises:
        UserError: A file gives something else.
    """
    found = []
    for path in paths:
        if path.suffix not in SUFFIXES.values():
            continue
        opened = load_exported(path, trusted=("fastfcn", TRUSTED))
        description = opened.description
        for pixels in _tries(size, description, images):
            image = normalised(pixels)
            with torch.no_grad():
                reference = model(image).logits
            ours = opened.run(as_input(image, description))
            agreement = compare_export(ours, reference, precision=wanted.precision, least=wanted.agreement)
            found.append(Compared(path.name, (len(image), *reference.shape[-2:]), agreement))
            _judge(found[-1], wanted)
    return found


def _tries(size: tuple[int, int], description: Description, images: Sequence[Tensor]) -> Iterable[Tensor]:
    """What a file is tried on: (B, 3, h, w) uint8.

    Where sizes are free, these are others than the example's: odd, unequal, the smallest, and batches of one and three.
    """
    if description.size is not None:
        assert description.batch is not None
        own = quantising.batches(images, description.batch) if images else ()
        yield from own or (picture(size, batch=description.batch, seed=seed) for seed in range(2))
        return
    least = description.least
    sides = [size, (least + 32, 2 * least + 5), (3 * least + 2, least), (least, least)]
    for index, (height, width) in enumerate(sides):
        shape = max(height, least), max(width, least)
        batch = 3 if index % 2 else 1
        if images:
            chosen = [images[(index + offset) % len(images)] for offset in range(batch)]
            yield torch.stack([quantising.fitted(image.permute(1, 2, 0).numpy(), shape) for image in chosen])
        else:
            yield picture(shape, batch=batch, seed=index)


def _judge(compared: Compared, wanted: Wanted) -> None:
    """UserError where a file gives something else than the model."""
    agreement, (batch, height, width) = compared.agreement, compared.shape
    if agreement.fine:
        return
    assert agreement.same is not None
    least = LEAST[wanted.precision] if wanted.agreement is None else wanted.agreement
    remedies = {
        "fp32": "choose another format, or export.dynamic=false",
        "fp16": "choose export.precision=fp32",
        "int8": "give more export.calibration_images, choose export.precision=fp32",
    }
    also = "" if wanted.precision == "fp32" else ", or ask for less by export.agreement"
    raise UserError(
        f"{compared.file} gives something else than the model: on {batch} x {height} x {width} pixels the class is the "
        f"same on {agreement.same:.2%} (asked: {least:.2%}), and the largest difference is {agreement.error:.1e} of "
        f"the largest logit; nothing was written: {remedies[wanted.precision]}{also}."
    )
