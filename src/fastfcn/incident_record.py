"""What a training keeps of a batch that had no finite loss or gradients, so that it can be run again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytorch_lightning as pl
from torch import Tensor

from fastfcn import durable, incident, provenance
from fastfcn.agreement import gathered_objects
from fastfcn.checkpointing import LastCheckpoint
from fastfcn.data.samplers import TrainSampler
from fastfcn.exact import step_seed


@dataclass
class Seen:
    """A batch of this process.

    Attributes:
        number: within the epoch.
        names: of its images.
        loss: that its backward pass begins with.
        terms: of the loss, as they were logged; empty where they are not known.
    """

    number: int
    names: list[str]
    loss: Tensor | None = None
    terms: dict[str, float] = field(default_factory=dict)


class Kept(NamedTuple):
    """What there is to say of it, "" where there is nothing.

    Attributes:
        others: which processes were hit, and the images there, where there are several processes.
        where: it is kept.
        replay: how it is run again, as a sentence.
    """

    others: str = ""
    where: str = ""
    replay: str = ""


def keep(
    trainer: pl.Trainer,
    directory: Path | None,
    *,
    what: Literal["loss", "gradients"],
    epoch: int,
    step: int,
    window: list[Seen],
) -> Kept:
    """Write a file for a replay; every process must call it, and comes back when the file is there.

    Args:
        trainer: of the training.
        directory: where; None writes nothing.
        what: was not finite.
        epoch: in which.
        step: optimizer steps before it.
        window: the batches of the step so far.
    """
    ranks = gathered_objects(_of_this_process(trainer, window))
    hit = [each for each in ranks if what == "loss" and not _finite(each["batches"][-1]["loss"])]
    others = ""
    if trainer.world_size > 1:
        others = "".join(f" (process {each['rank']}, images {_names(each)})" for each in hit)
    if directory is None:
        return Kept(others)
    path = directory / f"step_{step:06d}.json"
    if trainer.is_global_zero:
        module: Any = trainer.lightning_module
        seed = getattr(module, "seed", None)
        entry = incident.Incident(
            what=what, epoch=epoch, step=step, batches=[seen.number for seen in window], seed=seed,
            torch_seeds=[None if seed is None else step_seed(seed, epoch, seen.number) for seen in window],
            processes=trainer.world_size, global_batch=getattr(trainer.datamodule, "batch_size", None),  # type: ignore[attr-defined]
            checkpoint=_keep_checkpoint(trainer, path.with_suffix(".ckpt")),
            overrides=provenance.overrides(directory.parent), ranks=ranks,
        )  # fmt: skip
        incident.write(path, entry)
    # A process that ends before the first one has written would take it along.
    trainer.strategy.barrier("non_finite")
    command = f"python src/train.py {incident.ASKED}{path}"
    return Kept(others, f", kept in {path}", f" The batch is kept: `{command}` shows where it begins.")


def _of_this_process(trainer: pl.Trainer, window: list[Seen]) -> dict[str, Any]:
    sampler = getattr(trainer.train_dataloader, "sampler", None)
    batches = []
    for seen in window:
        keys = sampler.share_of(seen.number) if isinstance(sampler, TrainSampler) else []
        images: list[dict[str, Any]] = [{"name": name} for name in seen.names]
        for image, (index, seed) in zip(images, keys, strict=False):
            image |= {"index": index, "seed": seed}
        terms = {name: repr(value) for name, value in seen.terms.items()}
        loss = None if seen.loss is None else repr(seen.loss.item())
        batches.append({"batch": seen.number, "loss": loss, "terms": terms, "images": images})
    return {"rank": trainer.global_rank, "batches": batches}


def _finite(loss: str | None) -> bool:
    return loss not in ("nan", "inf", "-inf")


def _names(rank: dict[str, Any]) -> str:
    images = [image["name"] for image in rank["batches"][-1]["images"]]
    return ", ".join(images[:8]) + (", ..." if len(images) > 8 else "")


def _keep_checkpoint(trainer: pl.Trainer, path: Path) -> str | None:
    """Give the newest checkpoint of this training another name too, for a training that goes on replaces it."""
    last = next((each for each in trainer.checkpoint_callbacks if isinstance(each, LastCheckpoint)), None)
    newest = last.newest if last is not None else trainer.ckpt_path and Path(trainer.ckpt_path)
    if not newest or not newest.is_file():
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.also_known_as(newest, path)
    return str(path.absolute())
