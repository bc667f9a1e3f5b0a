"""The arms of inference: the plain formulation, each switch that makes it faster, and other runtimes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastfcn import heap
from fastfcn.benchmarks import exported
from fastfcn.benchmarks.arms import Arm, Unavailable, compiling
from fastfcn.benchmarks.machine import has_bfloat16
from fastfcn.benchmarks.predictions import (
    OFF,
    Made,
    Predict,
    channels_last,
    logits_of,
    mixed,
    optimized,
    plainly,
    with_tf32,
)
from fastfcn.errors import UserError
from fastfcn.exporting.comparison import Agreement, compare_logits
from fastfcn.exporting.network import for_export
from fastfcn.models.fastfcn import FastFCN
from fastfcn.optimize.running import COMPILED_FROM

PLAIN = "plain"


class Row(NamedTuple):
    """A row of the table of arms.

    Attributes:
        name: of the row.
        make: from a model in evaluation mode, which it leaves as it is, and an example image; `Unavailable` where it
            cannot be made here.
        precision: of its matrix products.
        torch_allocates: False where another runtime holds the memory.
        kept_heap: whether freed memory stays with the process (`fastfcn.heap`).
    """

    name: str
    make: Callable[[FastFCN, Tensor], Made]
    precision: str = "float32"
    torch_allocates: bool = True
    kept_heap: bool = False


#: What is neither of the network nor of the compiler: memory that was freed stays with the process.
KEPT = "+ kept heap"

#: The switches of `fastfcn.optimize.Optimize` in the order in which the table adds one to another: name of the row,
#: what it sets, and its precision. From `KEPT` on, freed memory is kept too.
LADDER: Sequence[tuple[str, Mapping[str, Any], str]] = (
    ("drop_branches", {"drop_branches": True}, "float32"),
    ("+ fold_bn", {"fold_bn": True}, "float32"),
    ("+ channels_last", {"channels_last": True}, "float32"),
    ("+ commute", {"commute": True}, "float32"),
    ("+ winograd", {"winograd": True}, "float32"),
    ("+ onednn", {"onednn": True}, "float32"),
    (KEPT, {}, "float32"),
    ("+ compile, depthwise", {"compile": True, "depthwise": True}, "float32"),
    ("+ bfloat16, without compile", {"compile": False, "dtype": "bfloat16"}, "bfloat16"),
    ("+ bfloat16, with compile", {"compile": True, "dtype": "bfloat16"}, "bfloat16"),
)

#: And on a GPU.
GRAPHS = ("+ cuda_graphs", {"compile": False, "cuda_graphs": True}, "bfloat16")


def rows(device: torch.device) -> list[Row]:
    """All arms of a device, the plain one first."""
    return [
        Row(PLAIN, plainly),
        Row("as the model is", lambda model, _: Made(logits_of(copy.deepcopy(model)))),
        Row("as it is, channels_last", channels_last),
        Row("as it is, channels_last, autocast", mixed, "bfloat16"),
        Row("as it is, compiled", _optimized({**OFF, "compile": True})),
        *([Row("as it is, channels_last, TF32", with_tf32, "tf32")] if device.type == "cuda" else []),
        *_ladder(device),
        Row("ONNX Runtime", _other(exported.onnx_runtime), torch_allocates=False),
        Row("OpenVINO", _other(exported.openvino), torch_allocates=False),
        Row("OpenVINO bfloat16", _other(exported.openvino_bfloat16), "bfloat16", torch_allocates=False),
    ]


def make_arms(
    model: FastFCN, image: Tensor, chosen: Sequence[Row], *, label: str = "", compared: bool = True
) -> tuple[list[Arm], dict[str, tuple[Row, str]]]:
    """Arms of one model.

    Args:
        model: In evaluation mode.
        image: (B, 3, H, W).
        chosen: The rows; outputs are compared with the plain formulation's.
        label: Put before the names, where several models are measured together.
        compared: Whether outputs are compared at all: the plain formulation may not fit into the memory.

    Returns:
        The arms, and by name the rows that cannot be made here, each with the reason.
    """
    reference = plainly(model, image).predict(image) if compared else None
    arms, missing = [], {}
    for row in chosen:
        name = f"{label}{row.name}"
        try:
            if row.precision == "bfloat16" and not has_bfloat16(image.device):
                raise Unavailable("this chip does not compute in bfloat16 by itself")
            made = row.make(model, image)
        except Unavailable as error:
            missing[name] = row, str(error)
            continue
        arms.append(_arm(name, row, made, image, reference))
    return arms, missing


def _arm(name: str, row: Row, made: Made, image: Tensor, reference: Tensor | None) -> Arm:
    eager = made.eager

    def check() -> Agreement:
        assert reference is not None
        return compare_logits(made.predict(image), reference, precision=row.precision)

    return Arm(
        name=name,
        call=lambda: made.predict(image),
        precision=row.precision,
        eager=None if eager is None else lambda: eager(image),
        check=None if reference is None else check,
        items=len(image),
        torch_allocates=row.torch_allocates,
        kept_heap=row.kept_heap,
    )


def _ladder(device: torch.device) -> list[Row]:
    """The rows of the switches, each with those above it."""
    found, switches, kept_heap = [], dict(OFF), False
    for name, more, precision in (*LADDER, GRAPHS) if device.type == "cuda" else LADDER:
        switches, kept_heap = {**switches, **more}, kept_heap or name == KEPT
        make = _optimized(dict(switches))
        found.append(Row(name, _kept(make) if name == KEPT else make, precision, kept_heap=kept_heap))
    return found


def _optimized(switches: Mapping[str, Any]) -> Callable[[FastFCN, Tensor], Made]:
    def make(model: FastFCN, image: Tensor) -> Made:
        try:
            predict = logits_of(optimized(model, switches))
        except UserError as error:  # no compiler
            raise Unavailable(str(error)) from error
        if not (switches["compile"] or switches["cuda_graphs"]):
            return Made(predict)
        compiling(lambda: predict(image), COMPILED_FROM)
        return Made(predict, logits_of(optimized(model, {**switches, "compile": False, "cuda_graphs": False})))

    return make


def _kept(make: Callable[[FastFCN, Tensor], Made]) -> Callable[[FastFCN, Tensor], Made]:
    """The row of the heap alone, which there is only where freed memory can be kept."""

    def checked(model: FastFCN, image: Tensor) -> Made:
        if not heap.possible():
            raise Unavailable("freed memory can be kept by glibc alone, where the environment does not set it up")
        return make(model, image)

    return checked


def _other(convert: Callable[[nn.Module, Tensor], Predict]) -> Callable[[FastFCN, Tensor], Made]:
    """A row of another runtime, whose operators are counted on the model that it was made from."""

    def make(model: FastFCN, image: Tensor) -> Made:
        module = for_export(model)
        return Made(convert(module, image), logits_of(module))

    return make
