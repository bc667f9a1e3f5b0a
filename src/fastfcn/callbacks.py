"""What happens around the training: pictures, the summary and the learning rate's log."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, LearningRateMonitor
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from torch import Tensor
from typing_extensions import override

from fastfcn.errors import UserError
from fastfcn.metrics import Scores
from fastfcn.pictures import Example, denormalise, figure_rows, save_png
from fastfcn.summary import summarise
from fastfcn.tracking import log_config, log_predictions, log_table
from fastfcn.types import STAND_IN, Batch, DataFacts


class DrawPredictions(Callback):
    """Draws the first validation images each epoch: image, truth, prediction and legend.

    The picture goes to ``<directory>/epoch_000.png`` (``validation.png`` outside a training) and to the loggers. Of
    several processes the first draws the images that it sees.

    Args:
        directory: Made if missing.
        images: How many images; 0 draws none.
    """

    def __init__(self, *, directory: str, images: int = 4) -> None:
        if images < 0:
            raise UserError(f"callbacks.draw_predictions.images={images}: choose 0 or more.")
        self.directory = Path(directory)
        self.images = images
        self._examples: list[Example] = []

    @override
    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._examples = []

    @override
    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        missing = self.images - len(self._examples)
        if missing <= 0 or trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(outputs, Mapping), "the validation step returns its prediction"
        samples = zip(batch["image"], batch["mask"], outputs["prediction"], batch["name"], strict=True)
        for image, truth, prediction, name in [sample for sample in samples if sample[3] != STAND_IN][:missing]:
            self._examples.append(Example(denormalise(image), truth.cpu().numpy(), (prediction.cpu().numpy(),), name))

    @override
    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._examples:
            return
        facts: DataFacts = pl_module.facts  # type: ignore[assignment]
        rgb = figure_rows(self._examples, facts=facts)
        name = f"epoch_{trainer.current_epoch:03d}" if trainer.state.fn == "fit" else "validation"
        save_png(rgb, self.directory / f"{name}.png")
        log_predictions(
            trainer.loggers, "val/predictions", self._examples, facts=facts, picture=rgb, step=trainer.global_step
        )


class LogClasses(Callback):
    """Logs the IoU of every class as a table after each validation, ``val/IoU``; its file holds the last one."""

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        scores: Scores | None = pl_module.val_scores  # type: ignore[assignment]
        facts: DataFacts = pl_module.facts  # type: ignore[assignment]
        if trainer.sanity_checking or scores is None:
            return
        rows = [
            [name, None if math.isnan(iou) else iou]
            for name, iou in zip(facts.class_names, scores.iou.tolist(), strict=True)
        ]
        log_table(trainer.loggers, "val/IoU", ["class", "IoU"], rows, trainer.global_step)


class ShowSummary(Callback):
    """Prints parameters and GFLOPs of the model's parts when a training starts, and logs them as hyperparameters.

    Args:
        image_size: (height, width) in pixels at which operations are counted.
    """

    def __init__(self, *, image_size: tuple[int, int]) -> None:
        if len(image_size) != 2 or min(image_size) < 1:
            raise UserError(f"callbacks.show_summary.image_size={list(image_size)}: give [height, width] in pixels.")
        self.image_size = (int(image_size[0]), int(image_size[1]))

    @override
    @rank_zero_only
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        try:
            summary = summarise(pl_module.model, image_size=self.image_size)  # type: ignore[arg-type]
        except AssertionError as error:  # how timm's models of one image size refuse another
            raise UserError(
                f"callbacks.show_summary.image_size={list(self.image_size)} does not suit this backbone ({error}): set "
                "it, and data.crop_size, to the size that the backbone takes."
            ) from error
        Console().print(summary.table())
        log_config(trainer.loggers, {"summary": summary.as_dict()})


class LogLearningRate(LearningRateMonitor):
    """Lightning's monitor, which refuses to run where there is no logger; this one is silent then."""

    @override
    def on_train_start(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.loggers:
            super().on_train_start(trainer, *args, **kwargs)

    @override
    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.loggers:
            super().on_train_batch_start(trainer, *args, **kwargs)

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.loggers:
            super().on_train_epoch_start(trainer, *args, **kwargs)
