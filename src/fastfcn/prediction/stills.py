"""Images by the folder: batches of one size, decoded ahead of the model and written behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from fastfcn.errors import BadSampleError
from fastfcn.prediction import images, large, outputs
from fastfcn.prediction.headers import Header, header
from fastfcn.prediction.plan import Plan
from fastfcn.prediction.record import Record
from fastfcn.prediction.segmentation import Segmentation
from fastfcn.prediction.segmenter import Segmenter
from fastfcn.prediction.sources import Item
from fastfcn.types import UInt8Array

#: Threads that decode, and that encode; images that wait for either.
THREADS, WAITING = 2, 4


class Loaded(NamedTuple):
    """A file that was read.

    Attributes:
        item: Which.
        image: Its pixels; None where it is to be segmented in tiles, or cannot be read.
        about: Its header, or None.
        side: Of the tiles, or None.
        error: Why it cannot be read, or None.
    """

    item: Item
    image: UInt8Array | None = None
    about: Header | None = None
    side: int | None = None
    error: BadSampleError | None = None


def segment(
    segmenter: Segmenter,
    plan: Plan,
    items: Sequence[Item],
    kept: Record,
    *,
    advance: Callable[..., None],
    bad: Callable[[BadSampleError], None],
) -> None:
    """Segment images in batches of one size; large ones in tiles, each for itself.

    Args:
        segmenter: Who segments.
        plan: What is made of them.
        items: The images.
        kept: Where it goes, and where it is noted.
        advance: Called when one is done.
        bad: Told of each that cannot be read; what it raises ends the call.

    Raises:
        UserError: Something cannot be written, or does not fit into memory.
    """
    kinds = plan.of("image")
    waiting: deque[tuple[Item, Future[dict[str, float]]]] = deque()

    def finish(most: int) -> None:
        while len(waiting) > most:
            item, written = waiting.popleft()
            kept.add(item.name, item.path, plan.targets(item), shares=written.result())
            advance()

    with ThreadPoolExecutor(THREADS) as readers, ThreadPoolExecutor(THREADS) as writers:
        try:
            for group in _grouped(_ahead(readers, segmenter, items), plan.batch_size):
                for loaded in group:
                    if loaded.error is not None:
                        bad(loaded.error)
                        advance()
                    elif loaded.about is not None and loaded.side is not None:
                        try:
                            _large(segmenter, plan, loaded.item, loaded.about, loaded.side, kept)
                        except BadSampleError as error:  # of its pixels, which its header does not show
                            bad(error)
                        advance()
                batch = [(loaded.item, loaded.image) for loaded in group if loaded.image is not None]
                if batch:
                    found = segmenter.batch([image for _, image in batch], probabilities="probabilities" in kinds)
                    for (item, _), each in zip(batch, found, strict=True):
                        targets = {kind: kept.folder / place for kind, place in plan.targets(item).items()}
                        waiting.append((item, writers.submit(_write, each, targets, plan.alpha)))
                finish(WAITING)
            finish(0)
        except BaseException:
            # What is written already counts when the call is made again.
            with suppress(Exception):
                finish(0)
            readers.shutdown(cancel_futures=True)
            writers.shutdown(cancel_futures=True)
            raise


def _large(segmenter: Segmenter, plan: Plan, item: Item, about: Header, side: int, kept: Record) -> None:
    targets = plan.targets(item)
    paths = {kind: kept.folder / place for kind, place in targets.items()}
    shares = large.segment(segmenter, item.path, about, paths, side=side, alpha=plan.alpha, batch_size=plan.batch_size)
    kept.add(item.name, item.path, targets, shares=shares)


def _write(found: Segmentation, targets: Mapping[str, Path], alpha: float) -> dict[str, float]:
    """Write what is wanted of an image; gives the classes' shares."""
    for kind, path in targets.items():
        outputs.write(outputs.content(found, kind, alpha=alpha), path)
    return found.shares()


def _read(segmenter: Segmenter, item: Item) -> Loaded:
    try:
        about = header(item.path)
        side = segmenter.tile_side(about.height, about.width)
        if side is not None:
            return Loaded(item, about=about, side=side)
        return Loaded(item, image=images.read(item.path))
    except BadSampleError as error:
        return Loaded(item, error=error)


def _ahead(readers: ThreadPoolExecutor, segmenter: Segmenter, items: Iterable[Item]) -> Iterator[Loaded]:
    """Images in order, some of them decoded before they are wanted."""
    coming: deque[Future[Loaded]] = deque()
    for item in items:
        coming.append(readers.submit(_read, segmenter, item))
        if len(coming) > WAITING:
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()


def _grouped(loaded: Iterable[Loaded], batch_size: int) -> Iterator[list[Loaded]]:
    """Images that follow one another and have one size, at most so many; each other one alone."""
    group: list[Loaded] = []
    for each in loaded:
        shape = None if each.image is None else each.image.shape
        same = group and group[0].image is not None and shape == group[0].image.shape
        if group and (not same or len(group) == batch_size):
            yield group
            group = []
        group.append(each)
    if group:
        yield group
