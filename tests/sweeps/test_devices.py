"""GPUs are dealt to jobs: each to one at a time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from fastfcn.errors import UserError
from fastfcn.sweeps import devices

LISTED = """GPU 0: NVIDIA Titan Xp (UUID: GPU-11111111-aaaa)
GPU 1: NVIDIA Titan Xp (UUID: GPU-22222222-bbbb)
"""
PARTED = """GPU 0: NVIDIA H100 (UUID: GPU-11111111-aaaa)
  MIG 3g.40gb     Device  0: (UUID: MIG-33333333-cccc)
  MIG 3g.40gb     Device  1: (UUID: MIG-44444444-dddd)
"""


def driver(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A program in the place of the driver's."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize(("text", "ids"), [(LISTED, ["0", "1"]), (PARTED, ["MIG-33333333-cccc", "MIG-44444444-dddd"])])
def test_the_driver_is_asked(text: str, ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    driver(tmp_path, monkeypatch, text)
    assert devices.visible_gpus() == ids


def test_without_a_driver_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.visible_gpus() == []


@pytest.mark.parametrize(("given", "ids"), [("2,5", ["2", "5"]), ("", []), ("-1", []), ("GPU-ab", ["GPU-ab"])])
def test_what_the_environment_gives_is_taken(given: str, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert devices.visible_gpus() == ids


@pytest.mark.parametrize("count", [1, 2])
def test_no_gpu_has_two_jobs(count: int, tmp_path: Path) -> None:
    holders: Counter[str] = Counter()
    seen, most = [], 0
    watch = threading.Lock()

    def work() -> None:
        nonlocal most
        with devices.dealt(count, ["0", "1", "2"], folder=tmp_path) as dealt:
            with watch:
                holders.update(dealt)
                seen.append(len(dealt))
                most = max(most, *holders.values())
            time.sleep(0.05)
            with watch:
                holders.subtract(dealt)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == [count] * 6
    assert most == 1


def test_more_than_there_are(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"trainer\.devices=3.*there are 2"),
        devices.dealt(3, ["0", "1"], folder=tmp_path),
    ):
        pass


def test_jobs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.jobs_at_once(["0", "1", "2", "3"], 2) == 2
    assert devices.jobs_at_once(["0"], 2) == 1
    monkeypatch.setattr(devices, "core_count", lambda: 16)
    assert devices.jobs_at_once([], 0) == 8
    monkeypatch.setattr(devices, "core_count", lambda: 1)
    assert devices.jobs_at_once([], 0) == 1
