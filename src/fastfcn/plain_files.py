"""Files of torch.save, and of weights, opened as data: nothing in them can run code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fastfcn import weights_file
from fastfcn.durable import damage
from fastfcn.errors import UserError
from fastfcn.exporting.request import is_exported
from fastfcn.own_entry import CHECKPOINT_KEY

#: Where a converted checkpoint keeps what the original code's has besides: `score` and `unused`.
ORIGINAL_KEY = "original"

#: What the best checkpoint of a training is chosen by.
SCORE = "val/score"


def load_plain(path: Path) -> Any:
    """What is in a file of torch.save, or of safetensors, to the CPU; nothing in the file can run code.

    What a file of weights holds (`fastfcn.weights_file`) has the entries of a checkpoint of weights alone.

    Raises:
        UserError: the file is damaged, or holds more than tensors and plain types.
    """
    if is_exported(path) and path.is_file():
        raise UserError(
            f"{path} is a model for another runtime, no checkpoint: eval.py, predict.py and fastfcn.load_exported take "
            "it, and benchmark.py by task=exports task.files=[...]."
        )
    if path.suffix == weights_file.SUFFIX and path.is_file():
        return _weights_alone(path)
    # torch itself reads a file with a flipped bit as if nothing were wrong.
    if path.is_file() and (found := damage(path)) is not None:
        raise UserError(f"{path} is no checkpoint: damaged ({found}).")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file whatever its bytes run into: AssertionError, TypeError, ...
        if named := re.search(r"GLOBAL (\S+) was not an allowed global", str(error)):
            raise UserError(
                f"{path} is no checkpoint of plain types alone: it names {named[1]}, which is not loaded because it "
                "could run code; save its weights as a plain state dict where you trust the file."
            ) from error
        # torch's first sentence says what is wrong, the rest is advice on its options; some errors have only a name.
        reason = " ".join(f"{type(error).__name__}: {error}".splitlines()[:1]).split(". ")[0].rstrip(".: ")
        raise UserError(f"{path} is no checkpoint: damaged, or not of plain types alone ({reason}).") from error


def _weights_alone(path: Path) -> dict[str, Any]:
    weights, about = weights_file.read(path)
    if about is None:
        return {"state_dict": weights}
    more = {key: about.pop(key, None) for key in ("epoch", "score")}
    return {
        "epoch": more["epoch"] or 0,
        "state_dict": {f"model.{name}": value for name, value in weights.items()},
        CHECKPOINT_KEY: about,
        ORIGINAL_KEY: {"score": more["score"]},
    }


def best_score(content: Mapping[str, Any]) -> float | None:
    """The best score so far of a checkpoint's training, kept by export.py or by Lightning's checkpoint callback."""
    score = content.get(ORIGINAL_KEY, {}).get("score")
    for state in content.get("callbacks", {}).values():
        if isinstance(state, Mapping) and state.get("monitor") == SCORE:
            score = state.get("best_model_score")
    return None if score is None else float(score)


class Behind(NamedTuple):
    """What a training had behind it when a checkpoint was written.

    Attributes:
        steps: optimizer steps.
        epochs: whole epochs.
    """

    steps: int = 0
    epochs: int = 0


def what_is_behind(content: Mapping[str, Any]) -> Behind:
    """Steps and epochs behind a checkpoint; Lightning counts an epoch as completed after its checkpoint was written."""
    loops = content.get("loops", {}).get("fit_loop", {})
    progress = loops.get("epoch_progress", {}).get("current", {})
    epochs = progress.get("processed", int(content.get("epoch", 0)) + 1)
    return Behind(steps=int(content.get("global_step", 0)), epochs=int(epochs))
