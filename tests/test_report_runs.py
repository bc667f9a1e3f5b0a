"""Runs found and read, in whatever state they were left; sorted into sections, rows and seeds."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastfcn.errors import UserError
from fastfcn.report.comparison import differing_settings
from fastfcn.report.gathering import gather
from fastfcn.report.rows import arrange, labels, references, run_labels
from fastfcn.report.runs import Unfinished
from tests.fake_runs import begin_run, run, write_run


def test_rows_come_in_the_papers_order(tmp_path: Path) -> None:
    for index, (backbone, upsample, seed) in enumerate(
        [
            ("resnet101", "none", 0), ("resnet50", "dysample", 0), ("resnet50", "jpu_x", 0), ("resnet50", "mine", 0),
            ("resnet50", "jpu", 1),
            ("resnet50", "fpn", 0), ("resnet50", "none", 0), ("resnet50", "bilinear", 0), ("resnet50", "jpu", 0),
        ]
    ):  # fmt: skip
        write_run(tmp_path / str(index), upsample, seed=seed, backbone=backbone)
    write_run(tmp_path / "psp", "none", head="psp", backbone="resnet50")
    (tmp_path / "pictures").mkdir()  # no run, and not worth a word
    gathered = gather(tmp_path)
    assert not gathered.unfinished
    [section], duplicates = arrange(gathered.runs)
    assert not duplicates
    assert [(r.backbone, r.head, r.upsample, r.seeds) for r in section.rows] == [
        ("resnet50", "encoding", "none", [0]), ("resnet50", "encoding", "bilinear", [0]),
        ("resnet50", "encoding", "fpn", [0]), ("resnet50", "encoding", "jpu", [0, 1]),
        ("resnet50", "encoding", "jpu_x", [0]), ("resnet50", "encoding", "dysample", [0]),
        ("resnet50", "encoding", "mine", [0]),
        ("resnet50", "psp", "none", [0]), ("resnet101", "encoding", "none", [0]),
    ]  # fmt: skip
    assert "upsample=none" in section.rows[0].runs[0].overrides


def test_runs_are_found_at_any_depth_and_once(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "day" / "time" / "jpu", "jpu")
    write_run(tmp_path / "b" / "none", "none")
    (tmp_path / "b" / "none" / "checkpoints" / "config.yaml").touch()  # what lies in a run is that run's
    evaluation = tmp_path / "b" / "evaluated"
    evaluation.mkdir()
    for file in ("config.yaml", "results.json", "evaluation.json"):
        (evaluation / file).write_text("{}")
    gathered = gather([tmp_path / "a", tmp_path / "b", tmp_path / "b" / "none"])
    assert sorted(r.upsample for r in gathered.runs) == ["jpu", "none"]
    assert not gathered.unfinished


def test_a_moved_run_keeps_its_checkpoint(tmp_path: Path) -> None:
    write_run(tmp_path / "elsewhere" / "a", "jpu", checkpoint=True).rename(tmp_path / "a")
    write_run(tmp_path / "b", "none")
    runs = {r.upsample: r for r in gather([tmp_path / "a", tmp_path / "b"]).runs}
    assert runs["jpu"].checkpoint == tmp_path / "a" / "checkpoints" / "best.ckpt"
    assert runs["none"].checkpoint is None  # its figures count all the same


@pytest.mark.parametrize(
    ("damage", "state", "reason"),
    [
        (lambda d: (d / "results.json").unlink(), "unfinished", "no results.json"),
        (lambda d: (d / "results.json").write_text("{"), "unreadable", "damaged results.json"),
        (lambda d: (d / "results.json").write_text("[]"), "unreadable", "no JSON object"),
        (lambda d: (d / "results.json").write_text('{"test": {}}'), "unreadable", "no choices and no best_check"),
        (
            lambda d: (d / "results.json").write_text('{"choices": {}, "test": {}, "best_checkpoint": null}'),
            "unreadable", "does not tell its head",
        ),
        (lambda d: (d / "config.yaml").unlink(), "unreadable", "no config.yaml"),
        (lambda d: (d / "config.yaml").write_text("a: ]"), "unreadable", "damaged config.yaml"),
        (lambda d: (d / "config.yaml").write_text("seed: 0"), "unreadable", "no data in its config.yaml"),
        (lambda d: (d / "provenance.json").write_text("{"), "unreadable", "damaged provenance.json"),
        (lambda d: (d / "status.json").write_text("{"), "unreadable", "damaged status.json"),
        (lambda d: change(d, test=None), "untested", "not tested"),
        (lambda d: change(d, speed={"fps": 5}), "unreadable", "no fps, median_ms"),
        (lambda d: change(d, test={"mIoU": 0.5}), "unreadable", "no mIoU and IoU"),
    ],
)  # fmt: skip
def test_unusable_runs_are_listed_with_the_reason(tmp_path: Path, damage: Any, state: str, reason: str) -> None:
    damage(write_run(tmp_path / "bad", "jpu"))
    with pytest.raises(UserError, match=f"no run can be reported on: .*bad .*{reason}"):
        gather(tmp_path)
    write_run(tmp_path / "good", "none")
    gathered = gather(tmp_path)
    assert [r.directory.name for r in gathered.runs] == ["good"]
    [left] = gathered.unfinished
    assert (left.directory.name, left.state) == ("bad", state)
    assert reason in left.reason
    assert left.identity == ("scenes", "resnet18", "encoding", "jpu", 0)


def change(directory: Path, **entries: Any) -> None:
    path = directory / "results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("status", "state", "words"),
    [
        ({"state": "failed", "reason": "loss is\nNaN"}, "failed", "failed: loss is NaN"),
        ({"state": "interrupted", "reason": None}, "interrupted", "no reason was recorded"),
        ({"state": "pruned", "reason": "below the median"}, "pruned", "below the median"),
        ({"state": "running", "host": socket.gethostname(), "pid": os.getpid()}, "running", "is running"),
        ({"state": "running", "host": "node17", "pid": 1}, "running", "or was killed: on node17"),
        ({"state": "running", "host": socket.gethostname(), "pid": ended_process()}, "crashed", "is gone"),
    ],
)
def test_states_of_runs_without_figures(tmp_path: Path, status: dict[str, Any], state: str, words: str) -> None:
    write_run(tmp_path / "good", "none", status={"state": "done"})
    begin_run(tmp_path / "bad", "jpu", status=status)
    [left] = gather(tmp_path).unfinished
    assert left.state == state
    assert words in left.reason


def test_a_failed_run_counts_nothing_even_with_figures(tmp_path: Path) -> None:
    write_run(tmp_path / "bad", "jpu", status={"state": "failed", "reason": "the disk is full"})
    write_run(tmp_path / "good", "jpu", status={"state": "running", "host": "gone", "pid": 1})  # killed after its end
    gathered = gather(tmp_path)
    assert [r.directory.name for r in gathered.runs] == ["good"]
    assert [left.state for left in gathered.unfinished] == ["failed"]


def test_a_run_that_left_nothing_but_a_status_has_no_identity(tmp_path: Path) -> None:
    write_run(tmp_path / "good", "none")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "status.json").write_text('{"state": "failed", "reason": "x"}')
    assert gather(tmp_path).unfinished == [Unfinished(tmp_path / "bad", "failed", "failed: x")]


def test_no_runs(tmp_path: Path) -> None:
    sources: tuple[Any, ...] = (tmp_path, [], None)
    for source in sources:
        with pytest.raises(UserError, match="there is no run in it"):
            gather(source)
    with pytest.raises(UserError, match="no such directory"):
        gather(tmp_path / "missing")


def test_a_damaged_sweep_file_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "none", "none")
    for content in ("{", "[]", '{"command": "x", "jobs": [{"name": "a"}]}'):
        (tmp_path / "sweep.json").write_text(content)
        with pytest.raises(UserError, match=r"sweep\.json is not what a sweep writes"):
            gather(tmp_path)


def test_of_one_row_and_seed_the_newest_counts(tmp_path: Path) -> None:
    for name, hour, miou in (("old", 9, 0.2), ("new", 11, 0.3), ("middle", 10, 0.25)):
        ended = {"state": "done", "ended": f"2026-01-01T{hour:02}:00:00+00:00"}
        write_run(tmp_path / name, "jpu", status=ended, miou=miou)
    # 11:30 in Berlin is before 11 o'clock UTC
    write_run(tmp_path / "berlin", "jpu", status={"state": "done", "ended": "2026-01-01T11:30:00+01:00"}, miou=0.1)
    write_run(
        tmp_path / "other" / "new", "jpu", status={"state": "done", "ended": "2026-01-01T11:00:00+00:00"}, miou=0.3
    )
    [section], duplicates = arrange(gather(tmp_path).runs)
    [row] = section.rows
    assert row.by_seed("mIoU") == {0: 0.3}
    assert {(d.directory.relative_to(tmp_path).as_posix(), d.copy) for d in duplicates} == {
        ("old", False), ("middle", False), ("berlin", False), ("other/new", True),
    }  # fmt: skip
    assert {d.kept for d in duplicates} == {tmp_path / "new"}


def test_older_runs_end_when_their_training_does(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "jpu")
    assert gather(tmp_path).runs[0].ended.isoformat() == "2026-01-01T10:30:00+00:00"
    (tmp_path / "a" / "provenance.json").unlink()
    assert gather(tmp_path).runs[0].ended.year >= 2024  # when the file was written


def test_settings_that_change_a_result_make_rows_and_the_machine_does_not() -> None:
    same = [run("jpu"), run("jpu", seed=1, data__num_workers=8, trainer__accelerator="gpu", data__seed=1)]
    [section], duplicates = arrange(same)
    assert [row.seeds for row in section.rows] == [[0, 1]]
    runs = [*same, run("jpu", seed=1, optim__lr=0.1), run("jpu", seed=2, optim__lr=0.1), run("none")]
    [section], duplicates = arrange(runs)
    assert not duplicates
    assert [row.seeds for row in section.rows] == [[0], [0, 1], [1, 2]]
    assert labels(section.rows) == ["none", "jpu optim.lr=0.01", "jpu optim.lr=0.1"]
    assert references(section.rows) == [0, 0, 0]
    # a key that an older configuration does not have tells nothing
    [section], _ = arrange([run("jpu"), run("jpu", seed=1, optim__nesterov=True)])
    assert len(section.rows) == 1
    # paths differ from machine to machine
    paths = [run("jpu", seed=seed, backbone__weights=f"/home/{seed}/resnet18.pth") for seed in (0, 1)]
    assert len(arrange(paths)[0][0].rows) == 1
    assert len(arrange([*paths, run("jpu", backbone__weights="other.pth")])[0][0].rows) == 2


def test_other_test_images_make_a_section_of_their_own() -> None:
    same = [run("none"), run("jpu", data__dataset__cache_dir="b", data__batch_size=2)]
    assert len(arrange(same)[0]) == 1
    assert len(arrange([run("none"), run("jpu", data__dataset__counts={"train": 16, "test": 4})])[0]) == 1
    assert len(arrange([run("none", data__dataset__root="/a/x"), run("jpu", data__dataset__root="/b/x")])[0]) == 1
    others: list[dict[str, Any]] = [
        {"data__dataset__seed": 1}, {"data__dataset__counts": {"train": 8, "test": 2}},
        {"data__dataset___target_": "y"},
        {"data__crop_size": 32}, {"data__whole_eval": True}, {"trainer__limit_test_batches": 2}, {"data__split": "val"},
        {"made": {"protocol": "slide"}},
    ]  # fmt: skip
    for other in others:
        sections, _ = arrange([*same, run("fpn", **other)])
        assert [len(section.rows) for section in sections] in ([2, 1], [1, 2]), other
    sections, _ = arrange(
        [run("jpu", miou=None, made={"speed": {}}), *same, run("jpu", data="ade20k", data__split="val")]
    )
    assert [(section.data, section.protocol) for section in sections] == [
        ("ade20k", "center_crop"), ("scenes", "center_crop"), ("scenes", None),
    ]  # fmt: skip


def test_labels_tell_rows_and_runs_apart() -> None:
    [section], _ = arrange([run("none"), run("jpu")])
    names = labels(section.rows)
    assert names == run_labels(section.rows, names) == ["none", "jpu"]
    [section], _ = arrange([run("none"), run("jpu"), run("jpu", seed=1)])
    names = labels(section.rows)
    assert names == ["none", "jpu"]
    assert run_labels(section.rows, names) == ["none s0", "jpu s0", "jpu s1"]
    [section], _ = arrange([run("none", head="psp"), run("none", backbone="resnet50")])
    assert labels(section.rows) == ["psp none resnet18", "encoding none resnet50"]


def test_reference_is_none_of_the_same_head_and_settings() -> None:
    [section], _ = arrange([run("bilinear"), run("jpu"), run("none", head="psp"), run("jpu", head="psp")])
    assert references(section.rows) == [0, 0, 2, 2]  # a reference is compared with itself
    [section], _ = arrange([run(u, optim__lr=lr) for u in ("none", "jpu") for lr in (0.1, 0.2)])
    assert labels(section.rows) == [f"{u} optim.lr={lr}" for u in ("none", "jpu") for lr in (0.1, 0.2)]
    assert references(section.rows) == [0, 1, 0, 1]


def test_other_differences_between_the_runs_are_told() -> None:
    runs = [run("none", backbone__output_stride=8), run("jpu", head__kernel_size=1, trainer__default_root_dir="there")]
    assert differing_settings(runs) == {}
    other = run("fpn", seed=1, trainer__max_epochs=4)
    assert differing_settings([*runs, other]) == {"trainer.max_epochs": (8, 8, 4)}
