"""OpenVINO's IR (.xml, with its weights in .bin beside), on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastfcn.errors import UserError
from fastfcn.exporting.description import KEY
from fastfcn.exporting.packages import need, quiet


def converted(source: Path) -> Any:
    """An ONNX file as OpenVINO's model: its own reader of torch's graphs knows fewer operations.

    Raises:
        UserError: The package is not installed.
    """
    runtime = need("openvino")
    with quiet():
        return runtime.convert_model(source)


def write(model: Any, path: Path, *, text: str, half: bool) -> None:
    """Write a model and its description.

    Args:
        model: What `converted` gives.
        path: The .xml; the .bin lies beside it.
        text: The description.
        half: Weights in half precision; the arithmetic stays the runtime's choice.
    """
    runtime = need("openvino")
    model.set_rt_info(text, [KEY])
    runtime.save_model(model, path, compress_to_fp16=half)


def description_of(path: Path) -> str | None:
    """What a file says of itself.

    Raises:
        UserError: It is no IR, or its weights are not beside it.
    """
    model = _read(path)
    return str(model.get_rt_info([KEY]).value) if model.has_rt_info([KEY]) else None


def runner(path: Path, *, precision: str = "f32") -> Callable[[Tensor], Tensor]:
    """Open a file: the input's tensor -> the output's."""
    return compiled(_read(path), precision=precision)


def compiled(model: Any, *, precision: str = "f32") -> Callable[[Tensor], Tensor]:
    """Compile a model, for as many threads as torch has.

    Args:
        model: Of one input and one output.
        precision: `f32` or `bf16`, of the arithmetic: a hint. Without it OpenVINO takes bfloat16 where the chip has it.
    """
    options: Mapping[str, Any] = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    found = need("openvino").Core().compile_model(model, "CPU", options)
    return lambda image: torch.from_numpy(found(image.contiguous().numpy())[0])  # a copy, unless one asks otherwise


def _read(path: Path) -> Any:
    runtime = need("openvino")
    if not path.with_suffix(".bin").is_file():
        raise UserError(
            f"{path} has its weights in {path.with_suffix('.bin').name}, which is not beside it: copy both."
        )
    try:
        return runtime.Core().read_model(path)
    except RuntimeError as error:
        raise UserError(f"{path} is no model of OpenVINO, or damaged: export it again.") from error
