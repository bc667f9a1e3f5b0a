import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from PIL import Image
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fastfcn.callbacks import DrawPredictions, LogLearningRate, ShowSummary, StopOnNonFinite
from fastfcn.errors import UserError
from fastfcn.progress import PlainProgress, progress_bar
from fastfcn.types import Batch, DataFacts, HeadOutput, Pyramid

CONF = Path(__file__).parents[1] / "conf"
FACTS = DataFacts("toy", ("grass", "roof"), ((10, 200, 30), (250, 20, 60)))


class Images(Dataset[dict[str, Any]]):
    """Eight images; those named hold a NaN."""

    def __init__(self, damaged: tuple[int, ...] = ()) -> None:
        self.damaged = damaged

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = torch.full((3, 16, 16), index / 8)
        mask = (torch.arange(16) < 8).long().expand(16, 16)
        return {
            "image": torch.full_like(image, math.nan) if index in self.damaged else image,
            "mask": mask,
            "name": f"image_{index}",
        }


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, image: Tensor) -> Pyramid:
        c2 = self.norm(self.conv(image))
        return Pyramid(c2, c2, c2, c2)


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(4, 2, 1)

    def forward(self, pyramid: Pyramid) -> HeadOutput:
        return HeadOutput(self.classifier(pyramid.c5))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.upsample = nn.Identity()
        self.head = Head()
        self.aux_head = None

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.upsample(self.backbone(image))).logits
        return logits


class Module(pl.LightningModule):
    """The interface of SegmentationModule that the callbacks use."""

    def __init__(self, *, score: tuple[float, ...] = (0.5,), poison_gradients: bool = False) -> None:
        super().__init__()
        self.model = Model()
        self.facts = FACTS
        self.score = score
        self.poison_gradients = poison_gradients

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        ce = nn.functional.cross_entropy(self.model(batch["image"]), batch["mask"])
        self.log("train/loss", ce, on_step=True, on_epoch=True, prog_bar=True, batch_size=len(batch["mask"]))
        self.log("train/ce", ce, batch_size=len(batch["mask"]))
        return ce

    def on_after_backward(self) -> None:
        if self.poison_gradients:
            self.model.head.classifier.weight.grad.fill_(math.nan)  # type: ignore[union-attr]

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return {"prediction": self.model(batch["image"]).argmax(dim=1)}

    def on_validation_epoch_end(self) -> None:
        score = self.score[min(self.current_epoch, len(self.score) - 1)]
        self.log_dict({"val/score": score, "val/mIoU": score}, prog_bar=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.model(batch["image"])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def loader(damaged: tuple[int, ...] = ()) -> DataLoader[dict[str, Any]]:
    return DataLoader(Images(damaged), batch_size=2)


def trainer(tmp_path: Path, *callbacks: Callback, **options: Any) -> pl.Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 2,
        "logger": False,
        "enable_progress_bar": any(isinstance(callback, PlainProgress) for callback in callbacks),
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        "default_root_dir": tmp_path,
        "log_every_n_steps": 1,
    }
    warnings.filterwarnings("ignore", message=".*(does not have many workers|GPU available).*")
    return pl.Trainer(callbacks=list(callbacks), **{**defaults, **options})


def weights(module: pl.LightningModule) -> list[Tensor]:
    return [value.detach().clone() for value in module.parameters()]


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


