"""Weights as safetensors, with the facts of their model: a file of tensors and text, which other programs read too.

The tensors have the names of the model's entries. The metadata's entry `fastfcn` is JSON: what a checkpoint of this
project says of its model and its data, its epoch and its best score. Its entry `sha256` is over that text and all
tensors, for the format has no checksum of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fastfcn.errors import UserError
from fastfcn.own_entry import CHECKPOINT_KEY

#: How the name of such a file ends.
SUFFIX = ".safetensors"

#: Of the metadata: the checksum.
SHA256 = "sha256"


def write(path: Path, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write a file.

    Args:
        path: The file.
        weights: The model's entries, by name.
        about: What is said of them, in plain types.
    """
    # The format knows neither other orders in memory than the shape's, nor two names of one storage.
    plain = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in weights.items()}
    text = json.dumps(about)
    save_file(plain, path, metadata={CHECKPOINT_KEY: text, SHA256: _digest(text, plain)})


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Read a file, to the CPU; nothing in it can run code.

    Returns:
        The tensors by name, and what is said of them; None where this project did not write the file.

    Raises:
        UserError: It is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            weights: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if CHECKPOINT_KEY not in metadata:
            return weights, None
        text = metadata[CHECKPOINT_KEY]
        about = json.loads(text)
    except Exception as error:  # safetensors raises an exception type of its own that has no public base
        raise UserError(f"{path} is no file of weights: damaged ({type(error).__name__}: {error}).") from error
    if metadata.get(SHA256) != _digest(text, weights):
        raise UserError(f"{path} is no file of weights: damaged (its checksum is not that in its metadata).")
    return weights, about


def _digest(text: str, weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(weights):
        value = weights[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
