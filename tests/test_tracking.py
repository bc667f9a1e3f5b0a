import csv
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.loggers.logger import DummyLogger

from fastfcn import tracking
from fastfcn.csv_logging import RunCSVLogger
from fastfcn.errors import UserError
from fastfcn.pictures import Example
from fastfcn.types import DataFacts
from fastfcn.wandb_logging import WandbMode, wandb_logger
from tests.wandb_records import inspect, only_run, records

pytestmark = pytest.mark.usefixtures("own_wandb")

COLUMNS = ["class", "IoU"]
ROWS: list[list[Any]] = [["grass", 0.5], ["roof", None]]
PICTURE = np.full((12, 20, 3), 77, dtype=np.uint8)
FACTS = DataFacts("toy", ("grass", "roof"), ((10, 200, 30), (250, 20, 60)))
EXAMPLE = Example(
    np.full((6, 8, 3), 99, dtype=np.uint8),
    np.array([[-1, 0, 0, 0, 1, 1, 1, 1]] * 6),
    (np.array([[0, 0, 0, 0, 1, 1, 0, 0]] * 6),),
    "an image",
)


def log_everything(loggers: list[Logger]) -> None:
    tracking.log_config(loggers, {"model": {"head": {"name": "encoding", "rates": [1, 2]}}})
    for logger in loggers:
        logger.log_metrics({"val/mIoU": 0.25}, step=3)
    tracking.log_predictions(loggers, "val/predictions", [EXAMPLE], facts=FACTS, picture=PICTURE, step=3)
    tracking.log_table(loggers, "test/per_class", COLUMNS, ROWS, 3)
    tracking.log_confusion(loggers, "test/confusion", torch.tensor([[5, 1], [0, 7]]), FACTS.class_names, 3)
    tracking.log_metrics(loggers, {"best/score": 0.75}, 3)
    tracking.log_summary(loggers, {"best/score": 0.75}, 3)
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
    with (tmp_path / "test_confusion.csv").open() as file:
        assert list(csv.reader(file)) == [["label", "grass", "roof"], ["grass", "5", "1"], ["roof", "0", "7"]]


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


def rows(folder: Path) -> list[str]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [row["x"] for row in csv.DictReader(file)]


def test_rows_outlive_a_run_that_was_killed_before_it_took_them_over(tmp_path: Path) -> None:
    """Killed again and again, between the start and the checkpoint's being read: what was logged is not lost."""
    first = RunCSVLogger(str(tmp_path))
    for value in (1.0, 2.0, 3.0):
        first.log_metrics({"x": value}, step=0)
    first.flushed()
    for _ in range(2):
        assert RunCSVLogger(str(tmp_path)).experiment is not None  # by which the file is moved
    last = RunCSVLogger(str(tmp_path))
    last.go_on(tmp_path / "checkpoints/last.ckpt", rows=2, row=None)
    last.log_metrics({"x": 4.0, "y": 5.0}, step=1)
    last.flushed()
    assert rows(tmp_path) == ["1.0", "2.0", "4.0"]


def test_a_kill_while_rows_are_taken_over_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = RunCSVLogger(str(tmp_path))
    for value in (1.0, 2.0):
        first.log_metrics({"x": value}, step=0)
    first.flushed()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    checkpoint = tmp_path / "checkpoints/last.ckpt"
    with monkeypatch.context() as patch:
        patch.setattr(csv.DictWriter, "writerows", killed)
        with pytest.raises(KeyboardInterrupt):
            RunCSVLogger(str(tmp_path)).go_on(checkpoint, rows=2, row=None)
    RunCSVLogger(str(tmp_path)).go_on(checkpoint, rows=2, row=None)
    assert rows(tmp_path) == ["1.0", "2.0"]


