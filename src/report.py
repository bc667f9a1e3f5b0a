"""Report on a set of runs: ``python src/report.py runs=outputs/demo``."""

from __future__ import annotations

from typing import Any, cast

import hydra
from omegaconf import DictConfig, OmegaConf

from fastfcn import cli


@hydra.main(config_path="../conf", config_name="report", version_base="1.3")
@cli.one_sentence
def main(cfg: DictConfig) -> None:
    """Gather the runs, measure their models side by side, write Markdown, CSV, LaTeX and pictures."""
    config = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    from hydra.utils import instantiate

    from fastfcn import training
    from fastfcn.config_types import check_types
    from fastfcn.errors import UserError
    from fastfcn.report.gathering import gather
    from fastfcn.report.making import make
    from fastfcn.report.measuring import FigurePlan, LatencyPlan, Plan

    check_types(config)
    training.settle_process(keep_heap=True)
    if cfg.out is None and not isinstance(cfg.runs, str):
        raise UserError("runs is not one directory: say where the report goes, e.g. out=outputs/report.")
    if isinstance(cfg.figure, str):
        raise UserError(f"figure={cfg.figure}: give figure=null for none, or figure.images=... of the picture.")
    plan = Plan(
        latency=None if cfg.latency is None else LatencyPlan(**config["latency"]),
        figure=None if cfg.figure is None else FigurePlan(**config["figure"]),
        device=cfg.device,
        channels_last=cfg.channels_last,
        trusted=tuple(cfg.trusted),
        datamodule=instantiate(cfg.data) if "_target_" in (cfg.get("data") or {}) else None,
    )
    make(gather(cfg.runs), out=cfg.runs if cfg.out is None else cfg.out, plan=plan)


if __name__ == "__main__":
    cli.run(main)
