"""The page of predict.py: what several models make of the same images of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from fastfcn import evaluation, gallery, results
from fastfcn.checkpoint import datamodule_from_checkpoint, model_from_checkpoint
from fastfcn.data.batches import normalise
from fastfcn.data.datamodule import SegmentationDataModule
from fastfcn.inference import Inference
from fastfcn.optimize import Optimize
from fastfcn.report.measuring import device_of


def draw(
    config: Mapping[str, Any],
    *,
    data: SegmentationDataModule | None,
    inference: partial[Inference] | None,
    optimize: Optimize | None,
) -> None:
    """Rebuild each model from its checkpoint, predict the images, draw a row for each and a column for each model.

    Args:
        config: Of predict.py, plain.
        data: What was chosen; None is what the first model was trained on.
        inference: Makes the protocol.
        optimize: How networks are rewritten for speed, or None.

    Raises:
        UserError: A checkpoint, the data or a value cannot be used.
    """
    paths, trusted, device = list(config["checkpoints"]), list(config["trusted"]), device_of(config["device"])
    names, figure = evaluation.headings(paths, config["names"]), gallery.check_path(config["figure"])
    read = [evaluation.read_any(path) for path in paths]
    datamodule = data or datamodule_from_checkpoint(read[0], split=config["data"]["split"], trusted=trusted)
    evaluation.open_split(datamodule)
    for path, checkpoint in zip(paths, read, strict=True):
        evaluation.check_classes(checkpoint.facts, datamodule.facts, path=path)
    protocol = evaluation.choose_inference(datamodule, inference)
    models = [model_from_checkpoint(checkpoint, trusted=trusted).to(device) for checkpoint in read]
    gallery.draw(
        dict(zip(names, models if optimize is None else map(optimize, models), strict=True)),
        map(normalise, datamodule.eval_dataloader()),
        facts=datamodule.facts,
        path=figure,
        errors=config["errors"],
        inference=protocol,
        device=device,
        pick=config["pick"],
        names=config["images"],
        count=config["count"],
        candidates=config["candidates"],
    )
    results.with_skipped({}, datamodule.skipped)
