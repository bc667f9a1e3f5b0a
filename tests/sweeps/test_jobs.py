"""The jobs of a sweep: rows times values, filters, and how each stands by its directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastfcn import status
from fastfcn.errors import UserError
from fastfcn.naming import SWEEP_FILE
from fastfcn.sweeps.jobs import Job, combine, differences, is_done, save, standing

ROWS = [{"head": "encoding", "upsample": "none"}, {"head": "encoding", "upsample": "jpu"}, {"head": "psp"}]
CONFIG: dict[str, Any] = {"seed": 0, "trainer": {"max_epochs": 6, "devices": 1}, "data": {"num_workers": 0}}


def job(place: Path, **settings: Any) -> Job:
    return Job("encoding-jpu-r18-os32-s0", place, ("head=encoding", "resume=auto"), {**CONFIG, **settings})


def test_rows_times_values() -> None:
    jobs = combine(ROWS, [("seed=0",), ("seed=1",)], sweep="t")
    assert len(jobs) == 6
    assert jobs[0] == ("head=encoding", "upsample=none", "seed=0")
    assert jobs[5] == ("head=psp", "seed=1")
    assert combine([], [("seed=0",)], sweep="") == [("seed=0",)]


def test_a_key_of_the_rows_filters_them() -> None:
    assert combine(ROWS, [("head=encoding",)], sweep="t") == [
        ("upsample=none", "head=encoding"),
        ("upsample=jpu", "head=encoding"),
    ]
    # A row without the key takes the value.
    assert ("head=psp", "upsample=jpu") in combine(ROWS, [("upsample=jpu",)], sweep="t")


def test_no_row_left_is_told_with_the_choices() -> None:
    with pytest.raises(UserError, match=r"sweep=t is left by head=fcn: its rows have head=encoding,psp; upsample="):
        combine(ROWS, [("head=fcn",)], sweep="t")


def test_standing(tmp_path: Path) -> None:
    one = job(tmp_path)
    assert standing(one, None) == "new"
    (one.directory / "checkpoints").mkdir(parents=True)
    assert standing(one, CONFIG) == "new"
    (one.directory / "checkpoints/last.ckpt").touch()
    assert standing(one, CONFIG) == "goes on"
    (one.directory / "results.json").write_text('{"test": ')  # cut off
    assert standing(one, CONFIG) == "goes on"
    (one.directory / "results.json").write_text("{}")
    assert standing(one, CONFIG) == "done"


def test_a_pruned_run_is_done(tmp_path: Path) -> None:
    status.write(tmp_path, status.Status("pruned"))
    assert is_done(tmp_path)
    status.write(tmp_path, status.Status("failed"))
    assert not is_done(tmp_path)


def test_other_settings_are_refused_places_are_not(tmp_path: Path) -> None:
    one = job(tmp_path)
    one.directory.mkdir()
    (one.directory / "results.json").write_text("{}")
    moved = {**CONFIG, "trainer": {"max_epochs": 6, "devices": 4}, "paths": {"run_dir": "/elsewhere"}}
    assert standing(one, moved) == "done"
    with pytest.raises(UserError, match=r"trainer\.max_epochs=3, now it is 6.*hydra\.sweep\.dir=") as caught:
        standing(one, {**CONFIG, "trainer": {"max_epochs": 3, "devices": 1}})
    assert str(one.directory) in str(caught.value)


def test_settings_that_came_later_and_are_off_do_not_count() -> None:
    assert differences({"speed": None, "seed": 0}, {"seed": 0}) == {}
    assert differences({"fit": False}, {}) == {"fit": (False, None)}


def test_other_data_count_and_the_same_elsewhere_do_not() -> None:
    cats, moved, dogs = ({"data": {"dataset": {"root": root}}} for root in ("/a/cats", "/b/cats/", "/a/dogs"))
    assert differences(cats, moved) == {}
    assert differences(cats, dogs) == {"data.dataset.root": ("cats", "dogs")}


def test_the_kind_of_device_counts_where_speed_is_measured() -> None:
    gpu, cpu = ({"trainer": {"accelerator": kind}} for kind in ("gpu", "cpu"))
    assert differences(gpu, cpu) == {}
    assert list(differences({**gpu, "speed": {"warmup": 1}}, {**cpu, "speed": {"warmup": 1}})) == [
        "trainer.accelerator"
    ]
    kept, given = ({"keep_heap": keep} for keep in (True, False))
    assert differences(kept, given) == {}
    assert list(differences({**kept, "speed": {"warmup": 1}}, {**given, "speed": {"warmup": 1}})) == ["keep_heap"]


def test_what_ends_or_chooses_counts() -> None:
    before, now = ({"callbacks": {"best": {"monitor": name, "dirpath": name}}} for name in ("val/score", "val/mIoU"))
    assert list(differences(now, before)) == ["callbacks.best.monitor"]


def test_the_sweeps_file_gathers_the_jobs_of_all_calls(tmp_path: Path) -> None:
    first, second = job(tmp_path), job(tmp_path)._replace(name="psp-jpu-r18-os32-s0", overrides=("head=psp",))
    save([first], sweep="table1", command="python src/train.py sweep=table1 head=encoding")
    save([second], sweep="table1", command="python src/train.py sweep=table1 head=psp")
    content = json.loads((tmp_path / SWEEP_FILE).read_text())
    assert [entry["name"] for entry in content["jobs"]] == [first.name, second.name]
    assert content["jobs"][0]["overrides"] == ["head=encoding"]
    assert content["command"].endswith("head=psp")
