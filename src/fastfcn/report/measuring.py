"""What needs models and test images: counts, times side by side, the picture. One model per row, whatever its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from fastfcn.checkpoint import Checkpoint, datamodule_from_checkpoint, model_from_checkpoint, read_checkpoint
from fastfcn.data.batches import normalise
from fastfcn.data.datamodule import SegmentationDataModule
from fastfcn.errors import UserError
from fastfcn.evaluation import check_classes, open_split
from fastfcn.models.fastfcn import FastFCN
from fastfcn.pictures import figure_rows, save_png
from fastfcn.report import costs, figure
from fastfcn.report.contents import Measured, Picture, Timing
from fastfcn.report.rows import Row, Section
from fastfcn.report.runs import Run
from fastfcn.results import percent
from fastfcn.types import STAND_IN


class LatencyPlan(NamedTuple):
    """How to time: whether always or only where the runs bring no speeds that compare; rounds; seconds at most."""

    measure: bool | Literal["auto"] = "auto"
    warmup: int = 3
    repeats: int = 20
    seconds: float = 60


class FigurePlan(NamedTuple):
    """The picture: its number of images, and among how many they are chosen."""

    images: int = 4
    candidates: int = 64


class Plan(NamedTuple):
    """What to do with models.

    Attributes:
        latency: None: time nothing.
        figure: None: draw no predictions.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ...
        channels_last: time and predict in NHWC memory.
        trusted: packages whose modules the checkpoints may name.
        datamodule: of the test images; None: as the checkpoints describe them.
    """

    latency: LatencyPlan | None = LatencyPlan()
    figure: FigurePlan | None = FigurePlan()
    device: str = "auto"
    channels_last: bool = True
    trusted: tuple[str, ...] = ("fastfcn",)
    datamodule: SegmentationDataModule | None = None

    def check(self) -> torch.device:
        """The device.

        Raises:
            UserError: a number makes no sense, or there is no such device.
        """
        if self.figure is not None and not 1 <= self.figure.images <= self.figure.candidates:
            raise UserError(
                f"images={self.figure.images} and candidates={self.figure.candidates}: choose 1 <= images <= "
                "candidates, or figure=null to draw none."
            )
        if self.latency is not None and (self.latency.warmup < 0 or self.latency.repeats < 1):
            raise UserError(
                f"latency.warmup={self.latency.warmup} and latency.repeats={self.latency.repeats}: choose warmup >= 0 "
                "and repeats >= 1, or latency=null to time nothing."
            )
        return device_of(self.device)


def measure(
    section: Section, names: Sequence[str], plan: Plan, *, timed: bool, picture: Path
) -> tuple[Measured | None, list[str]]:
    """Build each row's model once, count and time it, and draw what it gets wrong.

    Args:
        section: of tested rows.
        names: one per row.
        plan: what to do.
        timed: whether to take times.
        picture: file of the picture.

    Returns:
        What was found out, None where no model or no image is at hand; and sentences on what could not be done.

    Raises:
        UserError: the data set of the plan does not fit the models.
    """
    place = plan.check()
    chosen = representatives(section.rows)
    notes = []
    if lacking := [f"`{name}`" for name, run in zip(names, chosen, strict=True) if run is None]:
        notes.append(f"No checkpoint is at hand of {', '.join(lacking)}: neither counted nor pictured.")
    at_hand = [index for index, run in enumerate(chosen) if run is not None]
    runs = [run for run in chosen if run is not None]
    if not runs:
        return None, notes
    try:
        checkpoints = [read_checkpoint(str(run.checkpoint)) for run in runs]
        datamodule = _data(plan, checkpoints[0])
        for run, checkpoint in zip(runs, checkpoints, strict=True):
            check_classes(checkpoint.facts, datamodule.facts, path=str(run.checkpoint))
        models = [model_from_checkpoint(checkpoint, trusted=plan.trusted) for checkpoint in checkpoints]
    except UserError as error:
        if plan.datamodule is not None:
            raise
        return None, [*notes, f"Models could neither be counted nor pictured here: {error}"]
    layout = torch.channels_last if plan.channels_last else torch.contiguous_format
    models = [model.eval().to(place, memory_format=layout) for model in models]  # type: ignore[call-overload]
    own_names = [names[index] for index in at_hand]
    loader = datamodule.eval_dataloader()
    known = next(batch for batch in loader if batch["name"][0] != STAND_IN)
    first = normalise(known)["image"][:1].to(place).contiguous(memory_format=layout)
    found, timing = _costs(
        dict(zip(own_names, models, strict=True)), first, plan if timed else plan._replace(latency=None)
    )
    shown = None
    if plan.figure is not None:
        drawn, seen = figure.choose(
            models, map(normalise, loader), facts=datamodule.facts, count=plan.figure.images,
            candidates=plan.figure.candidates, layout=layout,
        )  # fmt: skip
        headlines = [f"mIoU {percent(run.test['mIoU'])}" for run in runs]
        examples = [choice.example for choice in drawn]
        rgb = figure_rows(examples, facts=datamodule.facts, headings=own_names, headlines=headlines, errors=True)
        save_png(rgb, picture)
        shown = Picture(picture.name, at_hand, [run.seed for run in runs], drawn, seen)
    by_row = dict(zip(at_hand, found, strict=True))
    return Measured(
        costs=[by_row.get(index) for index in range(len(section.rows))],
        facts=datamodule.facts,
        tested=len(loader.dataset),  # type: ignore[arg-type]
        size=(first.shape[2], first.shape[3]),
        timing=timing,
        picture=shown,
    ), notes


def representatives(rows: Sequence[Row]) -> list[Run | None]:
    """One run per row that has its checkpoint at hand: of the seed that most rows have, where there is a choice."""
    usable = [{run.seed: run for run in row.runs if run.checkpoint is not None} for row in rows]
    seeds = sorted({seed for runs in usable for seed in runs})
    if not seeds:
        return [None] * len(rows)
    common = max(seeds, key=lambda seed: sum(seed in runs for runs in usable))
    return [runs.get(common) or next(iter(runs.values()), None) for runs in usable]


def device_of(name: str) -> torch.device:
    """The device of a name; `auto` is a GPU where there is one.

    Raises:
        UserError: There is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name}: there is no such device here; choose auto or cpu.") from error
    return device


def _data(plan: Plan, checkpoint: Checkpoint) -> SegmentationDataModule:
    datamodule = plan.datamodule or datamodule_from_checkpoint(checkpoint, trusted=plan.trusted)
    open_split(datamodule)
    return datamodule


def _costs(models: dict[str, FastFCN], image: torch.Tensor, plan: Plan) -> tuple[list[costs.Costs], Timing | None]:
    found = costs.count(models, image)
    if plan.latency is None:
        return found, None
    times, unmeasured = costs.timed(
        models, image, warmup=plan.latency.warmup, repeats=plan.latency.repeats, seconds=plan.latency.seconds
    )
    found = [
        cost._replace(latency=times[name], memory_gib=costs.peak_memory(model, image))
        for cost, (name, model) in zip(found, models.items(), strict=True)
    ]
    rounds = next(iter(times.values())).repeats
    return found, Timing(unmeasured, rounds, image.device, plan.channels_last)
