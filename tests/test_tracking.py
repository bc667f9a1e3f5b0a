import csv
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.loggers.logger import DummyLogger

from fastfcn import tracking
from fastfcn.errors import UserError

COLUMNS = ["class", "IoU"]
ROWS: list[list[Any]] = [["grass", 0.5], ["roof", None]]
PICTURE = np.full((12, 20, 3), 77, dtype=np.uint8)


@pytest.fixture(autouse=True)
def no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither the user's environment nor the user's files decide what a test sees."""
    import wandb

    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb_config"))
    wandb.teardown()
    yield
    wandb.teardown()


def log_everything(loggers: list[Logger]) -> None:
    tracking.log_config(loggers, {"model": {"head": {"name": "encoding", "rates": [1, 2]}}})
    for logger in loggers:
        logger.log_metrics({"val/mIoU": 0.25}, step=3)
    tracking.log_picture(loggers, "val/predictions", PICTURE, 3)
    tracking.log_table(loggers, "test/per_class", COLUMNS, ROWS, 3)
    tracking.log_summary(loggers, {"best/score": 0.75})
    tracking.finish(loggers)


def test_csv_logger_writes_into_the_run_directory(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log_everything([tracking.csv_logger(save_dir=str(tmp_path))])
    assert "0.25" in (tmp_path / "metrics.csv").read_text()
    assert "encoding" in (tmp_path / "hparams.yaml").read_text()
    with (tmp_path / "test_per_class.csv").open() as file:
        assert list(csv.reader(file)) == [COLUMNS, ["grass", "0.5"], ["roof", ""]]


def test_csv_logger_keeps_the_metrics_of_an_earlier_run(tmp_path: Path) -> None:
    for value in (1.0, 2.0, 3.0):
        logger = tracking.csv_logger(save_dir=str(tmp_path))
        logger.log_metrics({"x": value}, step=0)
        logger.finalize("success")
    found = {file.name: file.read_text().splitlines()[1][-3:] for file in tmp_path.glob("*.csv")}
    assert {name: row.split(",")[-1] for name, row in found.items()} == {
        "metrics.1.csv": "1.0",
        "metrics.2.csv": "2.0",
        "metrics.csv": "3.0",
    }


def test_loggers_that_can_show_nothing_are_passed_over() -> None:
    log_everything([DummyLogger()])
    log_everything([])


def test_tensorboard_holds_picture_table_and_metric(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log_everything([tracking.tensorboard_logger(save_dir=str(tmp_path))])
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Scalars("val/mIoU")[0].value == pytest.approx(0.25)
    image = events.Images("val/predictions")[0]
    assert (image.step, image.width, image.height) == (3, 20, 12)
    assert "grass|0.5" in events.Tensors("test/per_class/text_summary")[0].tensor_proto.string_val[0].decode()


def test_missing_tensorboard_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"pip install -e \.\[tensorboard\]"):
        tracking.tensorboard_logger(save_dir=str(tmp_path))


def test_wandb_offline_run_can_be_read_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import wandb

    run = tmp_path / "a run"
    logger = tracking.wandb_logger(
        project="toy", save_dir=str(run), run_name="first", group="table1", tags=["jpu", "encoding"]
    )
    log_everything([logger])
    assert wandb.run is None, "the next run of the process must get its own"

    printed = capfd.readouterr()
    assert printed.err == ""
    assert len(printed.out.splitlines()) == 1
    assert f"wandb sync '{run}/wandb'/offline-run-*" in printed.out

    (directory,) = (run / "wandb").glob("offline-run-*")
    record = inspect(directory)
    assert record["config"]["model"]["head"] == {"name": "encoding", "rates": [1, 2]}
    assert record["project"] == "toy"
    assert record["name"] == "first"
    assert sorted(record["tags"]) == ["encoding", "jpu"]
    assert record["exit_code"] == 0
    summary = record["summary"]
    assert summary["val/mIoU"] == 0.25
    assert summary["best/score"] == 0.75
    assert summary["val/predictions"]["width"] == 20
    assert (directory / "files" / summary["val/predictions"]["filenames"][0]).is_file()
    table = json.loads((directory / "files" / summary["test/per_class"]["path"]).read_text())
    assert table["columns"] == COLUMNS
    assert table["data"] == ROWS


def inspect(directory: Path) -> dict[str, Any]:
    """The run's record as W&B's own reader of offline runs prints it."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", str(directory), "--summary", "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, cwd=directory)
    record: dict[str, Any] = json.loads(done.stdout)
    return record


@pytest.mark.parametrize(
    ("environment", "netrc", "mode", "expected"),
    [
        ({}, None, "auto", "offline"),
        ({"WANDB_API_KEY": "0" * 40}, None, "auto", "online"),
        ({}, "machine api.wandb.ai login user password " + "0" * 40, "auto", "online"),
        ({}, "machine example.org login user password " + "0" * 40, "auto", "offline"),
        (
            {"WANDB_BASE_URL": "https://wandb.example.org"},
            "machine wandb.example.org login u password " + "0" * 40,
            "auto",
            "online",
        ),
        ({"WANDB_API_KEY": "0" * 40, "WANDB_MODE": "offline"}, None, "auto", "offline"),
        ({"WANDB_MODE": "disabled"}, None, "auto", "disabled"),
        ({"WANDB_MODE": "online"}, None, "disabled", "disabled"),
        ({}, None, "online", "online"),
    ],
)
def test_wandb_mode(
    environment: dict[str, str],
    netrc: str | None,
    mode: tracking.WandbMode,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if netrc is not None:
        (tmp_path / "netrc").write_text(netrc)
        (tmp_path / "netrc").chmod(0o600)
    logger = tracking.wandb_logger(project="toy", save_dir=str(tmp_path), mode=mode)
    assert logger._wandb_init["mode"] == expected


def test_wandb_disabled_logs_to_nowhere(tmp_path: Path) -> None:
    log_everything([tracking.wandb_logger(project="toy", save_dir=str(tmp_path / "run"), mode="disabled")])
    assert not list(tmp_path.rglob("*.wandb"))


def test_unknown_wandb_mode_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="auto, online, offline, disabled"):
        tracking.wandb_logger(project="toy", save_dir=str(tmp_path), mode="offlin")  # type: ignore[arg-type]


def test_failed_run_is_marked_as_failed(tmp_path: Path) -> None:
    logger = tracking.wandb_logger(project="toy", save_dir=str(tmp_path), mode="offline")
    logger.log_metrics({"x": 1.0}, step=0)
    tracking.finish([logger], success=False)
    (directory,) = (tmp_path / "wandb").glob("offline-run-*")
    assert inspect(directory)["exit_code"] == 1


def test_config_reaches_every_logger(tmp_path: Path) -> None:
    loggers = [CSVLogger(tmp_path / name, name="", version="") for name in "ab"]
    tracking.log_config(loggers, {"seed": 7})
    tracking.finish(loggers)
    assert all("seed: 7" in (tmp_path / name / "hparams.yaml").read_text() for name in "ab")
