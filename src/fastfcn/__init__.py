"""FastFCN: what an upsampling module buys, and what it costs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

# albumentations asks the network for its newest version at import, unless this stands before.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

if TYPE_CHECKING:
    from fastfcn.checkpoint import build_data, build_model, load_model
    from fastfcn.exporting.runtime import load_exported
    from fastfcn.official import load_official

__all__ = ["build_data", "build_model", "load_exported", "load_model", "load_official"]


def __getattr__(name: str) -> object:
    """Import the public functions when they are asked for: torch and Hydra take seconds."""
    if name in __all__:
        from fastfcn import checkpoint, official
        from fastfcn.exporting import runtime

        return getattr({"load_official": official, "load_exported": runtime}.get(name, checkpoint), name)
    raise AttributeError(f"module 'fastfcn' has no attribute {name!r}")
