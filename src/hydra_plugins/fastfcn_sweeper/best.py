"""The best trial as a configuration of its own, which trains it anew without the search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from fastfcn.sweeps.jobs import flat
from fastfcn.whole_files import write_text

BEST_FILE = "best.yaml"

#: What belongs to the search and not to what it has found.
_OF_THE_SEARCH = ("resume", "run_name", "callbacks.report_to_study")


def write_best(path: Path, config: DictConfig, compose: Callable[[Sequence[str]], DictConfig], *, title: str) -> str:
    """Write what a configuration says that the script's own does not, as one that builds on it.

    Interpolations stay: ``seed=1`` on top of it still reaches the data.

    Args:
        path: of the file.
        config: of the trial.
        compose: composes the script's configuration from overrides.
        title: its first line.

    Returns:
        What the command line has to say besides, keys that are left out; mostly nothing.
    """
    groups: dict[str, str | None] = {}
    # One group after the other: a later one may follow an earlier one, as recipe follows data.
    while difference := _first_difference(config, own := compose([f"{key}={_text(groups[key])}" for key in groups])):
        key, option = difference
        groups[key] = option
    ours, theirs = _leaves(config), _leaves(own)
    content = OmegaConf.create({})
    for key, value in ours.items():
        if key not in theirs or value != theirs[key]:
            OmegaConf.update(content, key, value, force_add=True)
    primary = str(config.hydra.job.config_name)
    defaults = [primary, *({f"override {key}": option} for key, option in groups.items()), "_self_"]
    body = OmegaConf.to_yaml(OmegaConf.create({"defaults": defaults})) + (OmegaConf.to_yaml(content) if content else "")
    write_text(path, f"# {title}\n{body}")
    return " ".join(f"~{key}" for key in theirs if key not in ours)


def _first_difference(config: DictConfig, own: DictConfig) -> tuple[str, str | None] | None:
    ours, theirs = config.hydra.runtime.choices, own.hydra.runtime.choices
    for key, option in ours.items():
        if not key.startswith("hydra") and key != "sweep" and option != theirs.get(key):
            return str(key), option
    return None


def _leaves(config: DictConfig) -> dict[str, Any]:
    tree = cast("dict[str, Any]", OmegaConf.to_container(config, resolve=False))
    del tree["hydra"]
    found = flat(tree)
    return {
        key: value
        for key, value in found.items()
        if not any(key == own or key.startswith(f"{own}.") for own in _OF_THE_SEARCH)
    }


def _text(option: str | None) -> str:
    return "null" if option is None else option
