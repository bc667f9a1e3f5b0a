"""Make a data set ready for training, or check it: ``python src/prepare.py data=ade20k``."""

from __future__ import annotations

import sys
from typing import Any, cast

import hydra
from omegaconf import DictConfig, OmegaConf

from fastfcn import cli

#: What belongs to the script; everything else under `prepare` goes to the data set's own preparation.
OF_THE_SCRIPT = ("check", "splits", "out", "workers")


@hydra.main(config_path="../conf", config_name="prepare", version_base="1.3")
@cli.one_sentence
def main(cfg: DictConfig) -> None:
    """Prepare the data set, or with `prepare.check=true` read all of it and exit with 1 if it cannot be trained on."""
    config = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    from functools import partial
    from inspect import signature
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import instantiate

    from fastfcn.config_types import check_types

    # What is not used here, and takes seconds to import, is left out.
    check_types({**config, "data": {"dataset": config["data"]["dataset"]}})
    name, settings = HydraConfig.get().runtime.choices["data"], config["prepare"]
    if settings["check"]:
        from fastfcn.preparation import doctor

        open_split = instantiate(config["data"]["dataset"])
        if "strict" in signature(open_split).parameters:  # tell all pairs that are wrong, not the first alone
            open_split = partial(open_split, strict=False)
        splits = list(dict.fromkeys(settings["splits"]))
        ready = doctor.check(open_split, splits, name=name, out=Path(settings["out"]), workers=settings["workers"])
        sys.exit(0 if ready else 1)
    elif "_target_" in settings:
        instantiate({key: value for key, value in settings.items() if key not in OF_THE_SCRIPT})
    else:
        print(f"data={name} needs no preparation; `python src/prepare.py data={name} prepare.check=true` checks it.")


if __name__ == "__main__":
    cli.run(main)
