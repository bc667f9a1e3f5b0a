"""Checkpoints of the original FastFCN code, of mmsegmentation, and of PyTorch-Encoding, whose names are the original's.

What model a file holds, its entries' names and shapes tell; nothing else is asked for.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastfcn import mmseg
from fastfcn.checkpoint import Checkpoint, model_from_checkpoint, unfilled_model
from fastfcn.data import ade20k, pascal_context
from fastfcn.data.palette import distinct_colors
from fastfcn.errors import UserError
from fastfcn.models.fastfcn import FastFCN
from fastfcn.official_names import COMMON, HEADS, IMAGENET, TARGETS, UPSAMPLERS, Renames, infer, renamed
from fastfcn.plain_files import load_plain
from fastfcn.types import UNKNOWN_DATA, DataFacts


def load_official(path: str | Path) -> FastFCN:
    """Open a checkpoint of the original code, or of mmsegmentation's FastFCN; names and shapes tell the architecture.

    Args:
        path: Of `model_best.pth.tar`, `checkpoint.pth.tar`, `fastfcn_r50-d32_jpu_*.pth` or a bare state dict.

    Returns:
        The model in evaluation mode, on the CPU, in float32.

    Raises:
        UserError: The file is missing, damaged or of another model; the first entry that does not fit is named.
    """
    return model_from_checkpoint(read_official(path))


def read_official(path: str | Path) -> Checkpoint:
    """Read a checkpoint of the original code, or of mmsegmentation, as one of this project; nothing in it can run code.

    Raises:
        UserError: As `load_official`.
    """
    path = Path(path).expanduser()
    content = _read(path)
    state = content["state_dict"]
    if mmseg.is_one(state):
        return _read_mmseg(state, content.get("meta"), path=path)
    found = infer(state, path=path)
    weights = {renamed(name, found.renames, path=path): value for name, value in state.items() if name not in IMAGENET}
    checkpoint = Checkpoint(
        found.config(),
        {},
        facts_of(found.num_classes),
        weights,
        # The original counts the epochs that are done, this project the one that a file was written in.
        epoch=max(int(_number(content.get("epoch")) or 0) - 1, 0),
        score=_number(content.get("best_pred")),
        unused={name: state[name] for name in IMAGENET if name in state},
    )
    _check_shapes(checkpoint, found.renames, path=path)
    return checkpoint


def _read_mmseg(state: Mapping[str, Tensor], meta: object, *, path: Path) -> Checkpoint:
    found = mmseg.infer(state, meta, path=path)
    facts = mmseg.facts_in(meta, found.num_classes) or facts_of(found.num_classes)
    checkpoint = Checkpoint(found.config, {}, facts, mmseg.weights_of(state, found, path=path), epoch=0)
    _check_shapes(checkpoint, found.renames, path=path)
    return checkpoint._replace(weights=mmseg.reordered(checkpoint.weights))


def to_official(checkpoint: Checkpoint, *, path: str | Path) -> dict[str, Tensor]:
    """A checkpoint's weights under the names of the original code.

    The ImageNet classifier, which the original keeps and never uses, is filled with zeros where the checkpoint does not
    come from the original.

    Args:
        checkpoint: Of this project.
        path: Its file, for the message.

    Raises:
        UserError: The original code has no such model.
    """
    config = checkpoint.model_config
    names = {target: name for name, target in TARGETS.items()}
    head, upsample = (names.get(str(config.get(part, {}).get("_target_")), "") for part in ("head", "upsample"))
    backbone = config.get("backbone", {})
    if head not in HEADS or upsample not in UPSAMPLERS or backbone.get("stem") != "deep":
        raise UserError(
            f"{path} is a model that the original code does not have: it has Encoding, PSP or ASPP on none, jpu or "
            "jpu_x, with a backbone of deep stem (resnet50s, resnet101s, resnet152s)."
        )
    renames = (*COMMON, *HEADS[head], *UPSAMPLERS[upsample])
    back = tuple((ours, official) for official, ours in renames)
    state = {renamed(name, back, path=Path(path)): value for name, value in checkpoint.weights.items()}
    _check_options(checkpoint, state, path=Path(path))
    return {**{name: torch.zeros(shape) for name, shape in IMAGENET.items()}, **checkpoint.unused, **state}


def facts_of(num_classes: int) -> DataFacts:
    """What a number of classes tells of the data set: the original code has three, this project two of them."""
    if num_classes == len(ade20k.CLASS_NAMES):
        return DataFacts("ade20k", ade20k.CLASS_NAMES, ade20k.PALETTE)
    names = pascal_context.CLASS_NAMES
    if num_classes in (len(names), len(names) - 1):
        return DataFacts("pascal_context", names[-num_classes:], pascal_context.PALETTE[-num_classes:])
    return DataFacts(
        UNKNOWN_DATA, tuple(f"class {index}" for index in range(num_classes)), distinct_colors(num_classes)
    )


def _read(path: Path) -> dict[str, Any]:
    """What a file holds, with a `state_dict` without the prefix that DataParallel gives."""
    if not path.is_file():
        raise UserError(f"official={path}: there is no such file.")
    # The original keeps its best score as a NumPy number.
    with torch.serialization.safe_globals(_numbers()):
        content = load_plain(path)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} holds no state dict of the original code, neither bare nor as state_dict.")
    about = content if state is not content else {}
    return {**about, "state_dict": {str(name).removeprefix("module."): value for name, value in state.items()}}


def _number(value: object) -> float | None:
    """A number of any kind that a checkpoint holds; None for all else."""
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 else None
    return float(value) if isinstance(value, int | float | np.number) and np.isfinite(value) else None


def _numbers() -> list[Any]:
    """What NumPy needs to unpickle a number, under its names of before and since NumPy 2; none of it can do harm."""
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    kinds = {type(np.dtype(code)) for code in np.typecodes["AllInteger"] + "?efd"}
    return [*((scalar, name) for name in names), np.dtype, *kinds, codecs.encode]


def _check_options(checkpoint: Checkpoint, state: Mapping[str, Tensor], *, path: Path) -> None:
    """Refuse a model of the original's parts with other options: the same weights would give something else in it.

    Rates, dilations, bins and kernel sizes are not in the weights; all are in how the modules print.
    """
    standard = checkpoint._replace(model_config=infer(state, path=path).standard().config())
    with torch.device("meta"):
        ours, theirs = (str(unfilled_model(each)).splitlines() for each in (checkpoint, standard))
    for mine, original in zip_longest(ours, theirs, fillvalue="nothing"):
        if mine != original:
            raise UserError(
                f"{path} is a model that the original code does not have: it has {mine.strip()} where that has "
                f"{original.strip()}; export one that was trained with the options' default values."
            )


def _check_shapes(checkpoint: Checkpoint, renames: Renames, *, path: Path) -> None:
    """Name the first entry that does not fit, as the file calls it."""
    with torch.device("meta"):
        model = unfilled_model(checkpoint)
    back = tuple((ours, official) for official, ours in renames)
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in checkpoint.weights.items()}
    for name in (*own, *theirs):
        if own.get(name) == theirs.get(name):
            continue
        official = renamed(name, back, path=path)
        if name not in theirs and name.endswith("num_batches_tracked"):  # files of before torch 0.4.1
            checkpoint.weights[name] = torch.zeros((), dtype=torch.int64)
        elif name not in theirs:
            raise UserError(f"{path} has no entry {official}: it is damaged, or of another model.")
        elif name not in own:
            raise UserError(f"{path} has the entry {official}, which its model has no place for.")
        else:
            raise UserError(
                f"{path}: the entry {official} is {theirs[name]}, but its model needs {own[name]}: it is of another "
                "model."
            )