def test_a_kill_while_columns_are_added_loses_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = RunCSVLogger(str(tmp_path))
    logger.log_metrics({"x": 1.0}, step=0)
    logger.flushed()
    logger.log_metrics({"x": 2.0, "y": 3.0}, step=1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(csv.DictWriter, "writerows", killed)
    with pytest.raises(KeyboardInterrupt):
        logger.flushed()
    assert rows(tmp_path) == ["1.0"]


def test_loggers_that_can_show_nothing_are_passed_over() -> None:
    log_everything([DummyLogger()])
    log_everything([])


def test_tensorboard_holds_picture_table_and_metric(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log_everything([tracking.tensorboard_logger(save_dir=str(tmp_path))])
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Scalars("val/mIoU")[0].value == pytest.approx(0.25)
    image = events.Images("val/predictions")[0]
    assert (image.step, image.width, image.height) == (3, 20, 12)
    assert "grass|5|1" in events.Tensors("test/confusion/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")
    assert [(event.step, event.value) for event in events.Scalars("best/score")] == [(3, 0.75)] * 2  # HParams' own copy
    assert "grass|0.5" in events.Tensors("test/per_class/text_summary")[0].tensor_proto.string_val[0].decode()


def test_missing_tensorboard_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"pip install -e \.\[tensorboard\]"):
        tracking.tensorboard_logger(save_dir=str(tmp_path))


def test_wandb_offline_run_can_be_read_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import wandb

    run = tmp_path / "a run"
    logger = wandb_logger(project="toy", save_dir=str(run), run_name="first", group="table1", tags=["jpu", "encoding"])
    log_everything([logger])
    assert wandb.run is None, "the next run of the process must get its own"

    printed = capfd.readouterr()
    assert printed.err == ""
    assert len(printed.out.splitlines()) == 1
    assert f"wandb sync '{run}/wandb'/offline-run-*" in printed.out

    directory = only_run(run)
    record = inspect(directory)
    assert record["config"]["model"]["head"] == {"name": "encoding", "rates": [1, 2]}
    assert record["project"] == "toy"
    assert record["name"] == "first"
    assert sorted(record["tags"]) == ["encoding", "jpu"]
    assert record["exit_code"] == 0
    summary = record["summary"]
    assert summary["val/mIoU"] == 0.25
    assert summary["best/score"] == 0.75
    images = summary["val/predictions"]
    assert (images["width"], images["height"], images["captions"]) == (8, 6, ["an image"])
    files = directory / "files"
    assert (np.asarray(Image.open(files / images["filenames"][0])) == EXAMPLE.image).all()
    masks = {name: np.asarray(Image.open(files / mask["path"])) for name, mask in images["all_masks"][0].items()}
    assert set(masks) == {"prediction", "ground_truth"}
    assert (masks["prediction"] == EXAMPLE.predictions[0]).all()
    assert (masks["ground_truth"] == np.where(EXAMPLE.truth < 0, 255, EXAMPLE.truth)).all()
    own = [update["update"]["_wandb"] for update in records(directory, "config") if "_wandb" in update["update"]]
    labels = own[-1]["mask/class_labels"]
    assert len(labels) == 2  # of the prediction and of the truth
    for kept in labels.values():
        assert kept["value"] == {"0": "grass", "1": "roof", "255": "ignored"}
    cells = json.loads((files / summary["test/confusion_table"]["path"]).read_text())
    assert cells["columns"] == ["Actual", "Predicted", "nPredictions"]
    assert cells["data"] == [["grass", "grass", 5], ["grass", "roof", 1], ["roof", "grass", 0], ["roof", "roof", 7]]
    chart = next(update for update in records(directory, "config") if "test/confusion" in json.dumps(update))
    assert "wandb/confusion_matrix/v1" in json.dumps(chart)
    table = json.loads((directory / "files" / summary["test/per_class"]["path"]).read_text())
    assert table["columns"] == COLUMNS
    assert table["data"] == ROWS


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
        ({"WANDB_API_KEY": "0" * 40}, None, "online", "online"),
        ({"WANDB_API_KEY": "0" * 40, "WANDB_MODE": "run"}, None, "auto", "online"),
        ({"WANDB_MODE": "dryrun"}, None, "auto", "offline"),
    ],
)
def test_wandb_mode(
    environment: dict[str, str],
    netrc: str | None,
    mode: WandbMode,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if netrc is not None:
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        (tmp_path / "netrc").write_text(netrc)
        (tmp_path / "netrc").chmod(0o600)
    logger = wandb_logger(project="toy", save_dir=str(tmp_path), mode=mode)
    assert logger._wandb_init["mode"] == expected


def test_wandb_disabled_logs_to_nowhere(tmp_path: Path) -> None:
    log_everything([wandb_logger(project="toy", save_dir=str(tmp_path / "run"), mode="disabled")])
    assert not list(tmp_path.rglob("*.wandb"))


@pytest.mark.parametrize(
    ("variables", "mode", "sentence"),
    [
        ({}, "online", r"logger\.wandb\.mode=online needs credentials: run `wandb login`"),
        ({"WANDB_MODE": "online"}, "auto", "WANDB_MODE=online needs credentials"),
        ({"WANDB_MODE": "onlin"}, "auto", "W&B refuses its settings .mode .*Input should be 'online', 'offline'"),
        ({"WANDB_MODE": "shared"}, "auto", "WANDB_MODE=shared: choose one of online, offline, disabled"),
        ({"WANDB_API_KEY": "short"}, "auto", "API key of W&B is malformed"),
    ],
)
def test_modes_that_cannot_be_are_told(
    variables: dict[str, str], mode: WandbMode, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=sentence):
        wandb_logger(project="toy", save_dir=str(tmp_path), mode=mode)


def test_classes_beyond_the_masks_are_shown_as_a_picture(tmp_path: Path) -> None:
    logger = wandb_logger(project="toy", save_dir=str(tmp_path), mode="offline")
    many = DataFacts("many", tuple(str(index) for index in range(256)), ((0, 0, 0),) * 256)
    tracking.log_predictions([logger], "val/predictions", [EXAMPLE], facts=many, picture=PICTURE, step=1)
    tracking.finish([logger])
    images = inspect(only_run(tmp_path))["summary"]["val/predictions"]
    assert (images["width"], images.get("all_masks")) == (20, None)


def test_unknown_wandb_mode_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="auto, online, offline, disabled"):
        wandb_logger(project="toy", save_dir=str(tmp_path), mode="offlin")  # type: ignore[arg-type]


def test_failed_run_is_marked_as_failed(tmp_path: Path) -> None:
    logger = wandb_logger(project="toy", save_dir=str(tmp_path), mode="offline")
    logger.log_metrics({"x": 1.0}, step=0)
    tracking.finish([logger], success=False)
    directory = only_run(tmp_path)
    assert inspect(directory)["exit_code"] == 1


def test_config_reaches_every_logger(tmp_path: Path) -> None:
    loggers = [CSVLogger(tmp_path / name, name="", version="") for name in "ab"]
    tracking.log_config(loggers, {"seed": 7})
    tracking.finish(loggers)
    assert all("seed: 7" in (tmp_path / name / "hparams.yaml").read_text() for name in "ab")
