"""How the tests call the scripts: as real processes, and within the test's own process where that is the same."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest
import torch
import torch.distributed as dist

from fastfcn import heap

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"

#: The smallest training that is still a training: two steps of four images, a model of a few hundred milliseconds.
TINY = (
    "trainer=cpu",
    "trainer.max_epochs=1",
    "backbone=resnet18",
    "head.width=32",
    "upsample.width=32",
    "data.dataset.size=64",
    "data.dataset.counts={train:8,val:4,test:4}",
    "data.batch_size=4",
    "data.crop_size=64",
    "callbacks.show_summary.image_size=[64,64]",
)


two_processes = pytest.mark.skipif(
    not dist.is_available() or (os.cpu_count() or 1) < 2, reason="two processes need two cores"
)


class Done(NamedTuple):
    """What a script left behind: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    def check(self) -> Done:
        """The same, if the script succeeded."""
        assert self.code == 0, f"exit code {self.code}\n{self.out}\n{self.err}"
        return self

    def sentence(self) -> str:
        """The one line that a user's mistake is told in, if it is told so."""
        assert self.code in (1, 2), f"exit code {self.code}\n{self.out}\n{self.err}"
        assert "Traceback" not in self.out + self.err, self.out + self.err
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.out + self.err
        assert self.err.rstrip().endswith(lines[0]), f"something follows the sentence:\n{self.err}"
        return lines[0].removeprefix("error: ")


def environment(**more: str) -> dict[str, str]:
    """This process's environment, without what would change a script's ways, and with one thread."""
    left_out = ("HYDRA_FULL_ERROR", "FASTFCN_ONE_SENTENCE", "PYTHONPATH", "LOCAL_RANK", "WORLD_SIZE", "PL_GLOBAL_SEED")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "OMP_NUM_THREADS": "1", **more}


def start(script: str, *overrides: str, cwd: Path = ROOT, timeout: float = 300, **variables: str) -> Done:
    """Run a script as a real process."""
    done = subprocess.run(
        [sys.executable, str(SRC / script), *overrides],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def call(script: str, *overrides: str, **variables: str) -> Done:
    """Run a script as ``__main__`` of this process: the same code, without the seconds that the imports take."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        mock.patch.object(sys, "argv", [str(SRC / script), *overrides]),
        mock.patch.dict(os.environ, environment(**variables), clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        _own_logging(),
        one_thread(),
    ):
        try:
            runpy.run_path(str(SRC / script), run_name="__main__")
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        finally:
            heap.give_back()  # what the script kept, the tests behind it do not
    return Done(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _own_logging() -> Iterator[None]:
    """Take back the handlers that Hydra gives to the root logger: they would write to this call's streams for ever."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """What OMP_NUM_THREADS=1 is to a process of its own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
