"""FastFCN: what an upsampling module buys, and what it costs."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

# albumentations asks the network for its newest version at import, unless this stands before.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

if TYPE_CHECKING:
    from fastfcn.checkpoint import build_data, build_model, load_model
    from fastfcn.exporting.runtime import load_exported
    from fastfcn.official import load_official
    from fastfcn.prediction.segmentation import Segmentation
    from fastfcn.prediction.segmenter import Segmenter, segment

#: Where each public function and class is.
_PLACES = {
    "Segmentation": "fastfcn.prediction.segmentation",
    "Segmenter": "fastfcn.prediction.segmenter",
    "build_data": "fastfcn.checkpoint",
    "build_model": "fastfcn.checkpoint",
    "load_exported": "fastfcn.exporting.runtime",
    "load_model": "fastfcn.checkpoint",
    "load_official": "fastfcn.official",
    "segment": "fastfcn.prediction.segmenter",
}

__all__ = [
    "Segmentation",
    "Segmenter",
    "build_data",
    "build_model",
    "load_exported",
    "load_model",
    "load_official",
    "segment",
]


def __getattr__(name: str) -> object:
    """Import the public functions when they are asked for: torch and Hydra take seconds."""
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'fastfcn' has no attribute {name!r}")
