"""A network as a graph of torch.export, for one size of images or for any."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from fastfcn.errors import UserError
from fastfcn.exporting.packages import quiet
from fastfcn.exporting.request import Wanted

#: The smallest and the largest free side, in pixels: from the former on every level of the pyramid has two positions.
LEAST_SIDE, MOST = 33, 1 << 14

#: The largest free batch.
MOST_IMAGES = 1 << 10

#: Of an example whose sizes are to be free: two sides that differ, and a batch that is not 1, so that no graph is made
#: for the special cases.
EXAMPLE = (2, 3, 96, 160)


def trace(module: nn.Module, wanted: Wanted, *, size: tuple[int, int] | None) -> ExportedProgram:
    """Make a graph of a network.

    Args:
        module: One image tensor -> one tensor, in evaluation mode.
        wanted: Whether sizes are free, and what the input is.
        size: (height, width) where they are not free.

    Raises:
        UserError: torch.export cannot follow the network.
    """
    dtype = torch.uint8 if wanted.takes == "uint8" else torch.float32
    if not wanted.dynamic:
        assert size is not None
        return _export(module, torch.zeros(wanted.batch, 3, *size, dtype=dtype), None)
    batch, height, width = (
        Dim("batch", max=MOST_IMAGES),
        *(Dim(name, min=LEAST_SIDE, max=MOST) for name in ("height", "width")),
    )
    return _export(module, torch.zeros(EXAMPLE, dtype=dtype), {0: batch, 2: height, 3: width})


def _export(module: nn.Module, example: torch.Tensor, free: dict[int, Any] | None) -> ExportedProgram:
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(module, (example,), dynamic_shapes=None if free is None else (free,))
    except Exception as error:  # of what a module does that no graph can say, there are many kinds
        told = " ".join(str(error).split())[:200]
        remedy = "choose export.dynamic=false" if free is not None else "choose another backbone"
        raise UserError(
            f"torch.export cannot make a graph of this model ({type(error).__name__}: {told}): {remedy}."
        ) from error
