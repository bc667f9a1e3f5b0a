"""The processes of one run agree on when it began."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from fastfcn import launch
from fastfcn.errors import UserError


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        launch.LAUNCH,
        launch.AGAIN,
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


@pytest.fixture
def store() -> TCPStore:
    """torchrun's."""
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=30))


def client(of: TCPStore) -> TCPStore:
    return TCPStore("127.0.0.1", of.port, is_master=False, timeout=timedelta(seconds=30))


def generation(store: TCPStore, text: str, world: int = 3) -> list[str]:
    """What each of the processes that torchrun starts at once is told."""
    with ThreadPoolExecutor(world) as pool:
        texts = [text, *[None] * (world - 1)]
        return list(pool.map(lambda rank: launch.tell(client(store), rank, world, texts[rank]), range(world)))


def test_the_first_tells_the_others_also_after_a_restart(store: TCPStore) -> None:
    assert generation(store, "1001") == ["1001"] * 3
    assert generation(store, "1002") == ["1002"] * 3  # the entries of the first generation are still there
    assert generation(store, "1002") == ["1002"] * 3  # the same text is another answer


def test_entries_of_ended_processes_are_not_taken(store: TCPStore) -> None:
    store.set("fastfcn/asked/1", "an ended process's word")
    store.set("fastfcn/answered/1", "an ended process's word and what it was told")
    store.set("fastfcn/taken/1", "an ended process's answer")
    found: list[str] = []
    second = threading.Thread(target=lambda: found.append(launch.tell(client(store), 1, 2, None)))
    second.start()
    second.join(0.3)
    assert second.is_alive(), f"it took {found}"
    assert launch.tell(client(store), 0, 2, "1003") == "1003"
    second.join(30)
    assert found == ["1003"]


def test_nobody_comes(store: TCPStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_PATIENCE", timedelta(seconds=0.1))
    with pytest.raises(UserError, match=r"process 0 of 2 has waited .* for the others that torchrun starts"):
        launch.tell(store, 0, 2, "1004")


def test_torchruns_processes_agree_by_its_store(store: TCPStore) -> None:
    """Twice the moment is the same, and the store for the process group is another one."""
    program = (
        "import os; from fastfcn import launch; launch.agree(); import torch.distributed as dist; "
        "dist.init_process_group('gloo'); "
        "print(os.environ['FASTFCN_LAUNCH'], os.environ['MASTER_PORT'], dist.get_world_size(), launch.started_again())"
    )
    lines = []
    for _ in range(2):
        places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2"}
        places["TORCHELASTIC_USE_AGENT_STORE"] = "True"
        two = [
            subprocess.Popen(
                [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True,
                # Of two nodes, the second alone has counted what ended.
                env={**os.environ, **places, "RANK": str(rank), "TORCHELASTIC_RESTART_COUNT": str(rank)},
            )
            for rank in (1, 0)
        ]  # fmt: skip
        lines += [process.communicate(timeout=120)[0].split() for process in two]
    moments, ports, sizes, again = zip(*lines, strict=True)
    assert len(set(moments)) == 1
    assert ports[0] == ports[1] != ports[2] == ports[3]
    assert str(store.port) not in ports
    assert set(sizes) == {"2"}
    assert again == ("False", "False", "True", "True")


@pytest.mark.parametrize("name", ["SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"])
def test_a_launcher_that_starts_it_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for count, again in (("0", False), ("", False), ("2", True)):
        monkeypatch.setenv(name, count)
        assert launch.started_again() is again
