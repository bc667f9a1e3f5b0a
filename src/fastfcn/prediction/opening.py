"""Models from files: what a Segmenter needs of one, whatever format it comes in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fastfcn.checkpoint import Checkpoint, model_from_checkpoint
from fastfcn.evaluation import read_any
from fastfcn.exporting.runtime import describe
from fastfcn.inference import PAPER_BASE_SIZE, PAPER_CROP_SIZE, Model
from fastfcn.models.fastfcn import FastFCN
from fastfcn.optimize import Optimize
from fastfcn.types import DataFacts


class Sizes(NamedTuple):
    """How the training saw its images, which decides how others are shown to the model.

    Attributes:
        base_size: Long side at scale 1, in pixels, of windows over an image.
        crop_size: Side of the training crop, in pixels.
        whole: Whether the training evaluated whole images at their own size.
    """

    base_size: int = PAPER_BASE_SIZE
    crop_size: int = PAPER_CROP_SIZE
    whole: bool = False


class Opened(NamedTuple):
    """A model from a file.

    Attributes:
        model: What computes.
        facts: Names and colours of its classes.
        sizes: Of its training.
    """

    model: FastFCN
    facts: DataFacts
    sizes: Sizes


def open_model(path: str | Path, *, device: torch.device, trusted: Sequence[str] = ("fastfcn",)) -> Opened:
    """Open a checkpoint of this project (.ckpt, .safetensors), one of the original code, or an exported file.

    Raises:
        UserError: The file is missing, damaged, or of something else.
    """
    checkpoint = read_any(str(path))
    model = model_from_checkpoint(checkpoint, trusted=trusted).to(device)
    return Opened(model, checkpoint.facts, sizes_of(checkpoint))


def sizes_of(checkpoint: Checkpoint) -> Sizes:
    """The sizes of a checkpoint's training; the paper's where it does not tell.

    An exported file of one square size is shown windows of it.
    """
    data, known = checkpoint.data_config, Sizes()
    fixed = None if checkpoint.exported is None else describe(checkpoint.exported).size
    if fixed is not None and fixed[0] == fixed[1]:
        return Sizes(base_size=int(data.get("base_size", known.base_size)), crop_size=fixed[0], whole=False)
    return Sizes(
        base_size=int(data.get("base_size", known.base_size)),
        crop_size=int(data.get("crop_size", known.crop_size)),
        whole=bool(data.get("whole_eval", known.whole)),
    )


def runnable(model: FastFCN, *, optimize: Optimize | None, full_size: bool) -> Model:
    """What is asked for logits: the network in channels-last memory, or what `optimize` makes of it.

    Args:
        model: On its device.
        optimize: How it is rewritten for speed; None leaves it as it is.
        full_size: Whether the logits have the size of the image, or stay at the head's resolution.
    """
    if optimize is not None:
        return optimize(model, full_size=full_size)
    model = model.eval().to(memory_format=torch.channels_last)

    def logits(image: Tensor) -> Tensor:
        found: Tensor = model(image.contiguous(memory_format=torch.channels_last), full_size=full_size).logits
        return found

    return logits
