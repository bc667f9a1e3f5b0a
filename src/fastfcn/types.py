"""What flows through the house: the types that the stages hand to one another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypedDict, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

#: The label of a pixel that counts nowhere: not in the loss, not in a metric. Data sets translate their own value (0,
#: 255, ...) to this one when they read a mask. It is negative so that no number of classes collides with it.
IGNORE_INDEX = -1

#: The name of what stands in, in an evaluation's batch, for an image that cannot be read: black, of which nothing is
#: known. Who counts or draws images leaves it out.
STAND_IN = ""

#: Of ImageNet's pixels, R, G, B in 0..1: what images are normalised by.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

#: What black is once it is normalised.
BLACK = tuple(-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))

#: Name of a data set of which a checkpoint of the original code tells the number of classes alone.
UNKNOWN_DATA = "unknown"

UInt8Array = npt.NDArray[np.uint8]
Int16Array = npt.NDArray[np.int16]


class Pyramid(NamedTuple):
    """Feature maps of the last four stages, the paper's Conv2 to Conv5.

    Shapes (B, C_i, H_i, W_i). From a plain backbone the strides are 4, 8, 16, 32, from a dilated one 4, 8, 8, 8; an
    upsampler gives the last level at stride 8.
    """

    c2: Tensor
    c3: Tensor
    c4: Tensor
    c5: Tensor


class HeadOutput(NamedTuple):
    """What a head makes of a pyramid.

    Attributes:
        logits: (B, num_classes, h, w) at the head's resolution.
        presence: (B, num_classes) logits of "this class occurs in the image" (SE loss of EncNet), or None.
    """

    logits: Tensor
    presence: Tensor | None = None


class SegmentationOutput(NamedTuple):
    """What the model makes of an image.

    Attributes:
        logits: (B, num_classes, H, W) at image size, or smaller where a training resizes them in its loss.
        aux: the same of the auxiliary head; None in evaluation.
        presence: (B, num_classes) logits, or None.
    """

    logits: Tensor
    aux: Tensor | None = None
    presence: Tensor | None = None


class LoadedBatch(TypedDict):
    """A batch as a loader gives it, small enough to travel: a quarter of the bytes of a `Batch`.

    Keys:
        image: (B, 3, H, W) uint8, RGB, channels last in memory.
        mask: (B, H, W) int16 class ids, IGNORE_INDEX where nothing is known.
        name: one name per image, unique in its split; STAND_IN for what stands in for one that cannot be read.
    """

    image: Tensor
    mask: Tensor
    name: list[str]


class Batch(TypedDict):
    """A batch as the model's steps get it, on their device.

    Keys:
        image: (B, 3, H, W) float32, normalised by the ImageNet mean and standard deviation.
        mask: (B, H, W) int64 class ids, IGNORE_INDEX where nothing is known.
        name: one name per image, unique in its split; STAND_IN for what stands in for one that cannot be read.
    """

    image: Tensor
    mask: Tensor
    name: list[str]


class RawSample(NamedTuple):
    """An image with its mask before augmentation.

    Attributes:
        image: (H, W, 3) uint8, RGB; or a smaller one of the same view, where it was decoded at a reduced scale.
        mask: (H, W) int16 class ids, IGNORE_INDEX where nothing is known.
        name: unique in its split.
    """

    image: UInt8Array
    mask: Int16Array
    name: str


@dataclass(frozen=True)
class DataFacts:
    """Facts of a data set that model, metrics and pictures need.

    Attributes:
        name: the data set's short name, e.g. ``scenes``.
        class_names: one name per class id, in order.
        palette: one (R, G, B) of 0..255 per class, in order.
        thin_classes: names of the classes made of thin structures, for the thin-class IoU; may be empty.
    """

    name: str
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    thin_classes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Number of classes, the ignored label not counted."""
        return len(self.class_names)


class SegmentationDataset(Protocol):
    """What a data set gives: raw samples, and the facts about them. Augmentation is the DataModule's affair."""

    @property
    def facts(self) -> DataFacts:
        """Facts of the data set."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> RawSample: ...


#: What size of an image is enough: from its (height, width) in pixels to the smallest (height, width) to decode.
Enough = Callable[[int, int], tuple[int, int]]


@runtime_checkable
class ScalableDataset(SegmentationDataset, Protocol):
    """A data set that can decode an image at a reduced scale, which is faster, where the whole is not needed."""

    def read(self, index: int, *, enough: Enough) -> RawSample:
        """As `__getitem__`, with an image of at least the size that is enough."""
