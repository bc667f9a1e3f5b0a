"""PNG files that are written whole or not at all, in the background too."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from PIL import Image
from torch import Tensor

from fastfcn.errors import UserError
from fastfcn.types import UInt8Array
from fastfcn.whole_files import replacing

#: Of a background writer: deflating takes most of the time, and lets the other threads go on.
THREADS = 2

#: How many pictures may wait to be written.
WAITING = 32


def save(values: UInt8Array, path: Path, *, optimize: bool = False) -> None:
    """Write a picture; whoever looks sees the old file or the new one, never half of one.

    Args:
        values: (H, W) grey or (H, W, 3) RGB.
        path: The file; its folder is made.
        optimize: Look for the smallest file, which takes longer.

    Raises:
        UserError: It cannot be written.
    """
    try:
        with replacing(path) as partial:
            Image.fromarray(values).save(partial, format="PNG", optimize=optimize)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}): see that there is room and that its folder may be "
            "written to, then run the command again."
        ) from error


class PngWriter:
    """Writes pictures in threads of its own, while whoever has made them goes on.

    What fails to be written is told at the next call, or at the end: `close` waits until all is on the disk.

    Args:
        threads: How many write.
        waiting: How many pictures may wait; a call that would add one more waits for the oldest.
    """

    def __init__(self, *, threads: int = THREADS, waiting: int = WAITING) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="png")
        self._waiting = waiting
        self._written: deque[Future[None]] = deque()

    def submit(self, values: Tensor, path: Path) -> None:
        """Have a picture written.

        Args:
            values: (H, W) or (H, W, 3) uint8, on any device; not to be changed afterwards. It is a thread that waits
                until a GPU has computed it.
            path: The file.

        Raises:
            UserError: One before it could not be written; nothing more is.
        """
        while len(self._written) >= self._waiting or (self._written and self._written[0].done()):
            self._oldest()
        self._written.append(self._pool.submit(_write, values, path))

    def close(self) -> None:
        """Wait until all is written; a second call does nothing.

        Raises:
            UserError: Something could not be written.
        """
        while self._written:
            self._oldest()
        self._pool.shutdown()

    def cancel(self) -> None:
        """Leave out what waits; what is being written is finished."""
        self._written.clear()
        self._pool.shutdown(cancel_futures=True)

    def _oldest(self) -> None:
        try:
            self._written.popleft().result()
        except BaseException:
            self.cancel()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.cancel()


def _write(values: Tensor, path: Path) -> None:
    save(values.cpu().numpy(), path)
