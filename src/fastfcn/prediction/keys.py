"""Types of the keys by which predict.py is told what to segment; `fastfcn.config_types` compares values with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

TYPES: Mapping[str, object] = {
    "input": str | list[str] | None,
    "output": list[str] | None,
    "alpha": float,
    "batch_size": int,
    "tile": int | Literal["auto"] | None,
    "halo": int,
    "frames": int | None,
    "on_bad_image": str,
    "overwrite": bool,
}
