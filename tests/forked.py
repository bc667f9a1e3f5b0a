"""Two real processes by fork, which find each other as torchrun's do: what the imports take is spared.

They are forked from a server that has imported what they need and done nothing: torch's threads, of which the process
of the tests has some by then, do not survive a fork.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cloudpickle
import pytorch_lightning  # noqa: F401  (what the server has at hand)

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
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    port, content = _free_port(), cloudpickle.dumps(function)
    paths = [place / f"rank{rank}.txt" for rank in (0, 1)]
    arguments = [(content, dict(os.environ), rank, port, path) for rank, path in enumerate(paths)]
    processes = [context.Process(target=_run, args=each) for each in arguments]
    for process in processes:
        process.start()
    until = time.monotonic() + timeout
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
    hang = [process for process in processes if process.is_alive()]
    for process in hang:
        process.kill()
        process.join()
    ended = [Ended(process.exitcode or 0, path.read_text()) for process, path in zip(processes, paths, strict=True)]
    assert not hang, f"they hang\n{ended}"
    return ended


def train(place: Path, *overrides: str, timeout: float = 120) -> list[Ended]:
    """Call train.py with ``trainer=ddp`` on the CPU in two processes."""
    return two(lambda variables: _call(overrides, variables), place, timeout=timeout)


def _call(overrides: tuple[str, ...], variables: dict[str, str]) -> int:
    done: Done = call("train.py", "trainer=ddp", "trainer.accelerator=cpu", *overrides, **variables)
    os.write(1, (done.out + done.err).encode())
    return done.code


def _run(content: bytes, environment: dict[str, str], rank: int, port: int, output: Path) -> None:
    """What a process does."""
    stream = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    try:
        names = {
            "RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2,
            "GROUP_WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "forked",
        }  # fmt: skip
        code = cloudpickle.loads(content)({name: str(value) for name, value in names.items()})
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
