"""A training in miniature, with the interface of SegmentationModule that the callbacks use."""

import math
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fastfcn.metrics import Scores, SegmentationMetrics
from fastfcn.progress import PlainProgress
from fastfcn.types import Batch, DataFacts, HeadOutput, Pyramid

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
        self.metrics = SegmentationMetrics(FACTS.num_classes)
        self.val_scores: Scores | None = None

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        ce = nn.functional.cross_entropy(self.model(batch["image"]), batch["mask"])
        self.log("train/loss", ce, on_step=True, on_epoch=True, prog_bar=True, batch_size=len(batch["mask"]))
        self.log("train/ce", ce, batch_size=len(batch["mask"]))
        return ce

    def on_after_backward(self) -> None:
        if self.poison_gradients:
            self.model.head.classifier.weight.grad.fill_(math.nan)  # type: ignore[union-attr]

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        prediction = self.model(batch["image"]).argmax(dim=1)
        self.metrics.update(prediction, batch["mask"])
        return {"prediction": prediction}

    def on_validation_epoch_end(self) -> None:
        score = self.score[min(self.current_epoch, len(self.score) - 1)]
        self.val_scores = self.metrics.compute()
        self.metrics.reset()
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
