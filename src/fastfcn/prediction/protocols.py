"""How an image of any size is shown to a model: the protocols of evaluation, and the probabilities that they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastfcn.errors import UserError
from fastfcn.inference import Direct, Inference, Model, SlidingWindow
from fastfcn.models.layers import resize
from fastfcn.prediction.opening import Sizes
from fastfcn.types import SegmentationOutput

#: By name, as the options of conf/inference.
PROTOCOLS: Mapping[str, Callable[..., Inference]] = {
    "whole": partial(Direct, whole=True),
    "slide": partial(SlidingWindow, base_size=None, crop_size=None),
    "multiscale": partial(
        SlidingWindow, base_size=None, crop_size=None, scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75), flip=True
    ),
}

#: A protocol, its name, or what makes it of the sizes of a training; None chooses by those sizes.
Chosen = str | Inference | Callable[..., Inference] | None


def choose(wanted: Chosen, sizes: Sizes) -> Inference:
    """The protocol for images at their own size.

    Where none is chosen it is one pass on the whole image if the training evaluated whole images, else windows at one
    scale: a model that was trained on crops of images of one size knows things by the size that they had there.

    Args:
        wanted: Which; of what makes one, sizes that are None are filled in.
        sizes: Of the training. Windows are of the training crop's size; of the base size where whole images are
            evaluated, for the crop is small for speed then.

    Raises:
        UserError: There is no such protocol, or it shows only a part of an image.
    """
    if isinstance(wanted, str):
        if wanted not in PROTOCOLS:
            raise UserError(f"inference={wanted}: choose one of {', '.join(PROTOCOLS)}.")
        wanted = PROTOCOLS[wanted]
    if isinstance(wanted, partial) and wanted.func is Direct and wanted.keywords.get("whole") is None:
        optimize = bool(wanted.keywords.get("optimize"))
        wanted = partial(PROTOCOLS["whole" if sizes.whole else "slide"], optimize=optimize)
    elif wanted is None:
        wanted = PROTOCOLS["whole" if sizes.whole else "slide"]
    if isinstance(wanted, partial):
        window = sizes.base_size if sizes.whole else sizes.crop_size
        known = {"base_size": sizes.base_size, "crop_size": window}
        wanted = wanted(**{k: v for k, v in known.items() if k in wanted.keywords and wanted.keywords[k] is None})
    elif isinstance(wanted, type) or not hasattr(wanted, "predict"):
        raise UserError(f"inference={wanted!r} is no protocol: choose one of {', '.join(PROTOCOLS)}.")
    chosen: Any = wanted
    if not chosen.whole:
        raise UserError(
            f"inference=center_crop shows the model only a part of an image: choose one of {', '.join(PROTOCOLS)}."
        )
    return chosen  # type: ignore[no-any-return]


def predict(inference: Inference, model: Model, image: Tensor, *, probabilities: bool) -> tuple[Tensor, Tensor | None]:
    """Class ids of a batch, and their probabilities.

    Args:
        inference: The protocol.
        model: Gives logits.
        image: (B, 3, H, W), normalised.
        probabilities: Whether they are wanted; else the full-size scores are never held all at once with windows.

    Returns:
        (B, H, W) class ids, and (B, C, H, W) float32 that sum to 1, or None. Those of windows are the scores, which the
        original code does not normalise, divided by their sum.

    Raises:
        UserError: The protocol gives no probabilities, or its scores are beyond what float32 holds.
    """
    if isinstance(inference, Direct):
        logits = _full_size(model(image), image)
        return _classes(logits), logits.float().softmax(1) if probabilities else None
    if not probabilities:
        return inference.predict(model, image), None
    if not isinstance(inference, SlidingWindow):
        raise UserError(f"{type(inference).__name__} gives no probabilities: choose inference=whole or slide.")
    scores = inference(model, image)
    ids, total = _classes(scores), scores.sum(1, keepdim=True)
    if not bool(torch.isfinite(total).all()):
        raise UserError(
            "the sums of exp(logits) are beyond float32: choose inference.fusion=softmax for probabilities."
        )
    return ids, scores.div_(total)


def _full_size(output: Tensor | SegmentationOutput, image: Tensor) -> Tensor:
    logits = output if isinstance(output, Tensor) else output.logits
    return resize(logits, image.shape[-2:])


def _classes(scores: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H, W): the argmax, which torch finds sooner as by-product of the maximum."""
    return scores.max(1).indices
