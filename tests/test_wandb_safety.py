"""Whatever happens to W&B, a training begins, goes on and ends; each wait has its limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from fastfcn import tracking
from fastfcn.background import Background
from fastfcn.safe_wandb import GRACE
from fastfcn.wandb_logging import wandb_logger
from tests.scripts import SRC, environment
from tests.wandb_records import (
    alive,
    answering_server,
    closed_port,
    inspect,
    only_run,
    own_place,
    scalars,
    silent_server,
)

pytestmark = pytest.mark.usefixtures("own_wandb")

#: What a machine that is busy with other things may add to a limit.
BUSY = 10.0


def service_pid() -> int:
    """Of the service process of this process."""
    import wandb

    connection: Any = wandb.setup()._connection
    pid: int = connection._proc._process.pid
    return pid


def timed(call: Callable[[], object]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


def test_background_keeps_the_order_and_survives_errors() -> None:
    told: list[str] = []
    done: list[int] = []
    background = Background(name="test", on_error=lambda error: told.append(str(error)))
    background.submit(lambda: done.append(1))
    background.submit(lambda: 1 / 0)
    background.submit(lambda: background.submit(lambda: done.append(2)))  # a call within a call is made at once
    background.submit(lambda: done.append(3))
    assert background.ask(lambda: list(done), timeout=10) == [1, 2, 3]
    assert told == ["division by zero"]
    with pytest.raises(ZeroDivisionError):
        background.ask(lambda: 1 / 0, timeout=10)


def test_background_keeps_nobody_waiting() -> None:
    release = threading.Event()
    background = Background(name="test", on_error=lambda _: None, backlog=2)
    with pytest.raises(TimeoutError):
        background.ask(release.wait, timeout=0.05)
    assert [background.submit(lambda: None) for _ in range(3)] == [True, True, False]
    with pytest.raises(TimeoutError):
        background.ask(lambda: None, timeout=60)  # at once: there is no room
    release.set()


def test_errors_of_calls_are_told_once_and_survived(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = wandb_logger(project="toy", save_dir=str(tmp_path), mode="offline")
    logger.log_metrics({"before": 1.0}, step=0)
    log = logger.experiment.log

    def full(*arguments: Any, **options: Any) -> None:
        if "lost" in arguments[0]:
            raise OSError(28, "No space left on device")
        log(*arguments, **options)

    monkeypatch.setattr(logger.experiment, "log", full)
    for step in range(3):
        logger.log_metrics({"lost": 1.0}, step=step)
    logger.log_metrics({"after": 1.0}, step=3)
    tracking.finish([logger])
    logger.log_metrics({"too late": 1.0}, step=4)
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2
    assert out[1] == (
        "W&B failed (OSError: [Errno 28] No space left on device); "
        "the training goes on, with gaps in what W&B shows of it."
    )
    assert scalars(only_run(tmp_path)) == {("before", 0): 1.0, ("after", 3): 1.0}


def test_where_nothing_works_the_training_goes_on_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    init = wandb.init

    def refused(**options: Any) -> Any:
        if options["mode"] != "disabled":
            raise wandb.errors.CommError("no service\nand more")
        return init(**options)

    monkeypatch.setattr(wandb, "init", refused)
    logger = wandb_logger(project="toy", save_dir=str(tmp_path), mode="offline", log_checkpoint=True)
    logger.log_metrics({"a": 1.0}, step=0)
    assert not logger.keeps_checkpoint
    tracking.finish([logger])
    assert "W&B cannot be used (CommError: no service); the training goes on without it." in capsys.readouterr().out
    assert wandb.run is None


@pytest.mark.slow
@pytest.mark.parametrize("server", [closed_port, silent_server])
def test_unreachable_server(
    server: Callable[[], AbstractContextManager[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with server() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        logger = wandb_logger(project="toy", save_dir=str(tmp_path), init_timeout=3)
        assert timed(lambda: logger.log_metrics({"a": 1.0}, step=0)) < 3 + 2 * BUSY  # two services start, and one ends
        assert timed(lambda: [logger.log_metrics({"a": 1.0}, step=step) for step in range(1, 100)]) < 1
        assert timed(lambda: tracking.finish([logger])) < BUSY
    printed = capsys.readouterr()
    assert printed.err == ""
    (line,) = printed.out.splitlines()
    assert line.startswith("W&B runs offline (CommError: ")
    assert line.endswith(f"; to upload: wandb sync {tmp_path}/wandb/offline-run-*")
    directory = only_run(tmp_path)
    assert len(scalars(directory)) == 100
    assert inspect(directory)["exit_code"] == 0


@pytest.mark.slow
def test_a_process_ends_though_the_server_never_answers(tmp_path: Path) -> None:
    # W&B's own reports on such a fault would hold the process up for 20 s at its end.
    code = f"""
