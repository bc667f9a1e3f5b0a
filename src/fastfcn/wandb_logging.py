"""The options of the logger to Weights & Biases: the mode, and what the run is called and belongs to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from fastfcn import wandb_service
from fastfcn.errors import UserError
from fastfcn.naming import group_name
from fastfcn.safe_wandb import SafeWandbLogger, say, sync_command

WandbMode = Literal["auto", "online", "offline", "disabled"]


def wandb_logger(
    *,
    project: str,
    save_dir: str,
    run_name: str | None = None,
    group: str | None = None,
    job_type: str | None = None,
    tags: Sequence[str | None] = (),
    notes: str | None = None,
    entity: str | None = None,
    data: str | None = None,
    sweep: str | None = None,
    mode: WandbMode = "auto",
    resume: str | None = None,
    log_checkpoint: bool = False,
    save_code: bool = False,
    init_timeout: float = 10.0,
    finish_timeout: float = 60.0,
) -> SafeWandbLogger:
    """A logger to Weights & Biases that never asks a question and works without a network.

    Args:
        project: The project that the run belongs to.
        save_dir: The run's directory; W&B's files go to ``<save_dir>/wandb``.
        run_name: Shown for the run; W&B invents one for None.
        group: Runs of one group are listed together; None is what `fastfcn.naming.group_name` says.
        job_type: What the run does: train, evaluate, ...
        tags: Labels by which runs are filtered; None among them is left out.
        notes: A text on the run.
        entity: User or team that the project is of; None is the user's own choice in W&B.
        data: The data's name, for the group.
        sweep: The sweep's name, for the group; None outside of a sweep.
        mode: ``auto`` follows W&B's own setting (WANDB_MODE, ``wandb offline``); without one the run is online if
            credentials are configured and offline otherwise. An offline run says in one line how to upload it.
        resume: The checkpoint that the training goes on from, or ``auto``. Where it lies in this directory, the run
            with the id that is kept there goes on; any other training is a run of its own.
        log_checkpoint: Keep the best checkpoint as an artifact.
        save_code: Keep the code as an artifact.
        init_timeout: Seconds to wait for the server at the start before the run goes offline.
        finish_timeout: Seconds to wait at the end for what is not uploaded yet.

    Raises:
        UserError: The mode is none of these, or online without credentials.
    """
    wandb_service.prepare()
    resolved = _resolve(mode)
    directory = Path(save_dir).absolute()
    directory.mkdir(parents=True, exist_ok=True)  # W&B writes to a temporary directory instead of a missing one
    if group is None and run_name is not None and data is not None:
        group = group_name(run_name, data=data, sweep=sweep, run_dir=directory)
    if resolved == "offline":
        say(f"W&B runs offline; to upload: {sync_command(directory)}")
    return SafeWandbLogger(
        directory,
        mode=resolved,
        resume=resume,
        log_checkpoint=log_checkpoint,
        save_code=save_code,
        init_timeout=init_timeout,
        finish_timeout=finish_timeout,
        project=project,
        name=run_name,
        group=group,
        job_type=job_type,
        tags=list(dict.fromkeys(str(tag) for tag in tags if tag is not None)),
        notes=notes,
        entity=entity,
    )


def _resolve(mode: str) -> str:
    """What a mode comes to on this machine: online, offline or disabled."""
    if mode not in get_args(WandbMode):
        raise UserError(f"logger.wandb.mode={mode}: choose one of {', '.join(get_args(WandbMode))}.")
    asked: str | None = mode
    if mode == "auto":
        asked = os.environ.get("WANDB_MODE") or wandb_service.configured_mode()
    resolved = {"dryrun": "offline", "run": "online"}.get(asked or "", asked)
    if resolved is None:
        return "online" if wandb_service.has_credentials() else "offline"
    if resolved == "online" and not wandb_service.has_credentials():
        key = "logger.wandb.mode" if mode == "online" else "WANDB_MODE"
        raise UserError(f"{key}=online needs credentials: run `wandb login`, or set WANDB_API_KEY; offline needs none.")
    if resolved not in get_args(WandbMode):
        raise UserError(f"WANDB_MODE={asked}: choose one of online, offline, disabled.")
    return resolved
