"""What is made of which inputs, and where it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fastfcn.errors import UserError
from fastfcn.prediction import outputs, videos
from fastfcn.prediction.sources import Item


class Plan(NamedTuple):
    """What is made of the inputs.

    Attributes:
        kinds: Of files; None is `outputs.OF_IMAGES` and `outputs.OF_VIDEOS`.
        alpha: Share of the colours in overlays.
        batch_size: Images of one size, frames or tiles that go through the model together.
        skip: Whether what cannot be read is left out; else it ends the call.
        frames: How many of a video or a camera at most.
    """

    kinds: tuple[str, ...] | None
    alpha: float
    batch_size: int
    skip: bool
    frames: int | None

    def of(self, kind: str) -> tuple[str, ...]:
        """What is made of an image, or of a video."""
        if kind == "image":
            return tuple(each for each in self.kinds or outputs.OF_IMAGES if each != "video")
        return self.kinds or outputs.OF_VIDEOS

    def check(self, items: Sequence[Item], *, camera: bool, bare: bool) -> tuple[str, ...]:
        """All kinds that are made of the inputs; the mask alone where a bare file is wanted and nothing is said.

        Raises:
            UserError: Nothing would be made of an image.
        """
        moving = camera or any(item.kind == "video" for item in items)
        if not moving and self.kinds is not None and "video" in self.kinds:
            raise UserError("output=[video] is made of videos and cameras: choose mask, ids, overlay or probabilities.")
        if any(item.kind == "image" for item in items) and not self.of("image"):
            raise UserError("output=[video] makes nothing of the images among the inputs: name more kinds.")
        if moving:
            return self.of("video")
        return ("mask",) if bare and self.kinds is None else self.of("image")

    def targets(self, item: Item) -> dict[str, str]:
        """Where each kind goes, below the folder of predictions: a file; of a video's frames a folder of files."""
        if item.kind == "image":
            return {kind: f"{kind}/{item.name}{outputs.SUFFIXES[kind]}" for kind in self.of("image")}
        suffix = item.path.suffix
        frames = item.name if item.name.endswith(suffix) else f"{item.name}{suffix}"  # an image may have the bare name
        return {
            kind: f"video/{item.name}{videos.encoder().suffix}" if kind == "video" else f"{kind}/{frames}"
            for kind in self.of("video")
        }
