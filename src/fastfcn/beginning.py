"""Where a training begins: anew, with the weights of a checkpoint, or where another left off."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from fastfcn import launch
from fastfcn.checkpoint import Checkpoint, read_checkpoint
from fastfcn.class_entries import entries_of_classes
from fastfcn.config_types import shown
from fastfcn.errors import UserError
from fastfcn.evaluation import check_classes
from fastfcn.model_options import TARGET, differences
from fastfcn.module import SegmentationModule

#: ``resume=auto``.
AUTO = "auto"


def check(*, resume: str | None, init_from: str | None, fine_tune: bool) -> None:
    """See that it is clear with which weights a training begins.

    Args:
        resume: a checkpoint to go on from.
        init_from: a checkpoint whose weights the training begins with.
        fine_tune: the training is worth nothing from other weights than a checkpoint's.

    Raises:
        UserError: both checkpoints are given, or none is for a fine-tuning.
    """
    if resume not in (None, AUTO) and init_from is not None:
        raise UserError("resume goes on with a training and init_from begins one: give one of the two.")
    if fine_tune and resume in (None, AUTO) and init_from is None:
        raise UserError(
            "fine_tune=true: this training begins with the weights of another one, give its checkpoint by "
            "init_from=.../checkpoints/best.ckpt; the experiment's file says which."
        )


def choose(
    trainer: pl.Trainer,
    module: SegmentationModule,
    *,
    run_dir: Path,
    resume: str | None,
    init_from: str | None,
    new_classifier: bool = False,
) -> str | None:
    """Find the checkpoint to go on from, or fill the model with the weights to begin with.

    Args:
        trainer: of the training.
        module: of the training.
        run_dir: of the run.
        resume: a checkpoint, ``auto`` for the newest of the run directory if there is one, or None.
        init_from: a checkpoint whose weights the training begins with; with ``resume=auto``, its first try.
        new_classifier: of ``init_from``, all weights but those that tell classes apart, which begin anew: the data may
            have other classes.

    Returns:
        The checkpoint for Lightning to go on from; None where the training begins.

    Raises:
        UserError: a checkpoint does not exist, is not of this model, or has no training to go on with.
    """
    check(resume=resume, init_from=init_from, fine_tune=False)
    if new_classifier and init_from is None and resume is None:
        raise UserError("new_classifier=true: give the checkpoint that all other weights come from by init_from=...")
    if resume == AUTO or (resume is None and launch.started_again()):
        resume = _newest_checkpoint(run_dir, module)
    elif resume is not None:
        checkpoint = _checked("resume", resume, module)
        _check_epochs(resume, checkpoint, trainer)
        _say(_where(resume, checkpoint))
    if init_from is not None and resume is None:
        if new_classifier:
            _take_over(init_from, module)
        else:
            module.model.load_state_dict(_checked("init_from", init_from, module).weights)
    return resume


def _newest_checkpoint(run_dir: Path, module: SegmentationModule) -> str | None:
    """The checkpoint of a run directory to go on from, that of the latest step; None where there is none."""
    found: list[tuple[int, int, float, str]] = []
    for path in sorted((run_dir / "checkpoints").glob("*.ckpt")):
        try:
            checkpoint = read_checkpoint(path)
        except UserError as error:
            _say(f"passed over: {error}")
            continue
        if checkpoint.resumable:
            found.append((*checkpoint.behind, path.stat().st_mtime, str(path)))
    if not found:
        return None
    newest = max(found)[-1]
    _say(_where(newest, _checked("resume", newest, module)))
    return newest


def _where(path: str, checkpoint: Checkpoint) -> str:
    """Say where a training goes on."""
    if checkpoint.behind.epochs > checkpoint.epoch:
        return f"goes on after epoch {checkpoint.behind.epochs} from {path}"
    return f"goes on in epoch {checkpoint.behind.epochs + 1} after step {checkpoint.behind.steps} from {path}"


def _checked(key: str, path: str, module: SegmentationModule) -> Checkpoint:
    """Read a checkpoint, and refuse one of another model; to go on from, also one of another data set."""
    checkpoint = read_checkpoint(path)
    try:
        check_classes(checkpoint.facts, module.facts, path=path)
    except UserError as error:
        if key == "resume":
            raise
        raise UserError(f"{error} new_classifier=true takes over all but the classes.") from error
    _check_model(key, path, checkpoint, module, but_for=())
    trained, data = checkpoint.facts.name, module.facts.name
    if key == "resume" and trained != data:
        raise UserError(
            f"resume={path} was trained on {trained}, this training is on {data}: choose the data that it was trained "
            "on (data.dataset.name=... where a folder alone has another name), or begin a training of its own with its "
            f"weights by init_from={path}."
        )
    return checkpoint


def _check_model(
    key: str, path: str, checkpoint: Checkpoint, module: SegmentationModule, *, but_for: Collection[str]
) -> None:
    """Refuse a checkpoint of another model, some entries apart.

    Weights of the same names and shapes may be of a model that computes otherwise: to go on with it is refused, to
    begin with its weights is told.
    """
    own, theirs = (
        {name: tuple(value.shape) for name, value in entries.items() if name not in but_for}
        for entries in (module.model.state_dict(), checkpoint.weights)
    )
    if own != theirs:
        name = next(name for name in (*own, *theirs) if own.get(name) != theirs.get(name))
        raise UserError(
            f"{key}={path} is of another model, they differ in {name}: choose the backbone, upsample and head that it "
            "was trained with (config.yaml in its run directory)."
        )
    differing = differences(module.config.get("model", {}), checkpoint.model_config)
    if not differing:
        return
    if key == "resume" and (parts := [each for each in differing if each.key.endswith(TARGET)]):
        raise UserError(
            f"resume={path} is of another model, it has {parts[0].theirs} where this one has {parts[0].own}: choose "
            "the backbone, upsample and head that it was trained with (config.yaml in its run directory)."
        )
    told = ", ".join(f"{each.key}={shown(each.theirs)} (here {shown(each.own)})" for each in differing)
    if key == "resume":
        raise UserError(
            f"resume={path} was trained with {told}: give the same, or begin a training with its weights by "
            f"init_from={path}, in a run directory of its own."
        )
    _say(f"{key}={path} was trained with {told}")


def _take_over(path: str, module: SegmentationModule) -> None:
    """Fill the model with the weights of a checkpoint, but for those that tell classes apart; say which begin anew."""
    checkpoint = read_checkpoint(path)
    anew = entries_of_classes(module.config["model"], module.facts)
    _check_model("init_from", path, checkpoint, module, but_for=anew)
    kept = {name: value for name, value in checkpoint.weights.items() if name not in anew}
    module.model.load_state_dict({**module.model.state_dict(), **kept})
    layers = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in module.model.state_dict() if name in anew))
    theirs, own = checkpoint.facts, module.facts
    _say(
        f"begins with the weights of {path} ({theirs.name}, {theirs.num_classes} classes), but for {layers}, which "
        f"begin anew for the {own.num_classes} classes of {own.name}"
    )


def _check_epochs(path: str, checkpoint: Checkpoint, trainer: pl.Trainer) -> None:
    """Refuse to go on with a training that is over, or of which the weights alone are there."""
    if not checkpoint.resumable:
        raise UserError(f"resume={path} holds weights alone: begin a training with them by init_from={path}.")
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= checkpoint.behind.epochs:
        raise UserError(
            f"resume={path} has {checkpoint.behind.epochs} epochs behind it, as many as trainer.max_epochs="
            f"{trainer.max_epochs} asks for or more: raise trainer.max_epochs."
        )


@rank_zero_only
def _say(line: str) -> None:
    print(line, flush=True)
