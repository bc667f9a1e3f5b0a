"""Where model, loss, optimizer and metrics meet: the LightningModule."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from fastfcn.errors import UserError
from fastfcn.inference import Direct, Inference
from fastfcn.losses import SegmentationLoss
from fastfcn.metrics import BoundaryIoU, Scores, SegmentationMetrics
from fastfcn.models.fastfcn import FastFCN
from fastfcn.optim import SGDPoly
from fastfcn.types import Batch, DataFacts, SegmentationOutput

#: Where the module keeps its own facts in a checkpoint, and the version of their layout.
CHECKPOINT_KEY = "fastfcn"
CHECKPOINT_VERSION = 1


class SegmentationModule(pl.LightningModule):
    """Trains and evaluates a model; knows nothing of its architecture.

    Args:
        model: the network.
        facts: of the data set that it learns.
        loss: the training loss; None where the module only evaluates.
        optim: builds optimizer and schedule; None where the module only evaluates.
        config: plain dictionaries ``model`` and ``data``, the resolved configuration that rebuilds both; stored in
            every checkpoint.
        channels_last: keep weights and images in NHWC memory.
        compile_model: run the network through torch.compile.
        inference: how test and prediction come from the network; None is one pass on the image as it comes. Validation
            during training is always one pass.
    """

    def __init__(
        self,
        *,
        model: FastFCN,
        facts: DataFacts,
        loss: SegmentationLoss | None = None,
        optim: SGDPoly | None = None,
        config: dict[str, Any] | None = None,
        channels_last: bool = True,
        compile_model: bool = False,
        inference: Inference | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.facts = facts
        self.loss = loss
        self.optim = optim
        self.config = config or {}
        self.channels_last = channels_last
        self.compile_model = compile_model
        self.inference = inference or Direct(whole=True)
        self.val_metrics = SegmentationMetrics(facts.num_classes)
        self.test_metrics = SegmentationMetrics(facts.num_classes)
        self.test_boundary = BoundaryIoU(facts.num_classes)

    def setup(self, stage: str) -> None:
        """Put the network into the memory layout and the form that it runs in; its entries keep their names."""
        if self.channels_last:
            self.model.to(memory_format=torch.channels_last)
        if self.compile_model and self.model._compiled_call_impl is None:
            self.model.compile()

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """The loss of a batch: the sum of its terms, each of which is logged."""
        assert self.loss is not None, "a module without a loss evaluates only"
        try:
            output = self._forward(batch["image"])
        except ValueError as error:
            # The one value of a channel that a globally pooled map of a single image leaves: its variance is no number.
            if "more than 1 value per channel" not in str(error):
                raise
            raise UserError(
                f"data.batch_size gives each process {len(batch['mask'])} image, of which BatchNorm has one value per "
                "channel in this model: choose at least 2 per process, or another head."
            ) from error
        terms = self.loss(output, batch["mask"])
        total = torch.stack(list(terms.values())).sum()
        size = len(batch["mask"])
        # Under DDP the mean over the processes, which costs an all-reduce of a scalar each.
        self.log("train/loss", total, on_step=True, on_epoch=True, prog_bar=True, batch_size=size, sync_dist=True)
        self.log_dict({f"train/{name}": term for name, term in terms.items()}, batch_size=size, sync_dist=True)
        return {"loss": total, "terms": {name: term.detach() for name, term in terms.items()}}

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Count a batch; gives the predicted class ids (B, H, W) to the callbacks."""
        prediction, loss = self._evaluate(batch)
        self.val_metrics.update(prediction, batch["mask"])
        if loss is not None:
            self.log("val/loss", loss, batch_size=len(prediction), sync_dist=True)
        return {"prediction": prediction}

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's exact pixAcc, mIoU and their mean, by which the best checkpoint is chosen."""
        result: Scores = self.val_metrics.compute()
        self._log_scores("val", result)
        self.val_metrics.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Count a batch, contours too."""
        prediction = self.inference.predict(self._logits, batch["image"])
        self.test_metrics.update(prediction, batch["mask"])
        self.test_boundary.update(prediction, batch["mask"])
        return {"prediction": prediction}

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Predict a batch, of which nothing may be known; gives the class ids (B, H, W) to the callbacks."""
        return {"prediction": self.inference.predict(self._logits, batch["image"])}

    def on_test_epoch_end(self) -> None:
        """Log the test figures, the IoU of every class among them."""
        result: Scores = self.test_metrics.compute()
        boundary: Tensor = self.test_boundary.compute()
        self._log_scores("test", result)
        self.log("test/boundary_IoU", boundary.nanmean().float(), sync_dist=True)
        self.log_dict(
            {f"test/boundary_IoU/{name}": v.float() for name, v in zip(self.facts.class_names, boundary, strict=True)},
            sync_dist=True,
        )
        thin = [self.facts.class_names.index(name) for name in self.facts.thin_classes]
        if thin:
            self.log("test/thin_IoU", result.iou[thin].nanmean().float(), sync_dist=True)
        self.log_dict(
            {f"test/IoU/{name}": value.float() for name, value in zip(self.facts.class_names, result.iou, strict=True)},
            sync_dist=True,
        )
        self.test_metrics.reset()
        self.test_boundary.reset()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build optimizer and per-iteration schedule for the global batch and the whole training."""
        assert self.optim is not None, "a module without an optimizer evaluates only"
        trainer = self.trainer
        batch_size: int = trainer.datamodule.batch_size  # type: ignore[attr-defined]
        optimizer, schedule = self.optim.build(
            self.model,
            global_batch=batch_size * trainer.accumulate_grad_batches,
            total_steps=int(trainer.estimated_stepping_batches),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds the model: plain types alone, so that ``torch.load(weights_only=True)`` opens the file."""
        checkpoint[CHECKPOINT_KEY] = own_entry(self.config, self.facts)

    def _forward(self, image: Tensor) -> SegmentationOutput:
        """Run the network, on images in the memory layout of the weights."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        output: SegmentationOutput = self.model(image.contiguous(memory_format=layout))
        return output

    def _logits(self, image: Tensor) -> Tensor:
        return self._forward(image).logits

    def _evaluate(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Predict class ids (B, H, W); the cross entropy too where there is a loss."""
        output = self._forward(batch["image"])
        loss = self.loss(output, batch["mask"])["ce"] if self.loss is not None else None
        return output.logits.argmax(1), loss

    def _log_scores(self, prefix: str, result: Scores) -> None:
        values = {"pixAcc": result.pix_acc, "mIoU": result.miou, "score": result.score}
        # The confusion matrix was summed over the processes, so all have the same values; their mean does no harm, and
        # Lightning would warn at every name otherwise.
        scores = {f"{prefix}/{name}": value.float() for name, value in values.items()}
        self.log_dict(scores, prog_bar=prefix == "val", sync_dist=True)


def own_entry(config: dict[str, Any], facts: DataFacts) -> dict[str, Any]:
    """What a checkpoint of this project says of its model and data, in plain types.

    Args:
        config: plain dictionaries ``model`` and ``data``.
        facts: of the data set.
    """
    return {
        "version": CHECKPOINT_VERSION,
        **config,
        "facts": {
            "name": facts.name,
            "class_names": list(facts.class_names),
            "palette": [list(colour) for colour in facts.palette],
            "thin_classes": list(facts.thin_classes),
        },
    }
