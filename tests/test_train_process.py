"""train.py from outside: what a run directory holds, resume, fast_dev_run, multirun."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

import fastfcn
from fastfcn.checkpoint import config_dir
from fastfcn.data.scene_drawing import CLASS_NAMES
from tests.scripts import ROOT, SRC, TINY, Done, call, environment

pytestmark = pytest.mark.slow


def test_run_directory(training: Done, run_dir: Path) -> None:
    files = {path.relative_to(run_dir).as_posix() for path in run_dir.rglob("*") if path.is_file()}
    wanted = {
        "config.yaml",
        "overrides.yaml",
        "provenance.json",
        "results.json",
        "metrics.csv",
        "curves.png",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "pictures/epoch_000.png",
    }
    assert wanted <= files
    for picture in ("curves.png", "pictures/epoch_000.png"):
        with Image.open(run_dir / picture) as image:
            image.load()
            assert min(image.size) > 64


def test_configuration_is_kept_resolved(training: Done, run_dir: Path, data_dir: Path) -> None:
    text = (run_dir / "config.yaml").read_text()
    assert "${" not in text
    config: Any = OmegaConf.create(text)
    assert config["model"]["backbone"]["depth"] == 18
    assert config["model"]["head"]["kernel_size"] == 1  # behind JPU
    assert config["data"]["dataset"]["cache_dir"] == f"{data_dir}/scenes"
    assert config["paths"]["run_dir"] == str(run_dir)
    overrides = OmegaConf.load(run_dir / "overrides.yaml")
    assert overrides == [*TINY, f"paths.data_dir={data_dir}"]


def test_provenance(training: Done, run_dir: Path) -> None:
    provenance = json.loads((run_dir / "provenance.json").read_text())
    assert provenance["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert "train.py" in provenance["command"]
    git = ["git", "-C", str(ROOT)]
    if subprocess.run([*git, "ls-files", "--error-unmatch", "src/train.py"], capture_output=True).returncode == 0:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        assert provenance["git"]["commit"] == head.stdout.strip()
        assert isinstance(provenance["git"]["dirty"], bool)


def test_the_end_of_the_output(training: Done, run_dir: Path, best: Path) -> None:
    lines = training.out.splitlines()
    assert lines[-1] == f"best checkpoint: {best}"
    assert f"results:         {run_dir / 'results.json'}" in lines
    assert "test of encoding-jpu-resnet18 on scenes, whole" in lines
    test = json.loads((run_dir / "results.json").read_text())["test"]
    assert set(test["IoU"]) == set(CLASS_NAMES)
    for name, value in {"pixAcc": test["pixAcc"], "mIoU": test["mIoU"], **test["IoU"]}.items():
        row = next(line for line in lines if line.startswith("│") and line.split("│")[1].split()[-1] == name)
        assert row.split("│")[2].strip() == ("-" if value is None else f"{100 * value:.2f}")


def test_metrics_and_results_agree(training: Done, run_dir: Path, best: Path) -> None:
    results = json.loads((run_dir / "results.json").read_text())
    with (run_dir / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    scores = [float(row["val/score"]) for row in rows if row["val/score"]]
    assert results["val_score"] == pytest.approx(max(scores), rel=1e-6)
    assert results["best_checkpoint"] == str(best)
    assert (results["epochs"], results["steps"]) == (1, 2)
    assert results["choices"] == {"head": "encoding", "upsample": "jpu", "backbone": "resnet18", "data": "scenes"}
    [pix_acc] = [float(row["val/pixAcc"]) for row in rows if row["val/pixAcc"]]
    [miou] = [float(row["val/mIoU"]) for row in rows if row["val/mIoU"]]
    assert scores == [pytest.approx((pix_acc + miou) / 2, rel=1e-6)]


def test_no_warning_but_the_short_epoch(training: Done) -> None:
    noise = [line for line in training.err.splitlines() if line and "smaller than the logging interval" not in line]
    assert noise == []


def test_checkpoint_is_of_plain_types(best: Path, last: Path) -> None:
    for path in (best, last):
        content = torch.load(path, map_location="cpu", weights_only=True)
        assert content["fastfcn"]["facts"]["class_names"] == list(CLASS_NAMES)


def test_fast_dev_run_writes_no_checkpoint(tmp_path: Path, data_dir: Path) -> None:
    done = call("train.py", *TINY, "debug=fast", f"paths.data_dir={data_dir}", f"hydra.run.dir={tmp_path}").check()
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["steps"] == 1
    assert results["best_checkpoint"] is None
    assert done.out.rstrip().endswith("best checkpoint: none was written")
    assert not (tmp_path / "checkpoints").exists()


def test_same_seed_same_training(training: Done, run_dir: Path, tmp_path: Path, data_dir: Path) -> None:
    # Another process with other things loaded and drawn before.
    torch.rand(7)
    call("train.py", *TINY, f"paths.data_dir={data_dir}", f"hydra.run.dir={tmp_path}").check()
    results = [json.loads((folder / "results.json").read_text()) for folder in (run_dir, tmp_path)]
    assert results[0]["val_score"] == results[1]["val_score"]
    assert results[0]["test"] == results[1]["test"]


def test_resume_goes_on_where_the_run_stopped(last: Path, tmp_path: Path, data_dir: Path) -> None:
    overrides = (f"paths.data_dir={data_dir}", f"hydra.run.dir={tmp_path}", f"resume={last}", "trainer.max_epochs=3")
    done = call("train.py", *TINY, *overrides).check()
    assert "epoch 1/3" not in done.out
    assert "epoch 2/3" in done.out
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["epochs"], results["steps"]) == (3, 6)
    content = torch.load(tmp_path / "checkpoints/last.ckpt", map_location="cpu", weights_only=True)
    assert (content["epoch"], content["global_step"]) == (2, 6)
    with (tmp_path / "metrics.csv").open() as file:
        assert {row["epoch"] for row in csv.DictReader(file) if row["val/score"]} == {"1", "2"}


def test_multirun_of_two(tmp_path: Path, data_dir: Path) -> None:
    tiny = [override for override in TINY if not override.startswith("upsample.")]
    overrides = (*tiny, "upsample=bilinear,jpu", f"paths.data_dir={data_dir}", f"hydra.sweep.dir={tmp_path}")
    command = [sys.executable, str(SRC / "train.py"), "-m", *overrides]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    runs = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert runs == ["encoding-bilinear-r18-os32-s0", "encoding-jpu-r18-os32-s0"]
    for run, upsample in zip(runs, ("bilinear", "jpu"), strict=True):
        results = json.loads((tmp_path / run / "results.json").read_text())
        assert results["choices"]["upsample"] == upsample
        assert Path(results["best_checkpoint"]) == tmp_path / run / "checkpoints/best.ckpt"
        model = fastfcn.load_model(results["best_checkpoint"])
        assert type(model.upsample).__name__.lower() == upsample
        assert f"upsample={upsample}" in OmegaConf.load(tmp_path / run / "overrides.yaml")


def test_demo_sweep_is_four_jobs() -> None:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=["sweep=demo"], return_hydra_config=True)
        assert config.hydra.mode.name == "MULTIRUN"
        upsamplers = config.hydra.sweeper.params.upsample.split(",")
        assert upsamplers == ["none", "bilinear", "fpn", "jpu"]
        for upsample in upsamplers:
            job = compose("train", overrides=["sweep=demo", f"upsample={upsample}"])
            assert job.backbone.depth == 18
            assert job.output_stride == (8 if upsample == "none" else 32)


def test_interrupt_ends_in_order(tmp_path: Path, data_dir: Path) -> None:
    overrides = ("trainer.max_epochs=1000", f"paths.data_dir={data_dir}", f"hydra.run.dir={tmp_path}")
    command = [sys.executable, "-u", str(SRC / "train.py"), *TINY, *overrides]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 2/1000"):  # the first epoch's checkpoint is written
            break
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert not (tmp_path / "results.json").exists()  # nothing is reported as if it were done
    torch.load(tmp_path / "checkpoints/last.ckpt", map_location="cpu", weights_only=True)
