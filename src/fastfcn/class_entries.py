"""Which entries of a model tell classes apart: those whose shape follows the number of classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from fastfcn.checkpoint import Checkpoint, unfilled_model
from fastfcn.types import DataFacts


def entries_of_classes(model_config: Mapping[str, Any], facts: DataFacts) -> set[str]:
    """Names of such entries: the classifiers of head and auxiliary head, and what predicts presence.

    The model is built twice, the second time with one class more; nothing of chance is used up by it.

    Args:
        model_config: Resolved, plain; what this very run has built.
        facts: Of its data.
    """
    one_more = replace(facts, class_names=(*facts.class_names, "one more"))
    packages = sorted({"fastfcn", *_packages(model_config)})
    shapes = []
    with torch.random.fork_rng(devices=[]):
        for known in (facts, one_more):
            described = Checkpoint(dict(model_config), {}, known, {}, epoch=0)
            model = unfilled_model(described, trusted=packages)
            shapes.append({name: value.shape for name, value in model.state_dict().items()})
    return {name for name, shape in shapes[0].items() if shapes[1][name] != shape}


def _packages(config: object) -> set[str]:
    """Of all that a configuration names by ``_target_``."""
    if isinstance(config, list | tuple):
        return set().union(*map(_packages, config))
    if not isinstance(config, Mapping):
        return set()
    own = {str(config["_target_"]).split(".")[0]} if "_target_" in config else set()
    return own.union(*map(_packages, config.values()))
