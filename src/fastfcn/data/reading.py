"""The bytes of a sample's files; an error that comes and goes, as on a network's disk, is waited for."""

from __future__ import annotations

import errno
import logging
import time
from pathlib import Path

from fastfcn.errors import UnreadableError

log = logging.getLogger(__name__)

#: Seconds before each further try to read a file.
PAUSES = (0.1, 0.5, 2.0)

#: Errors that may be over at the next try. A file that is not there, or that may not be read, is tried once.
PASSING = frozenset(
    getattr(errno, name)
    for name in (
        "EIO", "ESTALE", "EREMOTEIO", "ETIMEDOUT", "EAGAIN", "EBUSY", "EINTR", "ENFILE", "EMFILE", "ENOMEM", "ENETDOWN",
        "ENETUNREACH", "ENETRESET", "ECONNRESET", "ECONNABORTED", "EHOSTDOWN", "EHOSTUNREACH", "ENOTCONN", "ESHUTDOWN",
    )
    if hasattr(errno, name)
)  # fmt: skip


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        BadSampleError: It cannot be read, or not after all tries.
    """
    for number, pause in enumerate((*PAUSES, None), start=1):
        try:
            return path.read_bytes()
        except OSError as error:
            passing = error.errno in PASSING
            if not passing or pause is None:
                tries = f", {number} times" if passing else ""
                raise UnreadableError(
                    f"{path} cannot be read ({error.strerror or error}{tries}): restore it or take it out of the split."
                ) from error
            log.warning("%s could not be read (%s): once more in %g s", path, error.strerror, pause)
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")
