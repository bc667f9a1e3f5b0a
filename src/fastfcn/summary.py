"""Parameters and floating-point operations of each part of a model."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

#: The parts in the order in which data flow through them; the auxiliary head works in training alone.
INFERENCE_PARTS = ("backbone", "upsample", "head")
PARTS = (*INFERENCE_PARTS, "aux_head")


class Cost(NamedTuple):
    """What a part costs.

    Attributes:
        parameters: Number of learned values.
        gflops: 1e9 floating-point operations of one image's forward pass, a multiply-add counting as two.
    """

    parameters: int
    gflops: float


class ModelSummary(NamedTuple):
    """Costs of a model's parts for one image.

    Attributes:
        parts: Cost by the part's name; ``aux_head`` only where the model has one.
        image_size: (height, width) of the image in pixels.
    """

    parts: dict[str, Cost]
    image_size: tuple[int, int]

    @property
    def inference(self) -> Cost:
        """Cost of all that a prediction uses, which leaves the auxiliary head out."""
        used = [self.parts[name] for name in INFERENCE_PARTS]
        return Cost(sum(cost.parameters for cost in used), sum(cost.gflops for cost in used))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for loggers and reports: ``{"image_size": [H, W], "backbone": {"parameters": ...}, ...}``."""
        costs = {**self.parts, "inference": self.inference}
        return {"image_size": list(self.image_size), **{name: cost._asdict() for name, cost in costs.items()}}

    def table(self) -> Table:
        """The costs as a table for the terminal."""
        height, width = self.image_size
        table = Table(
            title=f"Model at {height} x {width} pixels",
            caption="2 FLOPs per multiply-add of convolutions and matrix products",
        )
        table.add_column("part")
        table.add_column("parameters", justify="right")
        table.add_column("GFLOPs", justify="right")
        for name in INFERENCE_PARTS:
            table.add_row(name, *_cells(self.parts[name]))
        table.add_section()
        table.add_row("inference", *_cells(self.inference), style="bold")
        if "aux_head" in self.parts:
            table.add_section()
            table.add_row("aux_head (training only)", *_cells(self.parts["aux_head"]), style="dim")
        return table


def summarise(model: nn.Module, *, image_size: tuple[int, int]) -> ModelSummary:
    """Counts the parameters and operations of a model's parts.

    The count runs on copies without data, on the ``meta`` device: nothing is computed, no memory of the model's size is
    taken, and the model, its mode and its statistics stay as they are. Convolutions and matrix products are counted;
    normalisation, activations and resizing, a few per cent at most, are not.

    Args:
        model: Has children ``backbone`` (image -> pyramid), ``upsample`` (pyramid -> pyramid), ``head`` (upsampled
            pyramid -> anything) and ``aux_head`` (pyramid of the backbone -> anything), the last possibly None.
        image_size: (height, width) in pixels.
    """
    parts = {name: part for name in PARTS if (part := getattr(model, name)) is not None}
    shadows = {
        name: _without_data(part).float().eval() for name, part in parts.items()
    }  # whatever trainer.precision is
    image = torch.zeros(1, 3, *image_size, device="meta")

    gflops: dict[str, float] = {}

    def run(name: str, value: Any) -> Any:
        with FlopCounterMode(display=False) as counter:
            result = shadows[name](value)
        gflops[name] = counter.get_total_flops() / 1e9
        return result

    with torch.no_grad():
        pyramid = run("backbone", image)
        run("head", run("upsample", pyramid))
        if "aux_head" in shadows:
            run("aux_head", pyramid)
    parameters = {name: sum(value.numel() for value in part.parameters()) for name, part in parts.items()}
    return ModelSummary({name: Cost(parameters[name], gflops[name]) for name in parts}, image_size)


def _without_data(module: nn.Module) -> nn.Module:
    """A deep copy whose parameters and buffers have shapes but no data."""

    def shadow(value: Tensor) -> Tensor:
        empty = torch.empty_like(value, device="meta", requires_grad=False)
        return nn.Parameter(empty, requires_grad=False) if isinstance(value, nn.Parameter) else empty

    # What is in the memo counts as copied already, so the data are never touched.
    memo = {id(value): shadow(value) for value in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, memo)


def _cells(cost: Cost) -> tuple[str, str]:
    return f"{cost.parameters / 1e6:,.2f} M", f"{cost.gflops:,.2f}"