import time
from fastfcn import tracking
from fastfcn.wandb_logging import wandb_logger
logger = wandb_logger(project="toy", save_dir={str(tmp_path)!r}, init_timeout=2)
logger.log_metrics({{"a": 1.0}}, step=0)
tracking.finish([logger])
print(time.time())
"""
    with silent_server() as url:
        variables = {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40, "PYTHONPATH": str(SRC), **own_place(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**environment(), **variables},
            capture_output=True,
            text=True,
            timeout=200,
            check=True,
        )
        ended = time.time()
    assert done.stderr == ""
    said, finished = done.stdout.splitlines()
    assert said.startswith("W&B runs offline (CommError: ")
    assert ended - float(finished) < 18


@pytest.mark.slow
def test_online_run_is_taken_and_goes_on_where_the_server_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering_server() as (url, server):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        logger = wandb_logger(project="toy", save_dir=str(tmp_path), run_name="x", group="g", job_type="train")
        logger.log_metrics({"a": 1.0}, step=1)
        assert logger.version is not None
        tracking.finish([logger])
        begun = next(body for path, body in server.received if path == "/graphql" and "mutation UpsertBucket" in body)
        for part in (f'"name":"{logger.version}"', '"groupName":"g"', '"jobType":"train"', '"displayName":"x"'):
            assert part in begun
        uploaded = "".join(body for path, body in server.received if path.endswith("/file_stream"))
        assert '\\"a\\":1' in uploaded
        assert '"complete":true' in uploaded
        assert '"exitcode":0' in uploaded

        lost = wandb_logger(project="toy", save_dir=str(tmp_path / "lost"), mode="online", finish_timeout=2)
        lost.log_metrics({"a": 1.0}, step=1)
        monkeypatch.setattr(server, "do_POST", lambda self: time.sleep(60))
        assert timed(lambda: [lost.log_metrics({"a": 1.0}, step=step) for step in range(2, 100)]) < 1
        assert timed(lambda: tracking.finish([lost])) < 2 + GRACE + BUSY
        (directory,) = (tmp_path / "lost" / "wandb").glob("run-*")
        assert len(scalars(directory)) == 99  # all are on the disk
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == f"W&B run: {url}/somebody/toy/runs/{logger.version}"
    assert second.startswith(f"W&B run: {url}")
    command = f"wandb sync {tmp_path}/lost/wandb/*run-*"
    assert third == f"W&B: not all was uploaded within 2 s; what is on the disk goes up by: {command}"


@pytest.mark.slow
def test_service_that_hangs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = wandb_logger(project="toy", save_dir=str(tmp_path / "a"), mode="offline", finish_timeout=1)
    logger.log_metrics({"a": 1.0}, step=0)
    logger.experiment  # noqa: B018  (begins the run)
    pid = service_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        # More than fits into the socket to the service, and then more than may wait.
        assert max(timed(lambda: logger.log_metrics({"b" * 100: 1.0}, step=1)) for _ in range(20_000)) < 1
        assert timed(lambda: tracking.finish([logger], success=True)) < 1 + GRACE + 5 + BUSY
        assert not alive(pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "W&B does not keep up; the training goes on, with gaps in what W&B shows of it."
    ]
    # The next run of the process is not held up by it.
    after = wandb_logger(project="toy", save_dir=str(tmp_path / "b"), mode="offline")
    after.log_metrics({"a": 1.0}, step=0)
    tracking.finish([after])
    assert inspect(only_run(tmp_path / "b"))["exit_code"] == 0
