"""One training from its parts: fit, test the best checkpoint, say and keep what came out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector
from pytorch_lightning.utilities import rank_zero_only

from fastfcn import (
    auto_batch,
    beginning,
    curves,
    heap,
    preconditions,
    provenance,
    results,
    run_places,
    signals,
    stopping,
    tracking,
    watchdog,
)  # fmt: skip
from fastfcn.checkpoint import read_checkpoint
from fastfcn.data.datamodule import SegmentationDataModule
from fastfcn.early_stopping import StopEarly
from fastfcn.evaluation import open_split, settle_deterministic
from fastfcn.module import SegmentationModule
from fastfcn.non_finite import StopOnNonFinite
from fastfcn.replay import NotReproduced
from fastfcn.speed import Speed
from fastfcn.status import Pruned


def settle_process(*, keep_heap: bool) -> None:
    """What holds for all that this process does: freed memory stays with it or not, and Lightning is quiet."""
    if keep_heap:
        heap.keep()
    quiet_lightning()


def quiet_lightning() -> None:
    """Leave out Lightning's notices on what is not there (GPU, TPU, its cloud); its warnings stay.

    Its loggers set their own level at import, so this comes after it.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # trainer.benchmark is taken back then, by `settle_deterministic`.
    warnings.filterwarnings("ignore", message=".*passed `deterministic=True` and `benchmark=True`.*")
    # What is frozen is meant to be.
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
    # Lightning's own pytree helper asks torch in a way that torch 2.15 has deprecated.
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")


def run(
    trainer: pl.Trainer,
    module: SegmentationModule,
    datamodule: SegmentationDataModule,
    *,
    run_dir: str | Path,
    config: dict[str, Any],
    choices: Mapping[str, str],
    record: Callable[[], object] | None = None,
    resume: str | None = None,
    init_from: str | None = None,
    fit: bool = True,
    test: bool = True,
    speed: Speed | None = None,
) -> float | None:
    """Train, test, report.

    Args:
        trainer: with callbacks and loggers.
        module: with loss and optimizer.
        datamodule: the data.
        run_dir: where results are kept.
        config: the resolved configuration, for the loggers.
        choices: the options that name the run: head, upsample, backbone, data.
        record: called by the first process when nothing is left that could refuse the run.
        resume: a checkpoint to go on from; ``auto`` is the newest of the run directory, if there is one.
        init_from: a checkpoint whose weights the training begins with; nothing else of it counts.
        fit: train; else nothing is trained.
        test: test at the end, on the best checkpoint where one was written.
        speed: times predictions at the end.

    Returns:
        The best validation score, (pixAcc + mIoU) / 2; None where no checkpoint was written.

    Raises:
        UserError: the checkpoint to go on from or to begin with does not exist or is not of this model, the
            processes do not fit the machine or the batch, or something would be written outside of the run directory.
    """
    run_places.check(config, Path(run_dir))
    settle_deterministic()
    watchdog.align(trainer)
    preconditions.check(trainer, datamodule, fit=fit)
    trainer._signal_connector = _NoSignals(trainer)
    # A split that is not there shows now, and not after the training.
    for split in (datamodule.train_split, "val"):
        datamodule.open(split)
    if test:
        open_split(datamodule)
    new_classifier = bool(config.get("new_classifier"))
    resume = beginning.choose(
        trainer, module, run_dir=Path(run_dir), resume=resume, init_from=init_from, new_classifier=new_classifier
    )
    if record is not None:
        rank_zero_only(record)()
    _forget_results(Path(run_dir))
    done = False
    try:
        tracking.log_config(trainer.loggers, config)
        if fit:
            trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
        kept = _about_training(trainer, choices)
        best, score = _best_checkpoint(trainer)
        figures = None
        if test:
            trainer.test(module, datamodule=datamodule, ckpt_path=best, verbose=False, weights_only=True)
            figures = results.gather(trainer.callback_metrics, module.facts)
        kept |= {
            "best_checkpoint": best,
            "val_score": score,
            "tested": None if figures is None else ("best checkpoint" if best else "last weights"),
            "protocol": module.inference.settings()["protocol"],
            "optimize": module.protocol().get("optimize"),
            "speed": _timed(trainer, module, speed),
            "test": figures,
        }
        skipped = results.all_skipped(datamodule.skipped, datamodule.skipped_before)
        _report(trainer, module, Path(run_dir), results.with_skipped(kept, skipped), split=datamodule.eval_split)
        done = True
    except Pruned:
        done = True  # as the search wants it: no failure in W&B
        raise
    except (RuntimeError, MemoryError) as error:
        if (told := auto_batch.told(error, trainer)) is not None:
            raise told from error
        raise
    except NotReproduced as end:
        rank_zero_only(print)(end)
        score, done = None, True
    except signals.Stopped:
        stopping.end_processes(trainer)
        raise
    finally:
        tracking.finish(trainer.loggers, success=done)
    return score


class _NoSignals(_SignalConnector):
    """Leaves signals to `fastfcn.signals`; Lightning's way saves nothing, and would wait in a handler for processes."""

    def register_signal_handlers(self) -> None:
        """Register none."""


