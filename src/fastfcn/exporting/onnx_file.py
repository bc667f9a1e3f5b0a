"""ONNX, and ONNX Runtime, on the CPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from fastfcn.errors import UserError
from fastfcn.exporting.description import KEY
from fastfcn.exporting.packages import need, quiet

#: The graph's input.
INPUT = "image"


def write(program: ExportedProgram, path: Path, *, output: str = "logits") -> None:
    """Write a program as ONNX.

    Args:
        program: Of one input and one output.
        path: The file.
        output: What the output is called.

    Raises:
        UserError: A package is not installed.
    """
    need("onnx")
    need("onnxscript")
    with quiet():
        # Names of free sizes would be torch's, as s77; there is one input, in the order that everybody knows.
        made = torch.onnx.export(
            program, (), dynamo=True, verbose=False, input_names=[INPUT], output_names=[output], optimize=True
        )
        assert made is not None
        made.save(path)


def describe(source: Path, target: Path, *, text: str) -> None:
    """Write a file anew, with a description in its metadata."""
    onnx = need("onnx")
    model = onnx.load(source)
    onnx.helper.set_model_props(model, {KEY: text})
    onnx.save(model, target)


def description_of(path: Path) -> str | None:
    """What a file says of itself.

    Raises:
        UserError: It is no ONNX file.
    """
    onnx = need("onnx")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's, whatever its bytes run into
        raise UserError(f"{path} is no ONNX file, or damaged: export it again.") from error
    return next((prop.value for prop in model.metadata_props if prop.key == KEY), None)


def session(path: Path) -> Any:
    """Open a file in ONNX Runtime, with as many threads as torch has.

    Raises:
        UserError: The package is not installed, or it cannot read the file.
    """
    runtime = need("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3  # errors
    try:
        return runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no public base
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be opened by ONNX Runtime ({reason}): export it again.") from error


def runner(path: Path) -> Callable[[Tensor], Tensor]:
    """Open a file: the input's tensor -> the output's."""
    opened = session(path)
    [name] = [value.name for value in opened.get_inputs()]
    return lambda image: torch.from_numpy(opened.run(None, {name: image.contiguous().numpy()})[0])
