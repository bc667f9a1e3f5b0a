"""A batch in parts: the gradients of the whole, with the activations of one part at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
import torch
from torch import Tensor

from fastfcn.errors import UserError
from fastfcn.types import Batch

#: What gives the terms of the loss of a part, weighted so that the parts' sum is that of the batch.
Terms = Callable[[Batch], dict[str, Tensor]]


def parts(batch: Batch, images: int | None) -> list[Batch]:
    """A batch in parts of so many images, the last one perhaps of fewer; None is the batch as it is."""
    if images is None or images >= len(batch["mask"]):
        return [batch]
    names = [batch["name"][begin : begin + images] for begin in range(0, len(batch["name"]), images)]
    split = zip(batch["image"].split(images), batch["mask"].split(images), names, strict=True)
    return [Batch(image=image, mask=mask, name=name) for image, mask, name in split]


def terms_in_parts(compute: Terms, parted: list[Batch], backward: Callable[[Tensor], None]) -> dict[str, Tensor]:
    """The terms of the loss of a batch; all parts but the last have gone through their backward pass by then.

    The values are those of the whole batch, what they can be differentiated by is the last part.

    Args:
        compute: gives the terms of a part.
        parted: the parts.
        backward: adds the gradients of a loss to those that are there.
    """
    *first, last = parted
    before: dict[str, Tensor] = {}
    for part in first:
        terms = compute(part)
        backward(torch.stack(list(terms.values())).sum())
        before = {name: term.detach() + before.get(name, 0) for name, term in terms.items()}
    terms = compute(last)
    return {name: term + before[name] for name, term in terms.items()} if before else terms


@contextmanager
def told_of_one_image(images: int) -> Iterator[None]:
    """Tell what to do where a training step of a model cannot take so few images.

    Raises:
        UserError: of the one value of a channel that a globally pooled map of a single image leaves, the variance is no
            number.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"data.batch_size gives each process {images} image, of which BatchNorm has one value per channel in this "
            "model: choose at least 2 per process, or another head."
        ) from error


def backward_within_a_step(module: pl.LightningModule) -> Callable[[Tensor], None]:
    """A backward pass as the Trainer makes it behind the step: accumulated, scaled, and not under autocast.

    DDP does not share these gradients: it waits for a backward pass behind its own forward.
    """

    def backward(loss: Tensor) -> None:
        trainer = module.trainer
        loss = loss / trainer.accumulate_grad_batches
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None:
            loss = scaler.scale(loss)
        with torch.autocast(loss.device.type, enabled=False):
            loss.backward()

    return backward
