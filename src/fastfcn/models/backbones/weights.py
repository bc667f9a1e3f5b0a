"""Pretrained weights of a backbone: from a file, or by torchvision's name."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from fastfcn.errors import UserError

#: Entries of an ImageNet classifier that a backbone has no place for.
CLASSIFIER_PREFIXES = ("fc.", "classifier.", "head.")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a ``.safetensors`` file or a ``torch.save`` file of tensors; nothing in it can run code.

    Raises:
        UserError: the file is missing, damaged, or holds something else than named tensors.
    """
    if not path.is_file():
        raise UserError(f"backbone.weights: there is no file {path}; give a path, a torchvision weights name, or none.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: object = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"backbone.weights: {path} is not a readable weights file ({reason}).") from error
    except Exception as error:  # safetensors raises an exception type of its own that has no public base
        raise UserError(f"backbone.weights: {path} is not a readable weights file ({error}).") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"backbone.weights: {path} holds no state dict of tensors; save model.state_dict() and retry.")
    return {str(name): value for name, value in state.items()}


def load_backbone(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Fill a backbone; entries of a classifier are left out, everything else must fit.

    Raises:
        UserError: an entry is missing, left over, or of another shape; the first one is named.
    """
    state = {
        name.removeprefix("module.").removeprefix("backbone."): value
        for name, value in state.items()
        if not name.removeprefix("module.").startswith(CLASSIFIER_PREFIXES)
    }
    own = module.state_dict()
    for name, value in own.items():
        if name not in state:
            if name.endswith("num_batches_tracked"):  # absent from files of before torch 0.4.1
                state[name] = value
                continue
            raise UserError(f"backbone.weights: {source} has no entry {name!r}; it is of another architecture.")
        if state[name].shape != value.shape:
            shapes = f"{tuple(state[name].shape)} in the file, {tuple(value.shape)} in the model"
            raise UserError(f"backbone.weights: entry {name!r} of {source} does not fit: {shapes}.")
    if extra := sorted(set(state) - set(own)):
        raise UserError(f"backbone.weights: {source} has an entry {extra[0]!r} that this backbone has no place for.")
    module.load_state_dict(state)


def resolve(weights: str | None, named: Callable[[str], Mapping[str, Tensor]]) -> Mapping[str, Tensor] | None:
    """Find the weights that a configuration names.

    Args:
        weights: None or "none" for random weights; a path (it has a suffix or a separator); or a name.
        named: gives the state dict of a name, from torchvision's or timm's public home.

    Raises:
        UserError: the file or the name does not exist, or the download failed.
    """
    if weights is None or weights.lower() == "none":
        return None
    path = Path(weights).expanduser()
    if path.suffix or path.parent != Path() or path.exists():
        return read_state_dict(path)
    try:
        return named(weights)
    except UserError:
        raise
    except (OSError, RuntimeError) as error:  # urllib's and huggingface_hub's network errors are OSErrors
        raise UserError(
            f"backbone.weights: {weights!r} could not be downloaded ({error}); fetch the file and give its path."
        ) from error
