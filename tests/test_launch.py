"""The processes of one run agree on when it began."""

from __future__ import annotations

import os
import threading
from datetime import timedelta

import pytest
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from fastfcn import launch


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        launch.LAUNCH,
        "TORCHELASTIC_USE_AGENT_STORE",
        "SLURM_PROCID",
        "SLURM_STEP_ID",
        "SLURM_STEP_NUM_TASKS",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(launch.LAUNCH, "")  # so that what the test sets is taken back
    monkeypatch.delenv(launch.LAUNCH)


def test_one_process_needs_no_agreement() -> None:
    launch.agree()
    assert launch.LAUNCH not in os.environ


def test_slurms_tasks_agree_by_the_jobs_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_PROCID": "3", "SLURM_STEP_ID": "0", "SLURM_JOB_ID": "4711"}.items():
        monkeypatch.setenv(name, value)
    launch.agree()  # one task of its own has nobody to agree with
    assert launch.LAUNCH not in os.environ
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_PTY_PORT", "1")  # a shell
    launch.agree()
    assert launch.LAUNCH not in os.environ
    monkeypatch.delenv("SLURM_PTY_PORT")
    launch.agree()
    assert os.environ[launch.LAUNCH] == "slurm/4711-0"
    monkeypatch.setenv("SLURM_JOB_ID", "4712")
    launch.agree()  # the processes that this one starts are of the same run
    assert os.environ[launch.LAUNCH] == "slurm/4711-0"


def test_torchruns_processes_agree_by_its_store(monkeypatch: pytest.MonkeyPatch) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=30))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    monkeypatch.setenv("RANK", "1")
    found: list[str] = []
    second = threading.Thread(target=lambda: found.append(launch._by_torchruns_store()))
    second.start()  # waits for the first
    store.set(launch._KEY, "2026-01-31/12-00-00")
    second.join(30)
    monkeypatch.setenv("RANK", "0")  # started again by torchrun: the moment stays
    assert [*found, launch._by_torchruns_store()] == ["2026-01-31/12-00-00"] * 2
