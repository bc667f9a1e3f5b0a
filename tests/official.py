"""Golden vectors of the official code: its weights, rebuilt from their names."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GOLDENS = Path(__file__).parent / "goldens"


def fill(name: str, shape: Sequence[int]) -> Tensor:
    """The value of an entry, a function of its official name and shape (goldens/README.md)."""
    r = np.random.default_rng(zlib.crc32(name.encode()))
    last = name.rsplit(".", 1)[-1]
    value: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    if last == "num_batches_tracked":
        return torch.zeros(tuple(shape), dtype=torch.int64)
    if last == "running_mean" or last == "bias":
        value = 0.1 * r.standard_normal(shape)
    elif last == "running_var":
        value = r.uniform(0.5, 1.5, shape)
    elif last == "scale":
        value = r.uniform(-1, 0, shape)
    elif last == "codewords":
        value = r.uniform(-1, 1, shape).astype(np.float32) / np.sqrt(prod(shape))
    elif last == "weight" and len(shape) == 1:
        value = r.uniform(0.5, 1.0, shape)
    else:
        value = r.standard_normal(shape) * np.sqrt(1 / prod(shape[1:]))
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def official_state(golden: str) -> dict[str, Tensor]:
    """The state dict of the official code behind ``goldens/<golden>.npz``."""
    keys: dict[str, list[int]] = json.loads((GOLDENS / f"{golden}.keys.json").read_text())
    return {name: fill(name, shape) for name, shape in keys.items()}