def test_nan_stops_before_the_weights_change(tmp_path: Path) -> None:
    module = Module()
    steps: list[list[Tensor]] = []

    class Record(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            steps.append(weights(module))

    with pytest.raises(UserError) as caught:
        trainer(tmp_path, StopOnNonFinite(), Record()).fit(module, loader(damaged=(5,)))
    assert len(steps) == 3  # the damaged image is in the third batch
    assert all(torch.equal(now, before) for now, before in zip(weights(module), steps[-1], strict=True))
    message = str(caught.value)
    for word in ("nan", "epoch 0", "step 2", "train/ce nan", "image_4, image_5", "optim.lr", "gradient_clip_val"):
        assert word in message


def test_nan_in_an_accumulated_batch_stops_at_that_batch(tmp_path: Path) -> None:
    module = Module()
    before = weights(module)
    with pytest.raises(UserError, match="image_0, image_1"):
        trainer(tmp_path, StopOnNonFinite(), accumulate_grad_batches=4).fit(module, loader(damaged=(0,)))
    assert all(torch.equal(now, then) for now, then in zip(weights(module), before, strict=True))


def test_no_checkpoint_of_non_finite_weights(tmp_path: Path) -> None:
    """Finite losses whose gradients are not: the last step of the epoch is followed by a checkpoint."""
    stop, last = StopOnNonFinite(), ModelCheckpoint(dirpath=tmp_path / "checkpoints", filename="last")
    poisoned = Module(poison_gradients=True)
    with pytest.raises(UserError, match="weights are no longer finite at epoch 0"):
        trainer(tmp_path, stop, last, limit_train_batches=1).fit(poisoned, loader(), loader())
    assert not list((tmp_path / "checkpoints").glob("*"))


def test_finite_training_is_left_alone(tmp_path: Path) -> None:
    pl.seed_everything(0)
    plain, watched = Module(), Module()
    watched.load_state_dict(plain.state_dict())
    trainer(tmp_path).fit(plain, loader())
    trainer(tmp_path, StopOnNonFinite()).fit(watched, loader())
    assert all(torch.equal(a, b) for a, b in zip(weights(plain), weights(watched), strict=True))


@pytest.mark.slow
def test_all_processes_stop_where_one_has_a_nan(tmp_path: Path) -> None:
    """Under DDP the damaged image reaches the second process alone; the first must not wait for it for ever."""
    script = tmp_path / "ddp.py"
    script.write_text(
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path\n"
        "from tests.test_callbacks import Module, StopOnNonFinite, loader, trainer\n"
        "class Recording(StopOnNonFinite):\n"
        "    def on_before_optimizer_step(self, trainer, *arguments):\n"
        "        try:\n"
        "            super().on_before_optimizer_step(trainer, *arguments)\n"
        "        except ValueError as error:\n"
        "            Path(sys.argv[1], f'{trainer.global_rank}.txt').write_text(str(error))\n"
        "            trainer.strategy.barrier()\n"  # a process that has not stopped would never come here
        "            raise\n"
        "run = trainer(Path(sys.argv[1]), Recording(), strategy='ddp_fork', devices=2)\n"
        "run.fit(Module(), loader(damaged=(5,)))\n"
    )
    root = Path(__file__).parents[1]
    command = [sys.executable, str(script), str(tmp_path), str(root), str(root / "src")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode != 0
    messages = sorted((tmp_path / f"{rank}.txt").read_text().split(":")[0] for rank in range(2))
    assert messages[0].startswith("The training loss is nan at epoch 0")
    assert messages[1].startswith("The training loss of another process is not finite at epoch 0")


def test_summary_is_printed_and_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    show = ShowSummary(image_size=(64, 48))
    trainer(tmp_path, show, logger=logger, max_epochs=1).fit(Module(), loader())
    assert "Model at 64 x 48 pixels" in capsys.readouterr().out
    logged = OmegaConf.load(tmp_path / "hparams.yaml")
    assert logged.summary.head.parameters == 4 * 2 + 2


def test_learning_rate_is_logged_each_step_and_harmless_without_logger(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    trainer(tmp_path, LogLearningRate(logging_interval="step"), logger=logger, max_epochs=1).fit(Module(), loader())
    assert "lr-SGD" in (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert "0.025" in (tmp_path / "metrics.csv").read_text()
    trainer(tmp_path, LogLearningRate(logging_interval="step")).fit(Module(), loader())


def test_plain_progress_prints_lines_with_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trainer(tmp_path, PlainProgress(seconds=1000))
    run.fit(Module(), loader(), loader())
    run.test(Module(), loader(), verbose=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("epoch", "test"))]
    assert [line.split("  ")[:2] for line in lines] == [
        ["epoch 1/2", "batch 4/4"],
        ["epoch 1/2", "validated"],
        ["epoch 2/2", "batch 4/4"],
        ["epoch 2/2", "validated"],
        ["test", "batch 4/4"],
    ]
    assert "val/mIoU 0.5" in "".join(lines)
    assert "train/loss" in "".join(lines)


def test_progress_suits_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(progress_bar(), PlainProgress)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert isinstance(progress_bar(), RichProgressBar)


def configured(run_dir: Path) -> list[Callback]:
    """The callbacks of conf/callbacks/default.yaml."""
    from hydra.utils import instantiate

    config = OmegaConf.create(
        {"paths": {"run_dir": str(run_dir)}, "callbacks": OmegaConf.load(CONF / "callbacks/default.yaml")}
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


@pytest.mark.parametrize("group", ["callbacks", "logger"])
def test_none_is_empty(group: str) -> None:
    assert OmegaConf.load(CONF / group / "none.yaml") == {}


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="images=-1"):
        DrawPredictions(directory=str(tmp_path), images=-1)
    with pytest.raises(UserError, match="image_size"):
        ShowSummary(image_size=(0, 4))
