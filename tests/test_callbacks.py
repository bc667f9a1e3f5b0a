import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

from fastfcn.callbacks import DrawPredictions, LogClasses, LogLearningRate, ShowSummary
from fastfcn.errors import UserError
from tests.toy import FACTS, Module, loader, trainer

CONF = Path(__file__).parents[1] / "conf"


def test_predictions_are_drawn_each_epoch(tmp_path: Path) -> None:
    draw = DrawPredictions(directory=str(tmp_path / "pictures"), images=3)
    trainer(tmp_path, draw).fit(Module(), loader(), loader())
    assert sorted(file.name for file in (tmp_path / "pictures").iterdir()) == ["epoch_000.png", "epoch_001.png"]
    picture = np.asarray(Image.open(tmp_path / "pictures" / "epoch_000.png"))
    assert picture.shape[0] > 3 * 256  # three rows, from two batches
    assert picture.shape[0] < 4 * 256
    truth = picture[36 : 36 + 256, 14 + 262 : 14 + 262 + 256]
    assert (truth[:, :128] == FACTS.palette[1]).all()
    assert (truth[:, 128:] == FACTS.palette[0]).all()


def test_sanity_check_draws_nothing(tmp_path: Path) -> None:
    draw = DrawPredictions(directory=str(tmp_path / "pictures"))
    trainer(tmp_path, draw, limit_train_batches=0, max_epochs=1, num_sanity_val_steps=2).fit(
        Module(), loader(), loader()
    )
    assert not (tmp_path / "pictures").exists()


def test_validation_alone_is_drawn_under_its_own_name(tmp_path: Path) -> None:
    draw = DrawPredictions(directory=str(tmp_path / "pictures"))
    trainer(tmp_path, draw).validate(Module(), loader(), verbose=False)
    assert [file.name for file in (tmp_path / "pictures").iterdir()] == ["validation.png"]


def test_summary_is_printed_and_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    show = ShowSummary(image_size=(64, 48))
    trainer(tmp_path, show, logger=logger, max_epochs=1).fit(Module(), loader())
    assert "Model at 64 x 48 pixels" in capsys.readouterr().out
    logged = OmegaConf.load(tmp_path / "hparams.yaml")
    assert logged.summary.head.parameters == 4 * 2 + 2


def test_classes_are_logged_after_each_validation(tmp_path: Path) -> None:
    logger, module = CSVLogger(tmp_path, name="", version=""), Module()
    trainer(tmp_path, LogClasses(), logger=logger, max_epochs=1, num_sanity_val_steps=1).fit(module, loader(), loader())
    assert module.val_scores is not None
    with (tmp_path / "val_IoU.csv").open() as file:
        header, *rows = list(csv.reader(file))
    assert header == ["class", "IoU"]
    expected = dict(zip(FACTS.class_names, module.val_scores.iou.tolist(), strict=True))
    assert {name: float(iou) for name, iou in rows} == pytest.approx(expected)
    trainer(tmp_path, LogClasses()).validate(module, loader(), verbose=False)  # without a logger, nothing


def test_learning_rate_is_logged_each_step_and_harmless_without_logger(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    trainer(tmp_path, LogLearningRate(logging_interval="step"), logger=logger, max_epochs=1).fit(Module(), loader())
    assert "lr-SGD" in (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert "0.025" in (tmp_path / "metrics.csv").read_text()
    trainer(tmp_path, LogLearningRate(logging_interval="step")).fit(Module(), loader())


def configured(run_dir: Path) -> list[Callback]:
    """The callbacks of conf/callbacks/default.yaml."""
    from hydra.utils import instantiate

    config = OmegaConf.create(
        {
            "paths": {"run_dir": str(run_dir)},
            "auto_batch": False,
            "callbacks": OmegaConf.load(CONF / "callbacks/default.yaml"),
        }
    )
    return [instantiate(each) for each in config.callbacks.values()]


def test_default_callbacks_leave_best_and_last(tmp_path: Path) -> None:
    run = trainer(tmp_path, *configured(tmp_path), max_epochs=3, enable_progress_bar=True)
    run.fit(Module(score=(0.1, 0.7, 0.3)), loader(), loader())
    epochs = {file.name: torch.load(file, weights_only=True)["epoch"] for file in (tmp_path / "checkpoints").iterdir()}
    assert epochs == {"best.ckpt": 1, "last.ckpt": 2}
    assert isinstance(run.checkpoint_callback, ModelCheckpoint)
    assert run.checkpoint_callback.best_model_path == str(tmp_path / "checkpoints" / "best.ckpt")
    assert len(list((tmp_path / "pictures").iterdir())) == 3


def test_resumed_run_keeps_the_names(tmp_path: Path) -> None:
    trainer(tmp_path, *configured(tmp_path), max_epochs=1, enable_progress_bar=True).fit(
        Module(score=(0.9,)), loader(), loader()
    )
    last = tmp_path / "checkpoints" / "last.ckpt"
    resumed = trainer(tmp_path, *configured(tmp_path), max_epochs=2, enable_progress_bar=True)
    resumed.fit(Module(score=(0.9, 0.2)), loader(), loader(), ckpt_path=last)
    epochs = {file.name: torch.load(file, weights_only=True)["epoch"] for file in last.parent.iterdir()}
    assert epochs == {"best.ckpt": 0, "last.ckpt": 1}


def test_no_logger_is_an_empty_group() -> None:
    assert OmegaConf.load(CONF / "logger" / "none.yaml") == {}


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="images=-1"):
        DrawPredictions(directory=str(tmp_path), images=-1)
    with pytest.raises(UserError, match="image_size"):
        ShowSummary(image_size=(0, 4))