def _best_checkpoint(trainer: pl.Trainer) -> tuple[str | None, float | None]:
    callback = trainer.checkpoint_callback
    path = getattr(callback, "best_model_path", "") or None
    score = getattr(callback, "best_model_score", None)
    return path, None if score is None else float(score)


@rank_zero_only
def _forget_results(run_dir: Path) -> None:
    """A run that fails must not lie beside the figures of one before it in the same directory."""
    (run_dir / results.RESULTS_FILE).unlink(missing_ok=True)


def _about_training(trainer: pl.Trainer, choices: Mapping[str, str]) -> dict[str, Any]:
    """What it was and what it took, of all tries together; every process must call it."""
    timer = next((callback for callback in trainer.callbacks if isinstance(callback, Timer)), None)  # type: ignore[attr-defined]
    seconds = timer.time_elapsed("train") if timer is not None else None
    device = trainer.strategy.root_device
    cuda = device.type == "cuda"
    peak = torch.tensor(torch.cuda.max_memory_allocated(device) / 2**30 if cuda else 0.0, device=device)
    stop = next((callback for callback in trainer.callbacks if isinstance(callback, StopOnNonFinite)), None)  # type: ignore[attr-defined]
    early = next((callback for callback in trainer.callbacks if isinstance(callback, StopEarly)), None)  # type: ignore[attr-defined]
    stopped = {"stopped_early": True} if early is not None and early.stopped else {}
    passed_over = {"passed_over": stop.skipped} if stop is not None and stop.skipped else {}
    return {
        **stopped,
        **passed_over,  # steps, where there were any
        "choices": dict(choices),
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "train_seconds": None if seconds is None else round(seconds, 1),
        "processes": trainer.world_size,
        "device": torch.cuda.get_device_name(device) if cuda else provenance.cpu_model(),
        "peak_memory_gib": round(float(trainer.strategy.reduce(peak, reduce_op="max")), 3) if cuda else None,
    }


def _timed(trainer: pl.Trainer, module: SegmentationModule, speed: Speed | None) -> dict[str, Any] | None:
    """The speed, on the first process; the others wait, so that they do not disturb it."""
    measured = None
    if speed is not None and trainer.is_global_zero:
        device = trainer.strategy.root_device
        measured = speed.measure(module.model, device=device, channels_last=module.channels_last)
        size = " x ".join(map(str, speed.image_size))
        print(f"speed:           {measured['fps']:.2f} images of {size} per second ({measured['median_ms']:.1f} ms)")
    trainer.strategy.barrier()
    return measured


@rank_zero_only
def _report(
    trainer: pl.Trainer, module: SegmentationModule, run_dir: Path, kept: Mapping[str, Any], *, split: str
) -> None:
    figures, best, choices = kept["test"], kept["best_checkpoint"], kept["choices"]
    path = results.save(run_dir, kept)
    if figures is not None:
        name = "-".join(choices[group] for group in ("head", "upsample", "backbone"))
        title = f"test of {name} on {choices['data']}, {kept['protocol']}" + (
            "" if best else ", last weights: no best checkpoint was written"
        )
        title += results.without(kept.get("skipped", {}), split)
        results.show(figures, title=title)
        _log_test(trainer, module, figures, kept["val_score"])
    if best is not None and tracking.wants_checkpoint(trainer.loggers):
        about = {
            "score": kept["val_score"],
            "epoch": read_checkpoint(best).epoch,
            "data": choices["data"],
            "commit": provenance.git_state(Path(__file__))["commit"],
        }
        tracking.log_checkpoint(trainer.loggers, best, about)
    for logger in trainer.loggers:
        metrics_csv = Path(logger.log_dir or "") / "metrics.csv"
        if kept["epochs"] and isinstance(logger, CSVLogger) and metrics_csv.is_file():
            curves.draw(metrics_csv, run_dir / "curves.png")
            print(f"curves:          {run_dir / 'curves.png'}")
    print(f"results:         {path}")
    if trainer.checkpoint_callback is not None:
        print(f"best checkpoint: {best or 'none was written'}")


def _log_test(trainer: pl.Trainer, module: SegmentationModule, figures: dict[str, Any], score: float | None) -> None:
    """Hand the test figures on to the loggers: tables of classes and confusions, and what runs are listed by."""
    loggers, step = trainer.loggers, trainer.global_step
    rows = [[name, iou, figures["class_boundary_IoU"][name]] for name, iou in figures["IoU"].items()]
    tracking.log_table(loggers, "test/IoU", ["class", "IoU", "boundary IoU"], rows, step)
    assert module.test_scores is not None, "a test has run"
    tracking.log_confusion(loggers, "test/confusion", module.test_scores.confusion, module.facts.class_names, step)
    best_score = {} if score is None else {"best/val_score": score}
    tracking.log_metrics(loggers, best_score, step)
    headlines = {f"test/{key}": value for key, value in figures.items() if isinstance(value, float)}
    tracking.log_summary(loggers, {**headlines, **best_score}, step)
