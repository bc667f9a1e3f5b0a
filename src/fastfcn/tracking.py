"""Loggers, and how pictures, tables and configurations reach whichever of them is attached.

Metrics go through Lightning's ``self.log``. What Lightning has no common interface for is here; a logger that cannot
show a thing is passed over, so that callers need not ask which loggers there are.
"""

from __future__ import annotations

import csv
import os
import shlex
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from fastfcn.errors import UserError
from fastfcn.types import UInt8Array

WandbMode = Literal["auto", "online", "offline", "disabled"]


def csv_logger(*, save_dir: str) -> CSVLogger:
    """A logger that writes ``metrics.csv`` and ``hparams.yaml`` into a directory.

    Lightning deletes the ``metrics.csv`` that it finds. A resumed run would lose its history so; the file is moved to
    ``metrics.1.csv`` (``.2`` and so on) instead.
    """
    _keep_old_metrics(Path(save_dir))
    # It warns of the deletion wherever the directory holds anything at all, which a run directory always does.
    warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")
    return CSVLogger(save_dir, name="", version="")


def tensorboard_logger(*, save_dir: str) -> TensorBoardLogger:
    """A logger that writes TensorBoard's event files into a directory.

    Raises:
        UserError: TensorBoard is not installed.
    """
    try:
        import tensorboard  # noqa: F401  (a test of its presence)
    except ModuleNotFoundError as error:
        raise UserError("logger=tensorboard needs TensorBoard: run `pip install -e .[tensorboard]`.") from error
    return TensorBoardLogger(save_dir, name="", version="", default_hp_metric=False)


def wandb_logger(
    *,
    project: str,
    save_dir: str,
    run_name: str | None = None,
    group: str | None = None,
    tags: Sequence[str] = (),
    mode: WandbMode = "auto",
) -> WandbLogger:
    """A logger to Weights & Biases that never asks a question and works without a network.

    Args:
        project: The project that the run belongs to.
        save_dir: Its files go to ``<save_dir>/wandb``.
        run_name: Shown for the run; W&B invents one for None.
        group: Runs of one sweep share a group.
        tags: Labels by which runs are filtered.
        mode: ``auto`` follows the environment variable WANDB_MODE; without it the run is online if an API key is
            configured and offline otherwise. An offline run says in one line how to sync it.

    Raises:
        UserError: The mode is none of these.
    """
    import wandb

    if mode not in get_args(WandbMode):
        raise UserError(f"logger.wandb.mode={mode}: choose one of {', '.join(get_args(WandbMode))}.")
    resolved = (
        (os.environ.get("WANDB_MODE") or ("online" if _has_wandb_key() else "offline")) if mode == "auto" else mode
    )
    offline = resolved in ("offline", "dryrun")
    directory = Path(save_dir).absolute()
    directory.mkdir(parents=True, exist_ok=True)  # W&B writes to a temporary directory instead of a missing one
    if offline:
        _tell_how_to_sync(directory)
    logger = WandbLogger(
        project=project,
        save_dir=str(directory),
        name=run_name,
        group=group,
        tags=[str(tag) for tag in tags],
        mode=resolved,
        # The line above says all that W&B would say of an offline run in six.
        settings=wandb.Settings(silent=True) if offline else None,
    )
    # Lightning always hands on this option, and W&B warns of it since it has no effect any more.
    logger._wandb_init.pop("anonymous", None)
    return logger


@rank_zero_only
def log_picture(loggers: Iterable[Logger], key: str, rgb: UInt8Array, step: int) -> None:
    """Shows an (H, W, 3) picture in the loggers that can."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(key, [rgb], step=step)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(key, rgb, step, dataformats="HWC")


@rank_zero_only
def log_table(
    loggers: Iterable[Logger], key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int
) -> None:
    """Shows a table: a W&B table, TensorBoard text, or ``<key>.csv`` (with ``_`` for ``/``) beside ``metrics.csv``."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_table(key, columns=list(columns), data=[list(row) for row in rows], step=step)
        elif isinstance(logger, TensorBoardLogger):
            lines = [columns, ["---"] * len(columns), *rows]
            logger.experiment.add_text(key, "\n".join("|".join(map(str, line)) for line in lines), step)
        elif isinstance(logger, CSVLogger):
            with Path(logger.log_dir, f"{key.replace('/', '_')}.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([columns, *rows])


@rank_zero_only
def log_config(loggers: Iterable[Logger], config: Mapping[str, Any]) -> None:
    """Records plain, possibly nested values (the resolved configuration, costs of the model) with the run."""
    for logger in loggers:
        logger.log_hyperparams(dict(config))


@rank_zero_only
def log_summary(loggers: Iterable[Logger], metrics: Mapping[str, float]) -> None:
    """Sets the values by which W&B lists and sorts runs; elsewhere they are metrics like others, logged already."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(dict(metrics))


@rank_zero_only
def finish(loggers: Iterable[Logger], *, success: bool = True) -> None:
    """Writes what is pending and ends the run; the next run of the same process then gets its own."""
    for logger in loggers:
        logger.finalize("success" if success else "failed")
        if isinstance(logger, WandbLogger) and logger._experiment is not None:
            logger.experiment.finish(exit_code=0 if success else 1)


@rank_zero_only
def _tell_how_to_sync(directory: Path) -> None:
    print(f"W&B runs offline; to upload: wandb sync {shlex.quote(str(directory / 'wandb'))}/offline-run-*", flush=True)


@rank_zero_only
def _keep_old_metrics(directory: Path) -> None:
    current = directory / "metrics.csv"
    if current.is_file():
        number = 1
        while (old := directory / f"metrics.{number}.csv").exists():
            number += 1
        current.rename(old)


def _has_wandb_key() -> bool:
    """Whether W&B finds credentials in the environment, its settings or a netrc file; asks no server and no user."""
    import wandb

    settings = wandb.setup().settings
    silent, settings.silent = (
        settings.silent,
        True,
    )  # or it would ask the server for the name of the user, to greet them
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except wandb.errors.AuthenticationError as error:
        raise UserError(
            f"The API key of W&B is malformed ({error}): run `wandb login`, or set logger.wandb.mode=offline."
        ) from error
    finally:
        settings.silent = silent
