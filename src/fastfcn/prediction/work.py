"""The work on what was found: one file, a folder, a camera."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from fastfcn.errors import BadSampleError, UserError
from fastfcn.prediction import clips, images, large, outputs, stills
from fastfcn.prediction.headers import Header, header
from fastfcn.prediction.plan import Plan
from fastfcn.prediction.record import Record
from fastfcn.prediction.segmenter import Segmenter
from fastfcn.prediction.sources import STANDARD, Item
from fastfcn.preparation.progress import track


def one(segmenter: Segmenter, plan: Plan, source: Path | bytes | int, kind: str, out: Path) -> None:
    """Make one file of one input, or send it to standard output.

    Args:
        segmenter: Who segments.
        plan: What belongs to it.
        source: A file, the bytes of an image, or the number of a camera.
        kind: What is made.
        out: The file, or `-`.

    Raises:
        BadSampleError: The input cannot be read.
        UserError: There is no such camera, or the file cannot be written.
    """
    if kind == "video":
        assert not isinstance(source, bytes), "standard input is an image"
        _clip(segmenter, plan, source, {kind: out})
    elif isinstance(source, Path) and str(out) != STANDARD and (tiled := _tiled(segmenter, source)) is not None:
        about, side = tiled
        how = {"side": side, "batch_size": plan.batch_size}
        large.segment(segmenter, source, about, {kind: out}, alpha=plan.alpha, **how)
    else:
        image = (
            images.decode(source, "standard input") if isinstance(source, bytes) else images.pixels(Path(str(source)))
        )
        data = outputs.content(segmenter(image, probabilities=kind == "probabilities"), kind, alpha=plan.alpha)
        if str(out) == STANDARD:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        outputs.write(data, out)
    print(f"{kind + ':':<13}{out}")


def _tiled(segmenter: Segmenter, path: Path) -> tuple[Header, int] | None:
    """Header of an image and side of its tiles, where it is segmented in tiles."""
    about = header(path)
    side = segmenter.tile_side(about.height, about.width)
    return None if side is None else (about, side)


def camera(segmenter: Segmenter, plan: Plan, number: int, kept: Record) -> None:
    """Segment what a camera sees until Ctrl-C, or the number of frames that is wanted."""
    name = f"webcam{number}-{time.strftime('%Y%m%d-%H%M%S')}"
    targets = plan.targets(Item(Path(name), name, "video"))
    paths = {kind: kept.folder / place for kind, place in targets.items()}
    done = _clip(segmenter, plan, number, paths)
    kept.add(name, None, targets, frames=done.frames)
    print(f"predictions: {done.frames} frames in {kept.folder}")


def files(segmenter: Segmenter, plan: Plan, items: Sequence[Item], kept: Record) -> None:
    """Segment images and videos, but for those of which the predictions are there.

    Raises:
        BadSampleError: One cannot be read, and that is not to be skipped.
        UserError: None of them can be read, or something cannot be written.
    """
    left = [item for item in items if not kept.has(item.name, item.path, plan.targets(item))]
    skipped: list[str] = []

    def bad(error: BadSampleError) -> None:
        if not plan.skip:
            raise type(error)(f"{str(error).rstrip('.')}, by on_bad_image=skip.") from error
        skipped.append(str(error))
        print(f"skipped: {error}", flush=True)

    moving, still = ([item for item in left if item.kind == kind] for kind in ("video", "image"))
    with track("segmenting", total=len(items), done=len(items) - len(left)) as advance:
        stills.segment(segmenter, plan, still, kept, advance=advance, bad=bad)
        for item in moving:
            try:
                _video(segmenter, plan, item, kept)
            except BadSampleError as error:
                bad(error)
            advance()
    before, now = len(items) - len(left), len(left) - len(skipped)
    if items and len(skipped) == len(items):
        raise UserError(f"None of the {len(items)} files can be read, the first because {skipped[0]}")
    there = f", {before} were there already" if before else ""
    lost = f", {len(skipped)} could not be read and were skipped" if skipped else ""
    print(f"predictions: {now} written to {kept.folder}{there}{lost}")


def _video(segmenter: Segmenter, plan: Plan, item: Item, kept: Record) -> None:
    targets = plan.targets(item)
    paths = {kind: kept.folder / place for kind, place in targets.items()}
    done = _clip(segmenter, plan, item.path, paths)
    # With a limit, more of the video is wanted when the limit is another: it is not taken for done.
    if plan.frames is None:
        kept.add(item.name, item.path, targets, frames=done.frames, expected=done.expected)


def _clip(segmenter: Segmenter, plan: Plan, source: Path | int, targets: Mapping[str, Path]) -> clips.Done:
    """Segment a video or what a camera sees, and say how far it went."""
    batch_size = 1 if isinstance(source, int) else plan.batch_size
    if isinstance(source, int):
        print("segmenting what the camera sees; Ctrl-C ends it", flush=True)
    done = clips.segment(segmenter, source, targets, alpha=plan.alpha, batch_size=batch_size, limit=plan.frames)
    if isinstance(source, Path) and done.expected is not None and done.frames < done.expected:
        print(f"{source} ends after {done.frames} of {done.expected} frames: what was read is written.", flush=True)
    return done
