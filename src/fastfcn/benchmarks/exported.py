"""A model in other runtimes, on the CPU: ONNX Runtime and OpenVINO, which the extra ``export`` installs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from fastfcn.benchmarks.arms import Unavailable
from fastfcn.errors import UserError
from fastfcn.exporting import onnx_file, openvino_file
from fastfcn.exporting.program import trace
from fastfcn.exporting.request import Wanted

Predict = Callable[[Tensor], Tensor]


def onnx_runtime(module: nn.Module, image: Tensor) -> Predict:
    """The module as ONNX Runtime computes it, in float32, for images of the example's shape.

    Raises:
        Unavailable: A package is not installed, or the image is on a GPU.
    """
    return _through_onnx(module, image, onnx_file.runner)


def openvino(module: nn.Module, image: Tensor, *, precision: str = "f32") -> Predict:
    """The module as OpenVINO computes it, for images of the example's shape.

    Args:
        module: (B, 3, H, W) -> (B, C, H, W).
        image: An example.
        precision: ``f32`` or ``bf16``, which OpenVINO takes as a hint.

    Raises:
        Unavailable: The package is not installed, or the image is on a GPU.
    """

    def opened(path: Path) -> Predict:
        return openvino_file.compiled(openvino_file.converted(path), precision=precision)

    return _through_onnx(module, image, opened)


def openvino_bfloat16(module: nn.Module, image: Tensor) -> Predict:
    """As `openvino`, in bfloat16."""
    return openvino(module, image, precision="bf16")


def _through_onnx(module: nn.Module, image: Tensor, opened: Callable[[Path], Predict]) -> Predict:
    if image.device.type != "cpu":
        raise Unavailable("other runtimes are measured on the CPU alone: choose device=cpu")
    height, width = image.shape[-2:]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        try:
            onnx_file.write(trace(module.eval(), Wanted(batch=len(image)), size=(height, width)), path)
            return opened(path)
        except UserError as error:
            raise Unavailable(str(error)) from error
