"""Training that goes on exactly where a checkpoint was written, in the midst of an epoch too.

Lightning restores weights, optimizer, schedule and counters. Left to itself it then repeats or leaves out a validation,
counts a step twice in the logs, and begins the means of the epoch anew (2.6.6). So a checkpoint says besides where it
was written, how far the means of the epoch had come in each process, how many rows ``metrics.csv`` had, and the row
that Lightning logs only after the hook in which checkpoints are written; and its counters are put right when it is
loaded. The order of the images is the loader's to restore (`fastfcn.data.batches.BatchLoader`), and chance is a
function of the step (`fastfcn.module.SegmentationModule.on_train_batch_start`): no random state is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.connectors.logger_connector.result import _ResultCollection, _ResultMetric
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from typing_extensions import override

from fastfcn.agreement import gathered
from fastfcn.averaging import check_goes_on
from fastfcn.checkpointing import carry_best
from fastfcn.csv_logging import RunCSVLogger
from fastfcn.data.datamodule import SegmentationDataModule
from fastfcn.errors import UserError
from fastfcn.metrics import MeanOfSteps
from fastfcn.results import all_skipped

#: Where a checkpoint keeps it.
PROGRESS_KEY = "fastfcn_progress"

#: Where a checkpoint was written: behind a whole epoch; behind a batch; where a validation is due or under way; behind
#: that validation.
Place = Literal["epoch", "batch", "validation", "validated"]


def step_seed(seed: int, epoch: int, batch: int) -> int:
    """What the dropout of a training batch draws from, a function of the run's seed and the batch's place alone."""
    return int(np.random.SeedSequence((seed, epoch, batch)).generate_state(1, np.uint64)[0])


class ExactResume(Callback):
    """Keeps in each checkpoint what Lightning does not, and lets a training go on from it as if never stopped."""

    def __init__(self) -> None:
        self._validated = False
        self._loaded: dict[str, Any] | None = None

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = False

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = True

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        place = self._place(trainer)
        epoch_loop = trainer.fit_loop.epoch_loop
        batches, validation = (loop.batch_progress.state_dict() for loop in (epoch_loop, epoch_loop.val_loop))
        begun = validation["current"]["completed"] if trainer.validating else 0
        for loader in checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", []):
            if "batches" in loader:  # one that was taken and not trained on is not seen
                loader["batches"] = batches["current"]["processed"]
        checkpoint[PROGRESS_KEY] = {
            "place": place,
            "means": [] if place == "epoch" else _means(trainer),
            "validated": validation["total"]["completed"] - begun,  # batches of the validations of this epoch before
            "row": _unlogged_row(trainer, place),
            "skipped": all_skipped(*_skipped(trainer)),
            "rows": next((each.flushed() for each in _csv_loggers(trainer) if trainer.is_global_zero), 0),
        }

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        check_goes_on(trainer, checkpoint)
        carry_best(trainer, checkpoint)
        progress = checkpoint.get(PROGRESS_KEY)
        if progress is None:
            return  # of a version before: Lightning's own way is right at an epoch's end, where those were written
        _settle(checkpoint["loops"]["fit_loop"], progress["place"])
        self._loaded = progress
        if isinstance(data := getattr(trainer, "datamodule", None), SegmentationDataModule):
            data.skipped_before = progress.get("skipped", {})

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._loaded is None:
            return
        for logger in _csv_loggers(trainer):  # where nothing is left to train too
            logger.go_on(Path(str(trainer.ckpt_path)), rows=self._loaded["rows"], row=self._loaded["row"])

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        progress, self._loaded = self._loaded, None
        if progress is None:
            return
        _check_same_step(trainer)
        # The schedule has asked for the number of steps, and so for the loader, before there was anything to load.
        trainer.fit_loop._load_combined_loader_states()
        if progress["place"] == "epoch":
            trainer.fit_loop.epoch_loop.restarting = False  # nothing is left of it: the next one begins as any other
        else:
            _restore_means(trainer, pl_module, progress["means"])
            if progress["place"] == "validation":  # it has been recognised as begun by now
                counts = trainer.fit_loop.epoch_loop.val_loop.batch_progress.total
                counts.load_state_dict(dict.fromkeys(counts.state_dict(), progress["validated"]))

    def _place(self, trainer: pl.Trainer) -> Place:
        fit_loop = trainer.fit_loop
        epochs, epoch_loop = fit_loop.epoch_progress.state_dict()["total"], fit_loop.epoch_loop
        if epochs["processed"] == epochs["ready"]:
            return "epoch"
        if trainer.validating:
            return "validated" if self._validated else "validation"
        assert fit_loop._data_fetcher is not None
        return "validation" if epoch_loop._should_check_val_fx(fit_loop._data_fetcher) else "batch"


def _settle(fit_loop: dict[str, Any], place: Place) -> None:
    """Write the counters of Lightning's loops so that it goes on right behind the place.

    Args:
        fit_loop: their state in a checkpoint.
        place: where it was written.
    """
    epochs, batches = fit_loop["epoch_progress"], fit_loop["epoch_loop.batch_progress"]
    validation = fit_loop["epoch_loop.val_loop.batch_progress"]
    if place == "epoch":
        for counts in (epochs["total"], epochs["current"]):
            counts.update(dict.fromkeys(counts, counts["processed"]))
        return
    for counts in (batches["total"], batches["current"]):
        counts.update(dict.fromkeys(counts, counts["processed"]))
    if place == "validation":  # by this Lightning knows one that has begun; it begins it again
        validation["total"].update(ready=1, started=1, processed=0, completed=0)
        validation["current"].update(ready=0, started=0, processed=0, completed=0)
    elif place == "batch":  # what Lightning counts behind the hook; after a validation it still does
        fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] += 1


def _means(trainer: pl.Trainer) -> list[dict[str, Any]]:
    """The sums behind the means of this epoch so far, those of each process; every process must call it."""
    running = [
        metric
        for metric in trainer.fit_loop.epoch_loop._results.values()
        if metric.meta.on_epoch and not metric.has_reset
    ]
    sums = [[float(part) for part in _sums(metric)] for metric in running]
    own = torch.tensor(sums, dtype=torch.float64).reshape(len(running), 2)
    by_process = gathered(own.to(trainer.strategy.root_device)).cpu() if trainer.world_size > 1 else own.unsqueeze(0)
    return [
        {
            "fx": metric.meta.fx,
            "name": metric.meta.name,
            "prog_bar": metric.meta.prog_bar,
            "logger": metric.meta.logger,
            "on_step": metric.meta.on_step,
            "reduce_fx": metric.meta.reduce_fx.__name__,
            "sync_dist": metric.meta.sync.should,
            "attribute": metric.meta.metric_attribute,
            "dtype": str(_sums(metric)[0].dtype).removeprefix("torch."),
            "sums": by_process[:, index].tolist(),
        }
        for index, metric in enumerate(running)
    ]


def _sums(metric: _ResultMetric) -> tuple[Tensor, Tensor]:
    """What a mean was formed of so far: the weighted sum of the values, and the sum of the weights."""
    if not metric.is_tensor:
        mean: MeanOfSteps = metric.value
        return mean.mean_value, mean.weight
    return metric.value, getattr(metric, "cumulated_batch_size", torch.tensor(0))


def _restore_means(trainer: pl.Trainer, module: pl.LightningModule, means: list[dict[str, Any]]) -> None:
    results: _ResultCollection = trainer.fit_loop.epoch_loop._results
    device, rank = trainer.strategy.root_device, trainer.global_rank
    distributed = trainer._accelerator_connector.is_distributed
    for mean in means:
        sums = mean["sums"]
        if len(sums) != trainer.world_size:  # of another number of processes: their sum, in the first
            total = [sum(column) for column in zip(*sums, strict=True)]
            sums = [total if process == 0 else [0.0, 0.0] for process in range(trainer.world_size)]
        value = torch.tensor(sums[rank][0], dtype=getattr(torch, mean["dtype"]), device=device)
        own: MeanOfSteps | None = getattr(module, mean["attribute"]) if mean["attribute"] else None
        if own is not None:  # it is the module's, which shares it by itself
            own.resume(value, torch.tensor(sums[rank][1], dtype=value.dtype, device=device))
        # A single process does not tell whether several would have shared it; whatever a training logs they do.
        shared = own is None and distributed and (mean["sync_dist"] or len(mean["sums"]) == 1)
        # Exactly as LightningModule.log does, for it compares when the name is logged again.
        results.log(
            mean["fx"], mean["name"], value if own is None else own, prog_bar=mean["prog_bar"], logger=mean["logger"],
            on_step=mean["on_step"], on_epoch=True, reduce_fx=getattr(torch, mean["reduce_fx"]), sync_dist=shared,
            sync_dist_fn=trainer.strategy.reduce, batch_size=1, metric_attribute=mean["attribute"],
        )  # fmt: skip
        metric: _ResultMetric = results[f"{mean['fx']}.{mean['name']}"]
        metric._forward_cache = None
        if own is None:
            metric.value = value
            if metric.meta.is_mean_reduction:
                metric.cumulated_batch_size = torch.tensor(int(sums[rank][1]), device=device)
    # The first batch of an epoch forgets the epoch before; the next one is not the first.
    trainer._logger_connector._first_loop_iter = False


def _unlogged_row(trainer: pl.Trainer, place: Place) -> dict[str, float] | None:
    """What Lightning logs right after this moment; every process must call it.

    A process that is killed between the two would leave a gap in the logs.
    """
    connector, epoch_loop = trainer._logger_connector, trainer.fit_loop.epoch_loop
    at_the_end = place == "epoch"
    if not trainer.loggers or trainer.validating or not (at_the_end or connector.should_update_logs):
        return None
    metrics: dict[str, Tensor] = epoch_loop._results.metrics(on_step=not at_the_end)["log"]
    if not metrics:
        return None
    step = epoch_loop._batches_that_stepped - at_the_end
    return {**{name: float(value) for name, value in metrics.items()}, "epoch": trainer.current_epoch, "step": step}


def _skipped(trainer: pl.Trainer) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was skipped in this try and in those before."""
    data = getattr(trainer, "datamodule", None)
    return (data.skipped, data.skipped_before) if isinstance(data, SegmentationDataModule) else ({}, {})


def _csv_loggers(trainer: pl.Trainer) -> list[RunCSVLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, RunCSVLogger)]


def _check_same_step(trainer: pl.Trainer) -> None:
    """Processes that found different checkpoints would train something that is neither."""
    if trainer.world_size == 1:
        return
    steps = gathered(torch.tensor(trainer.global_step, device=trainer.strategy.root_device))
    if int(steps.min()) != int(steps.max()):
        raise UserError(
            f"the processes of this run go on from different steps, {steps.tolist()}: they do not see the "
            "same checkpoints; let them share one file system, or give one checkpoint by resume=PATH."
        )
