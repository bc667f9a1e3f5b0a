"""Signals that ask a run to end: SIGTERM and SIGUSR1 of a scheduler, SIGINT of Ctrl-C.

A training puts its end off to the next optimizer step, where it leaves a checkpoint; anything else ends at once. A
second signal ends a training at once too: checkpoints are written so that nothing is damaged by it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

#: Exit code after SIGTERM and SIGUSR1, as shells have it for SIGTERM: the run was stopped, and is to go on.
PREEMPTED = 143

#: Exit code after SIGINT (Ctrl-C), as shells have it.
INTERRUPTED = 130

#: Seconds within which a second signal is the same request: a terminal, a sweep and a cluster may each pass one on.
_SAME_REQUEST = 1.0

_NAMES = ("SIGTERM", "SIGUSR1", "SIGINT")


class Stopped(BaseException):
    """Ends a run because a signal asked for it.

    Like KeyboardInterrupt it is no error, and passes what only catches those.

    Args:
        signum: the signal.
        where: how far the run had come, for its status.
    """

    def __init__(self, signum: int, where: str = "") -> None:
        self.signum = signum
        self.reason = f"{signal.Signals(signum).name}{where and f' {where}'}"
        super().__init__(self.reason)

    @property
    def code(self) -> int:
        """The exit code."""
        return exit_code(self.signum)


def exit_code(signum: int) -> int:
    """The exit code of a run that a signal has ended."""
    return INTERRUPTED if signum == signal.SIGINT else PREEMPTED


class _Asked:
    """What has been asked of this process.

    Attributes:
        signum: the first signal; 0 for none.
        when: it came, by time.monotonic.
        put_off: whether the end waits for a step's end.
        last_words: called before an end at once, with the reason.
        process: that listens; its workers, which it forks, have its handlers and leave the decision to it.
    """

    signum = 0
    when = 0.0
    put_off = False
    last_words: Callable[[int, str], object] | None = None
    process = 0


_asked = _Asked()


def listen() -> None:
    """Take the signals of this process from now on; one that it was started to ignore stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        return
    _asked.process, _asked.signum, _asked.put_off = os.getpid(), 0, False
    for name in _NAMES:
        number = getattr(signal, name, None)  # Windows has no SIGUSR1
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _take)


def forget() -> None:
    """Leave the signals to Python again."""
    _asked.process, _asked.signum, _asked.put_off, _asked.last_words = 0, 0, False, None
    for name in _NAMES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is _take:
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)


def asked() -> int:
    """The signal that has asked this process to end; 0 for none."""
    return _asked.signum


def put_off(wait: bool) -> None:
    """Let signals wait for whoever reads `asked`, or let them end the process where it stands."""
    _asked.put_off = wait


def before_an_end_at_once(call: Callable[[int, str], object] | None) -> None:
    """Have a function called with the signal and the reason before a second signal ends the process."""
    _asked.last_words = call


def record(stopped: Stopped) -> None:
    """Have an end put on record before the last process is free to go."""
    if _asked.last_words is not None:
        _asked.last_words(stopped.signum, stopped.reason)


def _take(signum: int, frame: FrameType | None) -> None:
    if os.getpid() != _asked.process:
        return
    now = time.monotonic()
    if not _asked.signum:
        _asked.signum, _asked.when = signum, now
        if not _asked.put_off:
            raise Stopped(signum)
        # Not by print: the signal may have come within one, whose buffer refuses to be entered twice.
        name = signal.Signals(signum).name
        os.write(2, f"{name}: the run ends with this step; a second signal ends it at once.\n".encode())
    elif now - _asked.when > _SAME_REQUEST:
        if _asked.last_words is not None:
            with contextlib.suppress(Exception):
                _asked.last_words(_asked.signum, f"{signal.Signals(_asked.signum).name}, and again: at once")
        os._exit(exit_code(_asked.signum))
