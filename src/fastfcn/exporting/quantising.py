"""Convolutions in 8 bits: ONNX Runtime's static quantisation, whose QDQ form OpenVINO reads as well."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastfcn.errors import UserError
from fastfcn.exporting.onnx_file import INPUT
from fastfcn.exporting.packages import need, quiet
from fastfcn.models.layers import resize
from fastfcn.types import UInt8Array

#: What is done in 8 bits. The encoding layer's products, softmax, variances and resizes keep their range.
OPERATORS = ("Conv", "Relu", "MaxPool", "Add")

#: What both sides of an Add that is done in 8 bits come from: the residual sums of a backbone, nothing else.
SUMMED = ("Conv", "Relu", "MaxPool")


def quantise(source: Path, target: Path, inputs: Iterable[Tensor]) -> None:
    """Write an ONNX file anew with convolutions in 8 bits.

    Weights are symmetric, per channel and within 7 of the 8 bits: products of two full bytes overflow the 16 bits in
    which x86 processors without VNNI add two of them, and a file may be used on any. Activations are unsigned, their
    ranges the smallest and largest value seen.

    Args:
        source: In float32.
        target: The file to write.
        inputs: What the graph's input gets, for the ranges.

    Raises:
        UserError: A package is not installed.
    """
    onnx, tools = need("onnx"), need("onnxruntime.quantization")
    reader = _reader(tools, inputs)
    with quiet(), tempfile.TemporaryDirectory(dir=target.parent) as folder:
        prepared = Path(folder, "prepared.onnx")
        need("onnxruntime.quantization.shape_inference").quant_pre_process(source, prepared, skip_symbolic_shape=True)
        tools.quantize_static(
            prepared,
            target,
            reader,
            quant_format=tools.QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            nodes_to_exclude=kept(onnx.load(prepared).graph),
            per_channel=True,
            reduce_range=True,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
            calibrate_method=tools.CalibrationMethod.MinMax,
        )


def kept(graph: Any) -> list[str]:
    """Names of the nodes that stay in float32: the classifier, and sums of anything but convolutions."""
    makers = {output: node for node in graph.node for output in node.output}
    names = [
        node.name
        for node in graph.node
        if node.op_type == "Add" and not all(name in makers and makers[name].op_type in SUMMED for name in node.input)
    ]
    name = graph.output[0].name
    while name in makers and makers[name].op_type != "Conv":
        name = makers[name].input[0]
    return [*names, makers[name].name] if name in makers else names


def _reader(tools: Any, inputs: Iterable[Tensor]) -> Any:
    """What ONNX Runtime asks for one input after the other."""

    class Reader(tools.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(inputs)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.left, None)
            return None if image is None else {INPUT: image.numpy()}

    return Reader()


def spread(count: int, wanted: int) -> list[int]:
    """So many indices of `count`, evenly spread from the first on; all of them where there are fewer."""
    return [int(index) for index in np.linspace(0, count, min(count, wanted), endpoint=False)]


def fitted(image: UInt8Array, size: Sequence[int]) -> Tensor:
    """An image that covers a size, cut to its middle: (H, W, 3) uint8 -> (3, height, width) uint8."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    scale = max(wanted / side for wanted, side in zip(size, pixels.shape[-2:], strict=True))
    pixels = resize(
        pixels, [max(wanted, round(scale * side)) for wanted, side in zip(size, pixels.shape[-2:], strict=True)]
    )
    top, left = ((side - wanted) // 2 for wanted, side in zip(size, pixels.shape[-2:], strict=True))
    return pixels[0, :, top : top + size[0], left : left + size[1]].round().to(torch.uint8)


def batches(images: Iterable[Tensor], batch: int) -> Iterable[Tensor]:
    """Images (3, h, w) in batches of exactly so many; the last is filled up with the first of it.

    Raises:
        UserError: There is no image.
    """
    found = iter(images)
    none = True
    while chosen := list(itertools.islice(found, batch)):
        none = False
        yield torch.stack([*chosen, *[chosen[0]] * (batch - len(chosen))])
    if none:
        raise UserError(
            "export.precision=int8 is calibrated on images, and the training split has none: choose data=..."
        )
