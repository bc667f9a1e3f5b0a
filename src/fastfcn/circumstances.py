"""What a machine refuses, in one sentence: a full disk, a folder that cannot be written, no memory, a port in use."""

from __future__ import annotations

import errno

_FULL = (errno.ENOSPC, errno.EDQUOT)

#: What is wrong with a path; the system's own words follow it.
_PATHS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)

#: What torch says of a file that it cannot write on.
_NO_ROOM = ("No space left on device", "inline_container.cc", "iostream error", "PytorchStreamWriter failed writing")

#: What torch, numpy and CUDA say when memory is out.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "Storage size calculation overflowed")


def told(error: BaseException) -> str | None:
    """The sentence for an error that the machine is the cause of, or a path that was given; None for any other."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno is not None:
        return _system(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(s in text for s in _NO_MEMORY)):
        return (
            f"there is not memory enough ({_shortened(text)}): lower data.batch_size, data.crop_size, the image's size "
            "or the model's width, or choose trainer.precision=bf16-mixed."
        )
    if not isinstance(error, RuntimeError):
        return None
    if any(words in text for words in _NO_ROOM):
        return _full(_shortened(text))
    if "DataLoader worker" in text and ("killed by signal" in text or "exited unexpectedly" in text):
        return (
            f"a worker process of the loader has ended ({_shortened(text)}): it mostly lacked memory, so lower "
            "data.num_workers or data.crop_size."
        )
    if "EADDRINUSE" in text:
        return _port()
    return None


def _system(error: OSError) -> str | None:
    reason = error.strerror or type(error).__name__
    if error.errno in _FULL:
        return _full(str(error.filename) if error.filename else "a file")
    if error.errno == errno.EADDRINUSE:
        return _port()
    if error.errno == errno.EMFILE:
        return "too many files are open: raise the limit (`ulimit -n`), or lower data.num_workers."
    if error.errno == errno.EFBIG:
        return f"{error.filename or 'a file'} grows beyond the limit on a file's size: raise it (`ulimit -f`)."
    if error.errno == errno.EIO:
        return f"{error.filename or 'a file'} cannot be read or written ({reason}): look after the disk."
    if error.errno in _PATHS and error.filename:
        return (
            f"{error.filename} cannot be used ({reason}): choose a path that exists or can be made, and that may be "
            "read and written."
        )
    return None


def _full(what: str) -> str:
    return (
        f"the disk is full, {what} could not be written: free some space, or choose another place; a training goes on "
        "by resume=auto in its directory."
    )


def _port() -> str:
    return "the port by which the processes find each other is in use: set MASTER_PORT to a free one, or unset it."


def _shortened(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:157]}..."
