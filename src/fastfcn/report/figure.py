"""The picture of the kind of Figure 6: what each run makes of the test images that tell the runs apart best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastfcn.contours import contour_distance, square_max
from fastfcn.models.fastfcn import FastFCN
from fastfcn.pictures import Example, denormalise
from fastfcn.types import IGNORE_INDEX, STAND_IN, Batch, DataFacts


class Choice(NamedTuple):
    """A test image with what the models make of it.

    Attributes:
        name: of the image.
        example: image, truth and one prediction per model.
        hard_errors: one per model, the share of the hard pixels that it gets wrong.
    """

    name: str
    example: Example
    hard_errors: tuple[float, ...]

    @property
    def merit(self) -> float:
        """How far the models' shares of errors are apart; of a single model, its share of errors."""
        least = min(self.hard_errors) if len(self.hard_errors) > 1 else 0.0
        return max(self.hard_errors) - least


def choose(
    models: Sequence[FastFCN],
    batches: Iterable[Batch],
    *,
    facts: DataFacts,
    count: int,
    candidates: int,
    layout: torch.memory_format = torch.channels_last,
) -> tuple[list[Choice], int]:
    """Predict images and keep those on whose hard pixels the models differ most; of equals the earlier.

    Args:
        models: in evaluation mode, all on one device.
        batches: of the split, in order.
        facts: of the data set; its thin classes are hard.
        count: how many to keep.
        candidates: how many images to look at, from the first on.
        layout: memory layout of images and weights.

    Returns:
        The chosen images, the best first, and the number of images that were looked at.
    """
    thin = torch.tensor([facts.class_names.index(name) for name in facts.thin_classes], dtype=torch.long)
    device = next(models[0].parameters()).device
    chosen: list[Choice] = []
    seen = 0
    for batch in batches:
        if seen >= candidates:
            break
        images, masks = batch["image"][: candidates - seen], batch["mask"][: candidates - seen]
        with torch.inference_mode():
            on_device = images.to(device).contiguous(memory_format=layout)
            predictions = [model(on_device).logits.argmax(1).cpu() for model in models]
        hard = hard_pixels(masks, thin)
        for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
            if batch["name"][index] == STAND_IN:
                continue
            ours = [prediction[index] for prediction in predictions]
            errors = tuple(_share(prediction != mask, hard[index]) for prediction in ours)
            example = Example(denormalise(image), mask.numpy(), tuple(prediction.numpy() for prediction in ours))
            chosen.append(Choice(batch["name"][index], example, errors))
        seen += len(images)
        chosen = sorted(chosen, key=lambda choice: -choice.merit)[:count]  # sorting keeps the order of equals
    return chosen, seen


def hard_pixels(mask: Tensor, thin: Tensor) -> Tensor:
    """Labelled pixels of a thin class or near a contour: (B, H, W) class ids -> (B, H, W) bool."""
    distance = contour_distance(mask.shape[-2], mask.shape[-1])
    labels = mask[:, None].float()
    both = torch.cat([labels, -labels], dim=1)
    highest, lowest = square_max(both, distance).unbind(1)
    near = highest != -lowest  # another class within the window
    hard: Tensor = (near | torch.isin(mask, thin)) & (mask != IGNORE_INDEX)
    return hard


def _share(wrong: Tensor, among: Tensor) -> float:
    return float((wrong & among).sum() / among.sum().clamp(min=1))
