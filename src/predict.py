"""Draw what models make of the same images: ``python src/predict.py figure=page.png checkpoints=[...]``."""

from __future__ import annotations

from typing import Any, cast

import hydra
from omegaconf import DictConfig, OmegaConf

from fastfcn import cli


@hydra.main(config_path="../conf", config_name="predict", version_base="1.3")
@cli.one_sentence
def main(cfg: DictConfig) -> None:
    """Rebuild each model from its checkpoint, predict the images, draw a row for each and a column for each model."""
    config = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    from hydra.utils import instantiate

    from fastfcn import evaluation, gallery, results
    from fastfcn.checkpoint import datamodule_from_checkpoint, model_from_checkpoint
    from fastfcn.config_types import check_types
    from fastfcn.data.batches import normalise
    from fastfcn.report.measuring import device_of

    check_types(config)
    paths, trusted, device = list(cfg.checkpoints), list(cfg.trusted), device_of(cfg.device)
    names, figure = evaluation.headings(paths, config["names"]), gallery.check_path(cfg.figure)
    read = [evaluation.read_any(path) for path in paths]
    chosen = instantiate(cfg.data) if "_target_" in cfg.data else None
    datamodule = chosen or datamodule_from_checkpoint(read[0], split=cfg.data.split, trusted=trusted)
    evaluation.open_split(datamodule)
    for path, checkpoint in zip(paths, read, strict=True):
        evaluation.check_classes(checkpoint.facts, datamodule.facts, path=path)
    inference = evaluation.choose_inference(datamodule, instantiate(cfg.inference))
    optimize = instantiate(cfg.optimize).wanted(cfg.inference.optimize)
    models = [model_from_checkpoint(checkpoint, trusted=trusted).to(device) for checkpoint in read]
    models = models if optimize is None else [optimize(model) for model in models]
    gallery.draw(
        dict(zip(names, models, strict=True)),
        map(normalise, datamodule.eval_dataloader()),
        facts=datamodule.facts,
        path=figure,
        errors=cfg.errors,
        inference=inference,
        device=device,
        pick=cfg.pick,
        names=config["images"],
        count=cfg.count,
        candidates=cfg.candidates,
    )
    results.with_skipped({}, datamodule.skipped)


if __name__ == "__main__":
    cli.run(main)
