"""Pictures of what models make of a data set: the images that tell most, beside one another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from fastfcn.agreement import gathered_objects
from fastfcn.counts import Int64Array
from fastfcn.errors import UserError
from fastfcn.exporting.runtime import Exported
from fastfcn.inference import Inference, Model
from fastfcn.metrics import confusion, scores
from fastfcn.pictures import Example, denormalise, figure_rows, save_figure, save_png
from fastfcn.report.figure import hard_pixels
from fastfcn.types import IGNORE_INDEX, STAND_IN, Batch, DataFacts
from fastfcn.whole_files import check_folder

#: Which images are drawn: those of which the models' errors differ most, or that the first model does worst or best on.
Pick = Literal["differ", "worst", "best"]

#: Classes of the picture of confusions.
CLASSES_SHOWN = 40


class Row(NamedTuple):
    """An image with what the models make of it.

    Attributes:
        merit: The more, the rather it is drawn.
        name: Of the image.
        example: Image, truth and one prediction per model.
    """

    merit: float
    name: str
    example: Example


def _kept(rows: Iterable[Row], count: int) -> list[Row]:
    """The rows of most merit; of equals, by name, so that any number of processes keeps the same."""
    return sorted(rows, key=lambda row: (-row.merit, row.name))[:count]


class KeepExtremes(pl.Callback):
    """Keeps the test images that say most of a model, and draws them when the test is over.

    These are the images with the lowest and the highest mIoU of their own, and those with the most errors along the
    contours of the truth, where all but the contours is left out.

    Args:
        folder: Where `worst.png`, `best.png` and `boundaries.png` go.
        facts: Of the classes.
        count: Images of each kind.
    """

    def __init__(self, folder: Path, facts: DataFacts, *, count: int = 4) -> None:
        self._folder = folder
        self._facts = facts
        self._count = count
        self._kept: dict[str, list[Row]] = {"worst": [], "best": [], "boundaries": []}
        self._thin = torch.tensor([facts.class_names.index(name) for name in facts.thin_classes], dtype=torch.long)

    @override
    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        samples = zip(batch["name"], batch["image"], batch["mask"], outputs["prediction"], strict=True)
        for name, image, mask, prediction in samples:
            contours = hard_pixels(mask[None], self._thin.to(mask.device))[0]
            wrong = ((prediction != mask) & contours).sum() / contours.sum().clamp(min=1)
            own = scores(confusion(prediction, mask, self._facts.num_classes)).miou
            miou, errors = torch.stack([own, wrong.double()]).tolist()  # the one time that a GPU is waited for
            if np.isnan(miou):  # nothing of it is labelled
                continue
            self._offer("worst", -miou, name, image, mask, prediction)
            self._offer("best", miou, name, image, mask, prediction)
            along = torch.where(contours, mask, IGNORE_INDEX)
            self._offer("boundaries", errors, name, image, along, prediction)

    def _offer(self, kind: str, merit: float, name: str, image: Tensor, mask: Tensor, prediction: Tensor) -> None:
        rows = self._kept[kind]
        if len(rows) == self._count and merit < rows[-1].merit:
            return
        self._kept[kind] = _kept([*rows, Row(merit, name, _example(image, mask, [prediction]))], self._count)

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        parts = gathered_objects(self._kept)
        if not trainer.is_global_zero:
            return
        for kind in self._kept:
            if rows := _kept((row for part in parts for row in part[kind]), self._count):
                examples = [row.example for row in rows]
                picture = figure_rows(examples, facts=self._facts, headings=("prediction",), errors=True)
                save_png(picture, self._folder / f"{kind}.png")


def _example(image: Tensor, mask: Tensor, predictions: Sequence[Tensor]) -> Example:
    masks = tuple(prediction.cpu().numpy().astype(np.int16) for prediction in predictions)
    return Example(denormalise(image), mask.cpu().numpy().astype(np.int16), masks)


def check_path(figure: str) -> Path:
    """The path of a picture that is to be drawn.

    Raises:
        UserError: It is no name of a PNG, or its folder cannot be written to; told before the models work for it.
    """
    path = Path(figure).expanduser()
    if path.suffix.lower() != ".png" or path.is_dir():
        raise UserError(f"figure={figure}: name a file that ends in .png.")
    check_folder(path.parent, key="figure")
    return path


def rows_of(
    models: Sequence[Model],
    batches: Iterable[Batch],
    *,
    inference: Inference,
    device: torch.device,
    pick: Pick = "differ",
    names: Sequence[str] | None = None,
    count: int = 4,
    candidates: int = 64,
) -> list[Row]:
    """Predict images with each model and keep those that tell most.

    Args:
        models: In evaluation mode, on the device.
        batches: Of the split, in order.
        inference: How predictions come from a model.
        device: Of the models.
        pick: Which images are kept.
        names: These images instead, in this order.
        count: How many are kept.
        candidates: Among how many, from the first on.

    Raises:
        UserError: There is no such way to pick, or no image of a name.
    """
    if pick not in get_args(Pick):
        raise UserError(f"pick={pick}: choose one of {', '.join(get_args(Pick))}.")
    if count < 1 or candidates < count:
        raise UserError(f"count={count} and candidates={candidates}: choose 1 <= count <= candidates.")
    for model in models:
        if inference.coarse and isinstance(model, Exported):
            model.need_logits()
    rows: list[Row] = []
    seen = 0
    for batch in batches:
        for index, name in enumerate(batch["name"]):
            if name == STAND_IN or (names is not None and name not in names):
                continue
            image, mask = batch["image"][index : index + 1].to(device), batch["mask"][index]
            with torch.inference_mode():
                predictions = [inference.predict(model, image)[0].cpu() for model in models]
            known = (mask != IGNORE_INDEX).sum().clamp(min=1)
            wrong = [float(((p != mask) & (mask != IGNORE_INDEX)).sum() / known) for p in predictions]
            merit = {"differ": max(wrong) - min(wrong), "worst": wrong[0], "best": -wrong[0]}[pick]
            rows = [*rows, Row(merit, name, _example(image[0], mask, predictions))]
            rows = rows if names is not None else _kept(rows, count)
            seen += 1
        if seen >= (candidates if names is None else len(names)):
            break
    if names is None:
        return rows
    found = {row.name: row for row in rows}
    if missing := [name for name in names if name not in found]:
        raise UserError(f"images={missing[0]}: the split has no image of this name.")
    return [found[name] for name in names]


def draw(
    models: Mapping[str, Model],
    batches: Iterable[Batch],
    *,
    facts: DataFacts,
    path: Path,
    errors: bool = True,
    **how: Any,
) -> Path:
    """Draw one row an image: input, truth and a column for each model, as in the paper's Figures 6 and 7.

    Args:
        models: By the heading of their column.
        batches: Of the split, in order.
        facts: Of the classes.
        path: The PNG to write.
        errors: Show the wrong pixels below each prediction.
        **how: As `rows_of` takes it.

    Raises:
        UserError: As `rows_of`.
    """
    rows = rows_of(list(models.values()), batches, **how)
    picture = figure_rows([row.example for row in rows], facts=facts, headings=list(models), errors=errors)
    save_png(picture, path)
    print(f"images:  {', '.join(row.name for row in rows)}\npicture: {path}")
    return path


def draw_confusion(matrix: Int64Array, facts: DataFacts, path: Path) -> None:
    """Draw which classes are taken for which: of each label's pixels, the share that each class gets.

    Where there are more than CLASSES_SHOWN classes, those in the largest confusions are drawn.

    Args:
        matrix: (C, C), rows labels and columns predictions.
        facts: Names of the classes.
        path: The PNG to write.
    """
    from matplotlib.figure import Figure

    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:CLASSES_SHOWN]
    chosen = np.sort(order)
    shares = 100 * matrix[np.ix_(chosen, chosen)] / np.maximum(matrix[chosen].sum(1, keepdims=True), 1)
    names = [facts.class_names[index] for index in chosen]
    side = 2.5 + 0.24 * len(chosen)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(np.sqrt(shares), cmap="viridis", vmin=0, vmax=10)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="predicted", ylabel="labelled")
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label="% of the label's pixels")
    bar.set_ticks(list(np.sqrt([0, 1, 5, 10, 25, 50, 100])), labels=["0", "1", "5", "10", "25", "50", "100"])
    save_figure(figure, path)
