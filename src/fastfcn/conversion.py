"""Checkpoints of the original code to this project's, and back; the weights of both as safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from fastfcn import weights_file
from fastfcn.checkpoint import Checkpoint, read_checkpoint
from fastfcn.errors import UserError
from fastfcn.exporting import request
from fastfcn.hub.address import is_address
from fastfcn.official import read_official, to_official
from fastfcn.own_entry import CHECKPOINT_KEY, own_entry
from fastfcn.plain_files import ORIGINAL_KEY
from fastfcn.whole_files import check_folder, replacing

#: What a file can become, and the end of its name.
SUFFIXES = {"ckpt": ".ckpt", "official": ".pth.tar", "safetensors": weights_file.SUFFIX}

#: What it can be made of, in words.
SOURCES = {
    "ckpt": "official=..., a checkpoint of the original code",
    "official": "ckpt_path=..., one of this project",
    "safetensors": "ckpt_path=..., a checkpoint of this project, or official=..., one of the original code",
}


def convert(*, ckpt_path: str | None, official: str | None, to: str, out: str | None = None) -> Path:
    """Write a checkpoint in the other form.

    Weights, auxiliary head, classes, epoch and best score are kept, and there and back nothing of them changes; the
    optimizer's state is not. A file of safetensors is without what the original code's has besides and never reads.

    Args:
        ckpt_path: A checkpoint of this project, also its weights as safetensors.
        official: Or one of the original code.
        to: `ckpt` or `official`, the other one, or `safetensors`.
        out: The file to write; None: beside the checkpoint, with the other suffix.

    Returns:
        The file.

    Raises:
        UserError: What is asked for makes no sense, the checkpoint cannot be used, or the file is there already.
    """
    if to not in SUFFIXES:
        raise UserError(f"to={to}: choose one of {', '.join((*SUFFIXES, *request.SUFFIXES))}, hub.")
    given = {"ckpt": official, "official": ckpt_path, "safetensors": ckpt_path or official}[to]
    if given is None or None not in (ckpt_path, official):
        raise UserError(f"to={to} needs {SOURCES[to]}, and nothing else to convert.")
    path = Path(given).expanduser()
    if is_address(given) and out is None:
        raise UserError(f"{given} has no folder of yours: say where to write by out=FILE.")
    target = Path(out).expanduser() if out else path.with_name(bare_name(path.name) + SUFFIXES[to])
    if to == "safetensors" and target.suffix != weights_file.SUFFIX:
        raise UserError(f"out={out}: a file of safetensors is known by its name, let it end in {weights_file.SUFFIX}.")
    if target.exists():
        raise UserError(f"{target} is there already: delete it, or choose another name by out=...")
    check_folder(target.parent, key="out")
    checkpoint = read_checkpoint(given) if official is None else read_official(path)
    content = {} if to == "safetensors" else _as_ckpt(checkpoint) if to == "ckpt" else _as_official(checkpoint, path)
    try:
        with replacing(target) as unfinished:
            if to == "safetensors":
                weights_file.write(unfinished, checkpoint.weights, _about(checkpoint))
            else:
                torch.save(content, unfinished)
    except (OSError, RuntimeError, SafetensorError) as error:  # what torch and safetensors make of a disk without room
        raise UserError(f"{target} could not be written ({error}): see that there is room for it.") from error
    print(f"written: {target}")
    return target


def bare_name(name: str) -> str:
    """A checkpoint's name without what tells its form."""
    for suffix in (".tar", ".pth", ".ckpt", weights_file.SUFFIX):
        name = name.removesuffix(suffix)
    return name


def _own(checkpoint: Checkpoint) -> dict[str, Any]:
    return own_entry({"model": checkpoint.model_config, "data": checkpoint.data_config}, checkpoint.facts)


def _about(checkpoint: Checkpoint) -> dict[str, Any]:
    return {**_own(checkpoint), "epoch": checkpoint.epoch, "score": checkpoint.score}


def _as_ckpt(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "epoch": checkpoint.epoch,
        "state_dict": {f"model.{name}": value for name, value in checkpoint.weights.items()},
        CHECKPOINT_KEY: _own(checkpoint),
        ORIGINAL_KEY: {"score": checkpoint.score, "unused": dict(checkpoint.unused)},
    }


def _as_official(checkpoint: Checkpoint, path: Path) -> dict[str, Any]:
    return {
        "epoch": checkpoint.epoch + 1,  # the original counts those that are done
        "state_dict": to_official(checkpoint, path=path),
        "best_pred": checkpoint.score or 0.0,
    }
