"""Where model, loss, optimizer and metrics meet: the LightningModule."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer

from fastfcn import class_weights, freezing
from fastfcn.agreement import processes
from fastfcn.exact import ExactResume, step_seed
from fastfcn.inference import Direct, Inference
from fastfcn.losses import SegmentationLoss
from fastfcn.metrics import BoundaryIoU, MeanOfSteps, Scores, SegmentationMetrics
from fastfcn.micro_batches import backward_within_a_step, parts, terms_in_parts, told_of_one_image
from fastfcn.models.fastfcn import FastFCN
from fastfcn.models.recompute import recompute
from fastfcn.optim import SGDPoly
from fastfcn.optimize import Optimize, Optimized
from fastfcn.own_entry import CHECKPOINT_KEY, own_entry
from fastfcn.types import STAND_IN, Batch, DataFacts, SegmentationOutput


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
        activation_checkpointing: stages that run again in the backward pass instead of keeping what is between, out of
            c2, c3, c4, c5, upsample and head; True is all.
        freeze: parts that stay as they are (`fastfcn.freezing`), out of backbone, stem, c2 to c5, upsample and head.
        inference: how test and prediction come from the network; None is one pass on the image as it comes. Validation
            during training is always one pass.
        optimize: rewrites the network for speed before a test or a prediction; None leaves it as it is.
        seed: what is dropped in a step is a function of it, the epoch and the step, whatever came before and on however
            many processes; None leaves chance to torch's state.
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
        activation_checkpointing: bool | Sequence[str] = False,
        freeze: Sequence[str] = (),
        inference: Inference | None = None,
        optimize: Optimize | None = None,
        seed: int | None = None,
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
        self.optimize = optimize
        self.optimized: Optimized | None = None  # of the running test or prediction
        self.seed = seed
        #: Images of a process's batch that a training step takes at a time (`fastfcn.auto_batch`); None: all.
        self.images_at_once: int | None = None
        recompute(model, activation_checkpointing)
        freezing.freeze(model, freeze)
        class_weights.check(loss, facts)
        self.train_loss = MeanOfSteps()
        self.val_metrics = SegmentationMetrics(facts.num_classes)
        self.test_metrics = SegmentationMetrics(facts.num_classes)
        self.test_boundary = BoundaryIoU(facts.num_classes)
        self.val_scores: Scores | None = None  # of the last validation, and of the last test
        self.test_scores: Scores | None = None

    def setup(self, stage: str) -> None:
        """Put the network into the memory layout and the form that it runs in; its entries keep their names."""
        if self.channels_last:
            self.model.to(memory_format=torch.channels_last)
        if self.compile_model and self.model._compiled_call_impl is None:
            if stage in ("test", "predict") and self.inference.fixed:
                # Few shapes: each is compiled for itself and, on a GPU, played back as a CUDA graph.
                graphs = "reduce-overhead" if torch.cuda.is_available() else None
                self.model.compile(dynamic=False, mode=graphs)
            else:
                self.model.compile()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed what chance decides in this step, the same in all processes: each keeps its part of what is drawn."""
        if self.seed is not None:
            torch.manual_seed(step_seed(self.seed, self.current_epoch, batch_idx))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """The loss of a batch: the sum of its terms, each of which is logged."""
        parted = parts(batch, self.images_at_once)
        if self.images_at_once is not None and batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.zero_grad(set_to_none=True)  # what the Trainer does behind this step is too late
        terms = terms_in_parts(partial(self.loss_terms, whole=batch), parted, backward_within_a_step(self))
        total = torch.stack(list(terms.values())).sum()
        terms = {name: term.detach() for name, term in terms.items()}
        self._log_losses(total.detach(), terms, len(batch["mask"]))
        return {"loss": total, "terms": terms}

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Leave the gradients that parts of a batch have given."""
        if self.images_at_once is None:
            optimizer.zero_grad()

    def loss_terms(self, batch: Batch, whole: Batch) -> dict[str, Tensor]:
        """The terms of the loss of a part of a batch, weighted so that the parts' sum is that of the whole."""
        assert self.loss is not None, "a module without a loss evaluates only"
        with told_of_one_image(len(batch["mask"])):
            # The loss enlarges the logits, a part of them at a time.
            output = self._forward(batch["image"], full_size=False)
        terms: dict[str, Tensor] = self.loss(output, batch["mask"], whole=whole["mask"])
        return terms

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Count a batch; gives the predicted class ids (B, H, W) to the callbacks."""
        prediction, loss = self._evaluate(batch)
        self.val_metrics.update(prediction, batch["mask"])
        if loss is not None:
            images = sum(name != STAND_IN for name in batch["name"])
            self.log("val/loss", loss, batch_size=images, sync_dist=True)
        return {"prediction": prediction}

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's exact pixAcc, mIoU and their mean, by which the best checkpoint is chosen."""
        result: Scores = self.val_metrics.compute()
        self.val_scores = result
        self._log_scores("val", result)
        self.val_metrics.reset()

    def on_test_start(self) -> None:
        """Rewrite the network for speed, where that is wanted."""
        if self.optimize is not None:
            self.optimized = self.optimize(self.model, full_size=not self.inference.coarse)

    def on_predict_start(self) -> None:
        """As for a test."""
        self.on_test_start()

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
        self.test_scores = result
        boundary: Tensor = self.test_boundary.compute()
        self._log_scores("test", result)
        self.log("test/boundary_IoU", boundary.nanmean().float(), sync_dist=True)
        self.log_dict(self._by_class("test/boundary_IoU", boundary), sync_dist=True)
        thin = [self.facts.class_names.index(name) for name in self.facts.thin_classes]
        if thin:
            self.log("test/thin_IoU", result.iou[thin].nanmean().float(), sync_dist=True)
        self.log_dict(self._by_class("test/IoU", result.iou), sync_dist=True)
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
            clipped_in_mixed_precision=bool(trainer.gradient_clip_val) and str(trainer.precision).endswith("mixed"),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_callbacks(self) -> list[Callback]:
        """Have every training of it go on exactly where a checkpoint of it was written."""
        return [ExactResume(), class_weights.SettleClassWeights()]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds the model: plain types alone, so that ``torch.load(weights_only=True)`` opens the file."""
        checkpoint[CHECKPOINT_KEY] = own_entry(self.config, self.facts)

    def _forward(self, image: Tensor, *, full_size: bool = True) -> SegmentationOutput:
        """Run the network, on images in the memory layout and the number type of the weights."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        weight = next(self.model.parameters(), image)
        image = image.to(weight.dtype).contiguous(memory_format=layout)
        output: SegmentationOutput = self.model(image) if full_size else self.model(image, full_size=False)
        return output

    def protocol(self) -> dict[str, Any]:
        """What belongs beside the figures of a test: how predictions came about, and what was done for speed."""
        fast = {} if self.optimized is None else {"optimize": self.optimized.applied}
        return {**self.inference.settings(), **fast}

    def _logits(self, image: Tensor) -> Tensor:
        """What the protocol asks of the network: logits at the head's resolution where it resizes them itself."""
        if self.optimized is not None:
            return self.optimized(image).logits
        return self._forward(image, full_size=not self.inference.coarse).logits

    def _evaluate(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Predict class ids (B, H, W); the cross entropy too where there is a loss."""
        output = self._forward(batch["image"])
        loss = self.loss(output, batch["mask"])["ce"] if self.loss is not None else None
        return output.logits.argmax(1), loss

    def _log_losses(self, total: Tensor, terms: dict[str, Tensor], size: int) -> None:
        """Log a step's losses, and the mean of the total over the epoch, without waiting for the device.

        Of several processes a step that reaches the loggers has their mean, by one all-reduce for all terms; at the
        steps between, each process shows its own. The epoch's mean is always that of all.
        """
        values = torch.stack([total, *terms.values()])
        every: int = self.trainer.log_every_n_steps if processes() > 1 else 0  # type: ignore[attr-defined]
        if every and (self.global_step + 1) % every == 0:
            dist.all_reduce(values)
            values /= processes()
        self.train_loss.add(total, images=size, shown=values[0])
        self.log("train/loss", self.train_loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=size)
        names = (f"train/{name}" for name in terms)
        self.log_dict(dict(zip(names, values[1:], strict=True)), batch_size=size)

    def _by_class(self, prefix: str, values: Tensor) -> dict[str, Tensor]:
        return {f"{prefix}/{name}": value.float() for name, value in zip(self.facts.class_names, values, strict=True)}

    def _log_scores(self, prefix: str, result: Scores) -> None:
        values = {"pixAcc": result.pix_acc, "mIoU": result.miou, "score": result.score}
        # The confusion matrix was summed over the processes, so all have the same values; their mean does no harm, and
        # Lightning would warn at every name otherwise.
        scores = {f"{prefix}/{name}": value.float() for name, value in values.items()}
        self.log_dict(scores, prog_bar=prefix == "val", sync_dist=True)
