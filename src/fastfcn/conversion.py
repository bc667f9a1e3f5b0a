"""Checkpoints of the original code to this project's, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fastfcn.checkpoint import read_checkpoint
from fastfcn.errors import UserError
from fastfcn.official import read_official, to_official
from fastfcn.own_entry import CHECKPOINT_KEY, own_entry
from fastfcn.plain_files import ORIGINAL_KEY
from fastfcn.whole_files import check_folder, replacing

#: What a file can become, and the end of its name.
SUFFIXES = {"ckpt": ".ckpt", "official": ".pth.tar"}


def convert(*, ckpt_path: str | None, official: str | None, to: str, out: str | None = None) -> Path:
    """Write a checkpoint in the other form.

    Weights, auxiliary head, classes, epoch and best score are kept, and there and back nothing of them changes; the
    optimizer's state is not.

    Args:
        ckpt_path: A checkpoint of this project.
        official: Or one of the original code.
        to: `ckpt` or `official`, the other one.
        out: The file to write; None: beside the checkpoint, with the other suffix.

    Returns:
        The file.

    Raises:
        UserError: What is asked for makes no sense, the checkpoint cannot be used, or the file is there already.
    """
    if to not in SUFFIXES:
        raise UserError(f"to={to}: choose one of {', '.join(SUFFIXES)}.")
    source = official if to == "ckpt" else ckpt_path
    if source is None or None not in (ckpt_path, official):
        wanted = (
            "official=..., a checkpoint of the original code" if to == "ckpt" else "ckpt_path=..., one of this project"
        )
        raise UserError(f"to={to} needs {wanted}, and nothing else to convert.")
    path = Path(source).expanduser()
    bare = path.name.removesuffix(".tar").removesuffix(".pth").removesuffix(".ckpt")
    target = Path(out).expanduser() if out else path.with_name(bare + SUFFIXES[to])
    if target.exists():
        raise UserError(f"{target} is there already: delete it, or choose another name by out=...")
    check_folder(target.parent, key="out")
    content = _as_ckpt(path) if to == "ckpt" else _as_official(path)
    try:
        with replacing(target) as unfinished:
            torch.save(content, unfinished)
    except (OSError, RuntimeError) as error:  # the latter is what torch makes of a disk without room
        raise UserError(f"{target} could not be written ({error}): see that there is room for it.") from error
    print(f"written: {target}")
    return target


def _as_ckpt(path: Path) -> dict[str, Any]:
    checkpoint = read_official(path)
    config = {"model": checkpoint.model_config, "data": checkpoint.data_config}
    return {
        "epoch": checkpoint.epoch,
        "state_dict": {f"model.{name}": value for name, value in checkpoint.weights.items()},
        CHECKPOINT_KEY: own_entry(config, checkpoint.facts),
        ORIGINAL_KEY: {"score": checkpoint.score, "unused": dict(checkpoint.unused)},
    }


def _as_official(path: Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(path)
    return {
        "epoch": checkpoint.epoch + 1,  # the original counts those that are done
        "state_dict": to_official(checkpoint, path=path),
        "best_pred": checkpoint.score or 0.0,
    }
