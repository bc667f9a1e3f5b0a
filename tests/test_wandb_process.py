"""train.py with W&B from outside: what W&B's own reader finds in the offline runs."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.scripts import SRC, TINY, environment, start, two_processes
from tests.wandb_records import FOREIGN, inspect, only_run, own_place, records, scalars, silent_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """The run directory of a training of two epochs with every logger."""
    run_dir = tmp_path_factory.mktemp("run") / "run"
    place = own_place(tmp_path_factory.mktemp("wandb"))
    options = ("logger=all", "logger.wandb.log_checkpoint=true", "logger.wandb.save_code=true", "trainer.max_epochs=2")
    overrides = (
        *TINY,
        *options,
        "seed=3",
        "trainer.log_every_n_steps=1",
        f"paths.data_dir={data_dir}",
        f"hydra.run.dir={run_dir}",
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in FOREIGN:
            patch.delenv(name, raising=False)
        for name, value in {**place, "WANDB_MODE": "offline"}.items():
            patch.setenv(name, value)
        start("train.py", *overrides).check()
    return run_dir


@pytest.fixture
def offline(own_wandb: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the processes that a test starts."""
    monkeypatch.setenv("WANDB_MODE", "offline")


def test_every_logger_carries_the_same_numbers(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ours = scalars(only_run(run))
    with (run / "metrics.csv").open() as file:
        in_csv = {
            (name, int(row["step"])): float(value)
            for row in csv.DictReader(file)
            for name, value in row.items()
            if value and name != "step"
        }
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    in_tensorboard = {
        (name, event.step): event.value for name in events.Tags()["scalars"] for event in events.Scalars(name)
    }
    names = {name for name, _ in ours}
    assert {"train/loss_step", "val/mIoU", "test/mIoU", "test/IoU/boat", "best/val_score"} <= names
    assert any(name.startswith("lr-SGD") for name in names)
    assert len(ours) > 50
    assert ours.keys() == in_csv.keys() == in_tensorboard.keys()
    for key, value in ours.items():
        for other in (in_csv[key], in_tensorboard[key]):
            assert np.float32(other) == np.float32(value) or (np.isnan(other) and np.isnan(value)), key


def test_run_is_named_grouped_and_tagged(run: Path) -> None:
    directory = only_run(run)
    (begun,) = records(directory, "run")
    assert begun["display_name"] == "encoding-jpu-r18-os32-s3"
    assert begun["run_group"] == "encoding-jpu-r18-os32-scenes"
    assert begun["job_type"] == "train"
    assert begun["tags"] == ["encoding", "jpu", "resnet18", "scenes"]
    assert begun["run_id"] == json.loads((run / "wandb_run.json").read_text())["id"]
    record = inspect(directory)
    assert record["exit_code"] == 0
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert {key: record["config"][key] for key in config} == config  # resolved, the whole of it
    assert record["config"]["run_name"] == begun["display_name"]
    assert record["config"]["summary"]["head"]["parameters"] > 0
    assert "epoch 2/2" in "".join(line["line"] for line in records(directory, "output_raw"))


def test_tables_and_summary_are_the_results(run: Path) -> None:
    directory = only_run(run)
    results = json.loads((run / "results.json").read_text())
    summary = inspect(directory)["summary"]
    assert summary["test/mIoU"] == pytest.approx(results["test"]["mIoU"], rel=1e-5)
    assert summary["best/val_score"] == pytest.approx(results["val_score"], rel=1e-5)
    table = json.loads((directory / "files" / summary["test/IoU"]["path"]).read_text())
    assert table["columns"] == ["class", "IoU", "boundary IoU"]
    boundary = results["test"]["class_boundary_IoU"]
    assert table["data"] == [[name, iou, boundary[name]] for name, iou in results["test"]["IoU"].items()]
    confusion = json.loads((directory / "files" / summary["test/confusion_table"]["path"]).read_text())
    assert sum(row[2] for row in confusion["data"]) == 4 * 64 * 64
    for name in ("val_IoU.csv", "test_IoU.csv", "test_confusion.csv"):
        with (run / name).open() as file:
            assert len(list(csv.reader(file))) == 1 + 11
    history = [record["item"] for record in records(directory, "history")]
    assert [item["trainer/global_step"] for item in history if "val/IoU.path" in item] == [2, 4]  # each epoch


def test_pictures_are_overlays(run: Path) -> None:
    directory = only_run(run)
    images = inspect(directory)["summary"]["val/predictions"]
    assert (images["count"], images["width"], images["height"]) == (4, 64, 64)
    for masks in images["all_masks"]:
        for name in ("prediction", "ground_truth"):
            mask = np.asarray(Image.open(directory / "files" / masks[name]["path"]))
            assert mask.shape == (64, 64)
            assert set(np.unique(mask)) <= {*range(11), 255}


def test_checkpoint_and_code_are_artifacts_on_request(run: Path) -> None:
    artifacts = {record["type"]: record for record in records(only_run(run), "artifact")}
    model = artifacts["model"]
    best = run / "checkpoints" / "best.ckpt"
    results = json.loads((run / "results.json").read_text())
    metadata = json.loads(model["metadata"])
    assert "best" in model["aliases"]
    assert [entry["path"] for entry in model["manifest"]["contents"]] == ["best.ckpt"]
    assert metadata["sha256"] == hashlib.sha256(best.read_bytes()).hexdigest()
    assert metadata["score"] == pytest.approx(results["val_score"])
    assert metadata["data"] == "scenes"
    assert metadata["epoch"] in (0, 1)
    code = {entry["path"] for entry in artifacts["code"]["manifest"]["contents"]}
    assert {"src/train.py", "src/fastfcn/module.py", "conf/train.yaml"} <= code
    assert all(path.startswith(("src/", "conf/")) for path in code)


def test_tensorboard_shows_tables_pictures_and_hyperparameters(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert len(events.Images("val/predictions")) == 2
    tags = events.Tags()["tensors"]
    assert {f"{name}/text_summary" for name in ("val/IoU", "test/IoU", "test/confusion")} <= set(tags)
    assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")


def test_every_job_of_a_multirun_is_a_finished_run_of_its_own(tmp_path: Path, data_dir: Path, offline: None) -> None:
    overrides = [item for item in TINY if not item.startswith("upsample")]
    jobs = ["-m", "upsample=bilinear,fpn", "logger=wandb", f"hydra.sweep.dir={tmp_path}", f"paths.data_dir={data_dir}"]
    done = start("train.py", *jobs, *overrides).check()
    assert done.out.count("wandb sync") == 2
    directories = sorted(tmp_path.glob("*/wandb/offline-run-*"))
    assert len(directories) == 2
    for directory, upsample in zip(directories, ("bilinear", "fpn"), strict=True):
        record = inspect(directory)
        figures = json.loads((directory.parents[1] / "results.json").read_text())
        assert record["exit_code"] == 0
        assert record["name"] == f"encoding-{upsample}-r18-os32-s0"
        assert set(record["tags"]) == {"encoding", upsample, "resnet18", "scenes"}
        assert f"models.upsamplers.{upsample}" in json.dumps(record["config"])
        assert record["summary"]["test/mIoU"] == pytest.approx(figures["test"]["mIoU"], rel=1e-5)
        assert {item["type"] for item in records(directory, "artifact")} == {"run_table"}  # neither code nor checkpoint


def test_killed_training_goes_on_in_the_same_run(tmp_path: Path, data_dir: Path, offline: None) -> None:
    overrides = [*TINY, "logger=wandb", f"paths.data_dir={data_dir}", "trainer.log_every_n_steps=1"]
    command = [sys.executable, "-u", str(SRC / "train.py"), *overrides, f"hydra.run.dir={tmp_path}/a"]
    process = subprocess.Popen(
        [*command, "trainer.max_epochs=1000"], env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 2/1000"):  # the first epoch's checkpoint is written
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = json.loads((tmp_path / "a" / "wandb_run.json").read_text())["id"]
    last = f"resume={tmp_path}/a/checkpoints/last.ckpt"
    for name in ("b", "a"):  # in another directory, and there
        start("train.py", *overrides, last, "trainer.max_epochs=4", f"hydra.run.dir={tmp_path}/{name}").check()
    parts = list((tmp_path / "a" / "wandb").glob("offline-run-*"))
    assert len(parts) == 2
    assert all(part.name.endswith(f"-{kept}") for part in parts)
    other = only_run(tmp_path / "b")
    assert not other.name.endswith(kept)
    assert inspect(other)["exit_code"] == 0


def test_failed_training_is_marked_and_a_silent_server_does_not_stop_it(
    tmp_path: Path, data_dir: Path, offline: None
) -> None:
    with silent_server() as url:
        options = ("logger=wandb", "logger.wandb.init_timeout=3", "optim.lr=1e30", "trainer.max_epochs=3")
        overrides = (*TINY, *options, f"paths.data_dir={data_dir}", f"hydra.run.dir={tmp_path}")
        done = start("train.py", *overrides, WANDB_MODE="online", WANDB_API_KEY="0" * 40, WANDB_BASE_URL=url)
    assert "trainer.gradient_clip_val=1.0" in done.sentence()
    assert len([line for line in done.out.splitlines() if line.startswith("W&B runs offline (CommError: ")]) == 1
    assert inspect(only_run(tmp_path))["exit_code"] == 1


@two_processes
def test_two_processes_are_one_run(tmp_path: Path, data_dir: Path, offline: None) -> None:
    ddp = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "logger=all")
    overrides = (*TINY, *ddp, f"paths.data_dir={data_dir}", f"hydra.run.dir={tmp_path}/run")
    done = start("train.py", *overrides, cwd=tmp_path).check()
    assert done.out.count("W&B runs offline") == 1
    assert [path.name for path in tmp_path.rglob("*.wandb")] == [f"run-{only_run(tmp_path / 'run').name[-12:]}.wandb"]
    record = inspect(only_run(tmp_path / "run"))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert record["exit_code"] == 0
    assert record["summary"]["test/mIoU"] == pytest.approx(results["test"]["mIoU"], rel=1e-5)
