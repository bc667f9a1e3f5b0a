"""A video or a camera, segmented frame by frame, and what is written of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from fastfcn.prediction import outputs
from fastfcn.prediction.legend import Legend, below
from fastfcn.prediction.segmentation import Segmentation, shares_of
from fastfcn.prediction.segmenter import Segmenter
from fastfcn.prediction.videos import Frames, whole_video
from fastfcn.types import UInt8Array

#: Of the legend below a video, whose height is the same in all frames.
LEGEND_LINES = 3


class Done(NamedTuple):
    """What was made of a video.

    Attributes:
        frames: How many were segmented.
        expected: How many there should be; None where that is not known.
    """

    frames: int
    expected: int | None


def segment(
    segmenter: Segmenter,
    source: Path | int,
    targets: Mapping[str, Path],
    *,
    alpha: float,
    batch_size: int,
    limit: int | None,
) -> Done:
    """Segment the frames of a video file or of a camera.

    A camera goes on until Ctrl-C; what it has seen until then is written.

    Args:
        segmenter: Who segments.
        source: A file, or the number of a camera.
        targets: By kind: for `video` the file, for all else the folder that gets a file for each frame.
        alpha: Share of the colours in overlays.
        batch_size: Frames that go through the model together.
        limit: How many frames at most; None takes all.

    Raises:
        UnreadableError: It is no video.
        UserError: There is no such camera, or a file cannot be written.
    """
    legend: Legend | None = None
    with Frames(source, limit=limit) as frames, ExitStack() as stack:
        height, width = frames.size
        video = None
        if "video" in targets:
            legend = Legend(segmenter.facts, width, lines=LEGEND_LINES)
            size = (height + legend.height, max(width, legend.width))
            video = stack.enter_context(whole_video(targets["video"], rate=frames.rate, size=size))
        singles = {kind: folder for kind, folder in targets.items() if kind != "video"}
        number = 0
        try:
            for found in _segmented(segmenter, frames, batch_size=batch_size, probabilities="probabilities" in singles):
                for kind, folder in singles.items():
                    path = folder / f"{number + 1:06}{outputs.SUFFIXES[kind]}"
                    outputs.write(outputs.content(found, kind, alpha=alpha), path)
                if video is not None and legend is not None:
                    video.write(below(found.overlay(alpha), legend.draw(shares_of(found.ids))))
                number += 1
        except KeyboardInterrupt:
            if not isinstance(source, int) or not number:
                raise
        for kind, folder in singles.items():  # of a longer pass before
            for path in folder.glob(f"[0-9]*{outputs.SUFFIXES[kind]}"):
                if path.stem.isdecimal() and int(path.stem) > number:
                    path.unlink()
        return Done(number, frames.expected)


def _segmented(segmenter: Segmenter, frames: Frames, *, batch_size: int, probabilities: bool) -> Iterator[Segmentation]:
    whole = segmenter.tile_side(*frames.size) is None
    coming: Iterator[UInt8Array] = iter(frames)
    while batch := list(islice(coming, batch_size)):
        if whole:
            yield from segmenter.batch(batch, probabilities=probabilities)
        else:
            yield from (segmenter(frame, probabilities=probabilities) for frame in batch)
