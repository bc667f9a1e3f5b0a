"""A model that is loaded once and segments images of any size and kind."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from fastfcn.data.batches import normalise
from fastfcn.errors import UserError
from fastfcn.inference import Direct, Inference, Model
from fastfcn.optimize import Optimize
from fastfcn.prediction import tiles
from fastfcn.prediction.images import ImageLike, pixels
from fastfcn.prediction.opening import open_model, runnable
from fastfcn.prediction.protocols import Chosen, choose, predict
from fastfcn.prediction.segmentation import FloatArray, Ids, Segmentation, as_ids
from fastfcn.report.measuring import device_of
from fastfcn.types import DataFacts, LoadedBatch, UInt8Array


class Segmenter:
    """Segments images with a model, the facts of its classes and a protocol; any thread may ask it.

    Args:
        model: Any callable of normalised images (B, 3, H, W) float32, on `device`, that gives logits (B, C, h, w), or
            an output that has them, of the images' size or of a lower resolution; an exported model is one.
        facts: Names and colours of the C classes.
        inference: The protocol; None is one pass on the whole image.
        device: Where the images go.
        tile: Side in pixels of the tiles that larger images are cut into, a multiple of 32; `auto`: tiles of 1,024
            pixels for images of more than 16.8 million in one pass, none with windows; None never cuts.
        halo: How far a tile reaches over what is kept of it, in pixels, a multiple of 32.
        about: What belongs beside a prediction, in plain values.

    Raises:
        UserError: A value makes no sense.
    """

    def __init__(
        self,
        model: Model,
        facts: DataFacts,
        *,
        inference: Inference | None = None,
        device: str | torch.device = "cpu",
        tile: int | Literal["auto"] | None = "auto",
        halo: int = tiles.HALO,
        about: dict[str, Any] | None = None,
    ) -> None:
        tiles.check(tile, halo)
        self.model = model
        self.facts = facts
        self.inference = Direct(whole=True) if inference is None else inference
        self.device = torch.device(device)
        self.tile = tile
        self.halo = halo
        self.about = about or {}
        self._one_at_a_time = threading.Lock()

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        inference: Chosen = None,
        optimize: Optimize | bool | None = None,
        device: str = "auto",
        trusted: Sequence[str] = ("fastfcn",),
        tile: int | Literal["auto"] | None = "auto",
        halo: int = tiles.HALO,
    ) -> Self:
        """Load a model.

        Args:
            path: Of a checkpoint of this project (.ckpt, .safetensors) or of the original code (.pth, .pth.tar), or of
                an exported model (.onnx, .xml, .pt2), which computes on the CPU.
            inference: `whole`, `slide`, `multiscale`, or a protocol of `fastfcn.inference`; None: `whole` where the
                training evaluated whole images, else `slide`.
            optimize: True, or how the network is rewritten for speed.
            device: `auto` is a GPU where there is one.
            trusted: Packages whose modules the file may name.
            tile: See `Segmenter`.
            halo: See `Segmenter`.

        Raises:
            UserError: The file cannot be used, there is no such device, or a value makes no sense.
        """
        tiles.check(tile, halo)
        place = device_of(device)
        opened = open_model(path, device=place, trusted=trusted)
        chosen = choose(inference, opened.sizes)
        how = Optimize() if optimize is True else optimize or None
        model = runnable(opened.model, optimize=how, full_size=not chosen.coarse)
        about = {"model": str(path), "optimize": getattr(model, "applied", None)}
        return cls(model, opened.facts, inference=chosen, device=place, tile=tile, halo=halo, about=about)

    def __call__(self, image: ImageLike, *, probabilities: bool = False) -> Segmentation:
        """Segment an image.

        Args:
            image: A path or file:// URL, the bytes of an image file, a Pillow image, an array (H, W, 3) uint8, or a
                tensor (3, H, W) uint8.
            probabilities: Whether to keep them: 4 bytes for each class and pixel.

        Raises:
            BadSampleError: A file cannot be read as an image.
            UserError: It can be no image, or does not fit into the device's memory.
        """
        array = pixels(image)
        side = self.tile_side(*array.shape[:2])
        if side is None:
            return self.batch([array], probabilities=probabilities)[0]
        ids, scores = tiles.whole(
            self.predict, array, self.facts, side=side, halo=self.halo, probabilities=probabilities
        )
        return Segmentation(ids, self.facts, array, scores)

    def batch(self, images: Sequence[UInt8Array], *, probabilities: bool = False) -> list[Segmentation]:
        """Segment arrays of one size, (H, W, 3) uint8, in one batch and without tiles.

        Raises:
            UserError: They do not fit into the device's memory.
        """
        ids, scores = self.predict(np.stack(images), probabilities=probabilities)
        kept = [None] * len(images) if scores is None else list(scores)
        return [Segmentation(own, self.facts, image, p) for own, image, p in zip(ids, images, kept, strict=True)]

    def predict(self, images: UInt8Array, *, probabilities: bool = False) -> tuple[Ids, FloatArray | None]:
        """(B, H, W, 3) uint8 -> class ids (B, H, W), and (B, C, H, W) probabilities where they are wanted.

        Raises:
            UserError: They do not fit into the device's memory.
        """
        with self._one_at_a_time, torch.inference_mode():
            try:
                batch = self._normalised(images)
                ids, scores = predict(self.inference, self.model, batch, probabilities=probabilities)
            except torch.OutOfMemoryError as error:
                _, height, width, _ = images.shape
                raise UserError(
                    f"{len(images)} images of {width} x {height} pixels do not fit into the device's memory: choose "
                    "batch_size=1, a smaller tile=..., inference=slide or device=cpu."
                ) from error
            known = None if scores is None else scores.cpu().numpy()
            return as_ids(ids.cpu().numpy(), self.facts), known

    def tile_side(self, height: int, width: int) -> int | None:
        """The side of the tiles that an image of a size is cut into, in pixels; None where it is not cut."""
        if self.tile == "auto":
            cut = isinstance(self.inference, Direct) and height * width > tiles.AUTO_PIXELS
            return tiles.AUTO_SIDE if cut else None
        return self.tile if self.tile is not None and max(height, width) > self.tile else None

    def settings(self) -> dict[str, Any]:
        """What the class ids depend on beside the model and the image, in plain values."""
        return {
            "inference": self.inference.settings(),
            "tile": self.tile,
            "halo": self.halo,
            "optimize": self.about.get("optimize"),
        }

    def _normalised(self, images: UInt8Array) -> Tensor:
        """(B, H, W, 3) uint8 -> (B, 3, H, W) float32, as evaluation normalises."""
        image = torch.from_numpy(np.require(images, requirements=["C", "W"])).to(self.device)
        nothing = torch.zeros(0, device=self.device)
        return normalise(LoadedBatch(image=image.permute(0, 3, 1, 2), mask=nothing, name=[]))["image"]


def segment(
    image: ImageLike,
    *,
    model: str | Path | Segmenter,
    inference: Chosen = None,
    probabilities: bool = False,
    device: str = "auto",
    **options: Any,
) -> Segmentation:
    """Segment an image; for several with one model, make a `Segmenter` once and call that.

    Args:
        image: A path or file:// URL, the bytes of an image file, a Pillow image, an array (H, W, 3) uint8, or a tensor
            (3, H, W) uint8.
        model: A checkpoint's path, or a Segmenter, which has its protocol and device already.
        inference: `whole`, `slide`, `multiscale` or a protocol; None: as the model's training evaluated.
        probabilities: Whether to keep them.
        device: `auto` is a GPU where there is one.
        **options: Of `Segmenter.from_file`.

    Returns:
        Class ids at the image's own size, with names and colours of the classes.

    Raises:
        BadSampleError: A file cannot be read as an image.
        UserError: The model cannot be used, or a value makes no sense.
    """
    if isinstance(model, Segmenter):
        if inference is not None or device != "auto" or options:
            raise UserError("model is a Segmenter, which has protocol and device: choose them when it is made.")
        return model(image, probabilities=probabilities)
    return Segmenter.from_file(model, inference=inference, device=device, **options)(image, probabilities=probabilities)
