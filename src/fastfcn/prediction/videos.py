"""Videos and cameras, frame by frame, and the videos that are written of them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Self

import cv2
import numpy as np

from fastfcn.errors import UnreadableError, UserError
from fastfcn.prediction.outputs import not_written
from fastfcn.types import UInt8Array
from fastfcn.whole_files import replacing

#: Frames by which the rate of a camera is measured: what it says of itself is often not what it gives.
MEASURED = 8

#: Of a video that does not tell its own, and of a camera at most, in frames a second.
USUAL_RATE, HIGHEST_RATE = 25.0, 60.0


class Frames:
    """The frames of a video file or a camera, in order, turned as the file says.

    Args:
        source: Path of a file, or number of a camera.
        limit: How many frames are read at most; None reads all.

    Attributes:
        rate: Frames a second; of a camera as measured on its first frames.
        expected: How many frames there should be; None where that is not known.
        given: How many have been read.

    Raises:
        UnreadableError: The file is no video.
        UserError: There is no such camera.
    """

    def __init__(self, source: Path | int, *, limit: int | None = None) -> None:
        self.source = source
        self.limit = limit
        self.given = 0
        with _quiet():
            self._capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        first = self._read() if self._capture.isOpened() else None
        if first is None:
            self._capture.release()
            if isinstance(source, int):
                raise UserError(f"input=webcam:{source}: there is no camera of this number that gives pictures.")
            raise UnreadableError(f"{source} cannot be read as a video: replace it or leave it out.")
        count = 0 if isinstance(source, int) else int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        known = count if count > 0 else None
        self.expected = min(known or limit, limit or known) if known or limit else None  # type: ignore[type-var]
        self._first = [first]
        self.rate = self._measured() if isinstance(source, int) else self._told()
        self.size = first.shape[:2]

    def __iter__(self) -> Iterator[UInt8Array]:
        """(H, W, 3) uint8, RGB, each; the camera's end is the limit, or whoever ends the program."""
        for frame in chain(self._first, self._rest()):
            if frame.shape[:2] != self.size:
                frame = np.asarray(cv2.resize(frame, self.size[::-1]), dtype=np.uint8)
            self.given += 1
            yield frame
            if self.given == self.limit:
                return

    def close(self) -> None:
        """Let go of the file or the camera."""
        self._capture.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _rest(self) -> Iterator[UInt8Array]:
        while (frame := self._read()) is not None:
            yield frame

    def _read(self) -> UInt8Array | None:
        good, frame = self._capture.read()
        return np.ascontiguousarray(frame[..., ::-1]) if good and frame is not None else None

    def _told(self) -> float:
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        return rate if np.isfinite(rate) and 0 < rate < 1000 else USUAL_RATE

    def _measured(self) -> float:
        begin = time.monotonic()
        more = [self._read() for _ in range(min(MEASURED, self.limit or MEASURED) - 1)]
        self._first += [frame for frame in more if frame is not None]
        return min(HIGHEST_RATE, max(1.0, len(more) / max(time.monotonic() - begin, 1e-3))) if more else USUAL_RATE


class Encoder(NamedTuple):
    """How a video is written: OpenCV's four letters, and the end of the file's name."""

    letters: str
    suffix: str


MPEG4, MOTION_JPEG = Encoder("mp4v", ".mp4"), Encoder("MJPG", ".avi")


@cache
def encoder() -> Encoder:
    """MPEG-4 where this OpenCV writes it, else Motion JPEG, which it always does."""
    with TemporaryDirectory() as folder, _quiet():
        path = str(Path(folder, f"try{MPEG4.suffix}"))
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*MPEG4.letters), 25.0, (64, 64))
        works = bool(writer.isOpened())
        writer.release()
    return MPEG4 if works else MOTION_JPEG


class VideoFile:
    """A video that is being written.

    Args:
        path: Of the file; its end says how it is encoded.
        rate: Frames a second.
        size: Height and width of the frames, in pixels; odd ones get a white row or column, for the encoders want it.
    """

    def __init__(self, path: Path, *, rate: float, size: tuple[int, int]) -> None:
        self._size = tuple(side + side % 2 for side in size)
        chosen = MOTION_JPEG if path.suffix.lower() == MOTION_JPEG.suffix else MPEG4
        with _quiet():
            self._writer = cv2.VideoWriter(
                str(path), cv2.VideoWriter.fourcc(*chosen.letters), rate, (self._size[1], self._size[0])
            )
        if not self._writer.isOpened():
            raise OSError(f"OpenCV cannot write {chosen.letters} here")

    def write(self, frame: UInt8Array) -> None:
        """Append a frame, (H, W, 3) uint8, RGB."""
        page = np.full((*self._size, 3), 255, np.uint8)
        page[: frame.shape[0], : frame.shape[1]] = frame[..., ::-1]
        self._writer.write(page)

    def close(self) -> None:
        """Write what is left."""
        self._writer.release()


@contextmanager
def whole_video(path: Path, *, rate: float, size: tuple[int, int]) -> Iterator[VideoFile]:
    """A video to write to, which appears under its name when it is whole; see `VideoFile`.

    Raises:
        UserError: It cannot be written.
    """
    try:
        with replacing(path) as partial:
            named = partial.with_name(f"{partial.name}{path.suffix}")  # OpenCV goes by the end of the name
            try:
                video = VideoFile(named, rate=rate, size=size)
                try:
                    yield video
                finally:
                    video.close()
                named.replace(partial)
            finally:
                named.unlink(missing_ok=True)
    except OSError as error:
        raise not_written(path, error) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without OpenCV's own lines on standard error, which say less than the sentence that follows."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when the first video is opened
    logging = cv2.utils.logging
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)
