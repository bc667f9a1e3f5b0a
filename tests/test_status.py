"""How a run stands: what status.json says after each kind of end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fastfcn import signals, status
from fastfcn.errors import UserError
from tests.scripts import SRC, environment


@pytest.fixture(autouse=True)
def _first(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


def ended(run_dir: Path, error: BaseException | None) -> status.Status:
    expected = contextlib.nullcontext() if error is None else pytest.raises(type(error))
    with expected, status.recorded(run_dir):
        running = status.read(run_dir)
        assert running is not None
        assert (running.state, running.pid) == ("running", os.getpid())
        if error is not None:
            raise error
    told = status.read(run_dir)
    assert told is not None
    assert told.ended is not None
    return told


def from_a_mistake() -> SystemExit:
    """As the scripts end with a user's mistake."""
    try:
        try:
            raise UserError("optim.lr=-1: choose a positive learning rate.")
        except UserError:
            sys.exit(2)
    except SystemExit as stop:
        return stop


def from_a_signal() -> SystemExit:
    """As the scripts end when a scheduler asks for it."""
    try:
        try:
            raise signals.Stopped(signal.SIGUSR1)
        except signals.Stopped as stopped:
            sys.exit(stopped.code)
    except SystemExit as stop:
        return stop


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (None, "done", None),
        (RuntimeError("a\n fault"), "failed", "RuntimeError: a fault"),
        (from_a_mistake(), "failed", "optim.lr=-1: choose a positive learning rate."),
        (KeyboardInterrupt(), "interrupted", None),
        (SystemExit(130), "interrupted", None),
        (signals.Stopped(signal.SIGTERM, "after step 3"), "preempted", "SIGTERM after step 3"),
        (signals.Stopped(signal.SIGINT), "interrupted", "SIGINT"),
        (from_a_signal(), "preempted", "SIGUSR1"),
        (status.Pruned("epoch 3"), "pruned", "epoch 3"),
    ],
)
def test_ends(error: BaseException | None, state: str, reason: str | None, tmp_path: Path) -> None:
    told = ended(tmp_path, error)
    assert (told.state, told.reason) == (state, reason)


def test_a_directory_is_held_by_one_process(tmp_path: Path) -> None:
    with status.recorded(tmp_path):
        assert status.is_held(tmp_path)
        code = f"from pathlib import Path; from fastfcn import status\nwith status.held(Path({str(tmp_path)!r})): pass"
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, env=environment(PYTHONPATH=str(SRC)), capture_output=True, text=True, check=False
        )
        assert f"in use by process {os.getpid()}" in done.stderr
    assert not status.is_held(tmp_path)


def test_the_first_failure_is_believed(tmp_path: Path) -> None:
    """Of two processes the one with the reason ends first; what the other sees is the lost connection."""
    status.write(tmp_path, status.Status("running"))
    status.end(tmp_path, "failed", "the reason")
    status.end(tmp_path, "failed", "Connection closed by peer")
    told = status.read(tmp_path)
    assert told is not None
    assert told.reason == "the reason"


def test_a_process_of_a_killed_run_has_no_say_about_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first run the second process is left; by the time that it ends, another run holds the directory."""
    monkeypatch.setenv("LOCAL_RANK", "1")
    for pid, state in ((os.getppid() + 1, "running"), (os.getppid(), "failed")):
        status.write(tmp_path, status.Status("running", pid=os.getppid()))
        with contextlib.suppress(RuntimeError), status.recorded(tmp_path):
            status.write(tmp_path, status.Status("running", pid=pid))
            raise RuntimeError("Connection closed by peer")
        told = status.read(tmp_path)
        assert told is not None
        assert told.state == state


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"RANK": "4", "LOCAL_RANK": "0"}, False),  # torchrun's second node
        ({"SLURM_PROCID": "2"}, False),
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),  # started by Lightning in a shell that Slurm gave
    ],
)
def test_the_first_process(variables: dict[str, str], first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert status.first_process() is first


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_a_damaged_file_says_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / status.STATUS_FILE).write_text(text)
    assert status.read(tmp_path) is None
