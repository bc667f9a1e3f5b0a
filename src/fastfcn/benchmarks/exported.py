"""A model in other runtimes, on the CPU: ONNX Runtime and OpenVINO, which the extra ``export`` installs."""

from __future__ import annotations

import importlib
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastfcn.benchmarks.arms import Unavailable

Predict = Callable[[Tensor], Tensor]


def onnx_runtime(module: nn.Module, image: Tensor) -> Predict:
    """The module as ONNX Runtime computes it, in float32, for images of the example's shape.

    Raises:
        Unavailable: A package is not installed, or the image is on a GPU.
    """
    _on_cpu(image)
    runtime = _package("onnxruntime")
    _package("onnx")
    _package("onnxscript")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3  # errors
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder, "model.onnx")
        logging.disable(logging.INFO)  # the exporter tells each of its rewrites
        try:
            program = torch.onnx.export(module.eval(), (image,), dynamo=True, verbose=False)
        finally:
            logging.disable(logging.NOTSET)
        assert program is not None
        program.save(path)
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    [name] = [value.name for value in session.get_inputs()]
    return lambda image: torch.from_numpy(session.run(None, {name: image.numpy()})[0])


def openvino(module: nn.Module, image: Tensor, *, precision: str = "f32") -> Predict:
    """The module as OpenVINO computes it, for images of the example's shape.

    Args:
        module: (B, 3, H, W) -> (B, C, H, W).
        image: An example.
        precision: ``f32`` or ``bf16``, which OpenVINO takes as a hint.

    Raises:
        Unavailable: The package is not installed, or the image is on a GPU.
    """
    _on_cpu(image)
    runtime = _package("openvino")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        converted = runtime.convert_model(module.eval(), example_input=image, input=list(image.shape))
    compiled = runtime.Core().compile_model(
        converted,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        },
    )
    return lambda image: torch.from_numpy(compiled(image.numpy())[0])


def openvino_bfloat16(module: nn.Module, image: Tensor) -> Predict:
    """As `openvino`, in bfloat16."""
    return openvino(module, image, precision="bf16")


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unavailable(f"{name} is not installed: pip install -e .[export]") from error


def _on_cpu(image: Tensor) -> None:
    if image.device.type != "cpu":
        raise Unavailable("other runtimes are measured on the CPU alone: choose device=cpu")
