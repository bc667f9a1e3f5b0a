"""Two real processes by fork, which find each other as torchrun's do: what the imports take is spared."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.scripts import Done, call


class Ended(NamedTuple):
    """How a process ended: its exit code, negative by a signal; what it wrote to its standard streams."""

    code: int
    text: str


def two(function: Callable[[dict[str, str]], int], place: Path, *, timeout: float = 120) -> list[Ended]:
    """Call a function in two processes; gives how each ended.

    Args:
        function: takes the variables that torchrun would have set, and gives the exit code.
        place: of their output.
        timeout: seconds after which both are killed, and the test fails.
    """
    port = _free_port()
    pids = [_fork(function, rank, port, place / f"rank{rank}.txt") for rank in (0, 1)]
    codes: dict[int, int] = {}
    until = time.monotonic() + timeout
    while len(codes) < 2 and time.monotonic() < until:
        for pid in set(pids) - codes.keys():
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                codes[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    for pid in set(pids) - codes.keys():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    ended = [Ended(codes.get(pid, -9), (place / f"rank{rank}.txt").read_text()) for rank, pid in enumerate(pids)]
    assert len(codes) == 2, f"they hang\n{ended}"
    return ended


def train(place: Path, *overrides: str, timeout: float = 120) -> list[Ended]:
    """Call train.py with ``trainer=ddp`` on the CPU in two processes."""
    return two(lambda variables: _call(overrides, variables), place, timeout=timeout)


def _call(overrides: tuple[str, ...], variables: dict[str, str]) -> int:
    done: Done = call("train.py", "trainer=ddp", "trainer.accelerator=cpu", *overrides, **variables)
    os.write(1, (done.out + done.err).encode())
    return done.code


def _fork(function: Callable[[dict[str, str]], int], rank: int, port: int, output: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        stream = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
        names = {
            "RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2,
            "GROUP_WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "forked",
        }  # fmt: skip
        code = function({name: str(value) for name, value in names.items()})
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        code = 1
    sys.stdout.flush()
    os._exit(code)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
