"""Matrix products by oneDNN, which torch's own operators leave to another library on a CPU.

What ``F.linear``, ``@`` and a 1x1 convolution call in float32 is slower than oneDNN's product on some processors: the
row "+ onednn" of ``benchmark.py task=inference`` tells by how much on the one at hand.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: What torch.compile calls for a linear layer (torch >= 2.1); it has no gradient. None where torch has no oneDNN.
_PRODUCT: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def suits(x: Tensor) -> bool:
    """Whether a product of this tensor is oneDNN's: float32 on a CPU, and no gradient is wanted."""
    return (
        _PRODUCT is not None
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.numel() > 0
        and not (torch.is_grad_enabled() and x.requires_grad)
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear``: (..., C), (O, C), (O) -> (..., O)."""
    if not suits(x):
        return F.linear(x, weight, bias)
    product: Tensor = _PRODUCT(x, weight, bias, "none", [], "")
    return product
