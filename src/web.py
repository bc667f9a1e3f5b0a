"""Open the page that compares two models on an image: ``python src/web.py``."""

from __future__ import annotations

from typing import Any, cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from fastfcn import cli


@hydra.main(config_path="../conf", config_name="web", version_base="1.3")
@cli.one_sentence
def main(cfg: DictConfig) -> None:
    """Find the models, then serve the page until Ctrl+C."""
    config = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    from fastfcn.config_types import check_types
    from fastfcn.web import serving
    from fastfcn.web.uploads import Limits

    check_types(config)
    serving.check_installed()
    GlobalHydra.instance().clear()  # all is composed; models with random weights compose others' configurations
    limits = Limits(megabytes=cfg.upload_mb, megapixels=cfg.megapixels, side=cfg.side)
    settings = serving.Settings(port=cfg.port, limits=limits, seconds=cfg.seconds, waiting=cfg.waiting)

    from fastfcn.report.measuring import device_of
    from fastfcn.web import models
    from fastfcn.web.examples import FACTS

    device, trusted, roots = device_of(cfg.device), list(cfg.trusted), config["runs"]
    offers = models.offers_of(list(cfg.checkpoints), trusted=trusted) if cfg.checkpoints else []
    offers = offers or models.offers_found([roots] if isinstance(roots, str) else roots, trusted=trusted)
    trained = bool(offers)
    offered = models.Models(offers or models.offers_untrained(FACTS), device=device, keep=cfg.keep)
    serving.check_port(cfg.port)
    serving.serve(offered, settings, trained=trained)


if __name__ == "__main__":
    cli.run(main)
