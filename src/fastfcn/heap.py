"""What the C library does with memory that was freed: give it back to the system, or keep it for what comes next.

A pass through a network takes hundreds of MiB, frees them, and the next takes as many again. glibc gives a large block
back at once, and the heap's end where much of it is free; the system then hands out other pages, each of which it fills
with zeros and brings in by a fault of its own. Kept memory is taken again without either. The rows "+ kept heap" of
``benchmark.py`` tell what that buys on the machine at hand.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import Any

#: Parameters of mallopt(3), by the numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4

#: Where glibc's own thresholds come to once a block of 32 MiB was freed: it moves them no longer when they were set.
_GIVING = {_TRIM_THRESHOLD: 64 << 20, _MMAP_THRESHOLD: 32 << 20, _MMAP_MAX: 65536}

#: Nothing is cut off the heap's end, and no block is a mapping of its own.
_KEEPING = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0}

#: By which a user sets the same (mallopt(3)).
_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_")


_state = {"kept": False}


def keep() -> bool:
    """Keep freed memory in this process, and in those that it forks, from now on.

    The heap grows over the first few passes: a block that was freed may be some bytes too small for another of its size
    that is to be aligned.

    Returns:
        Whether it is kept: not where the C library is another than glibc, nor where the environment has settings of its
        own for malloc, which stay.
    """
    _state["kept"] = _set(_KEEPING)
    return _state["kept"]


def is_kept() -> bool:
    """Whether this process keeps freed memory by `keep`."""
    return _state["kept"]


def possible() -> bool:
    """Whether `keep` does anything here; it knows nothing of another allocator that was loaded before glibc's."""
    users = any(name in os.environ for name in _VARIABLES) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    return not users and hasattr(_library(), "gnu_get_libc_version")


def give_back() -> None:
    """Give freed memory back again, what was kept at once; the opposite of `keep`."""
    if _state["kept"]:
        _set(_GIVING)
        _state["kept"] = False
    trim()


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keep freed memory for a while."""
    keep()
    try:
        yield
    finally:
        give_back()


def trim() -> None:
    """Give back the pages that are free now, where the C library can."""
    library = _library()
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def _library() -> Any:
    """The C library that this process runs with; None on Windows, which has no such name for it."""
    return ctypes.CDLL(None) if os.name == "posix" else None


def _set(parameters: dict[int, int]) -> bool:
    library = _library()
    return possible() and all(library.mallopt(parameter, value) == 1 for parameter, value in parameters.items())
