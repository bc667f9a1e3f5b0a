"""Models from names and from checkpoint files."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from fastfcn.cli import explain
from fastfcn.errors import UserError
from fastfcn.models.fastfcn import FastFCN
from fastfcn.module import CHECKPOINT_KEY, CHECKPOINT_VERSION
from fastfcn.types import DataFacts


class Checkpoint(NamedTuple):
    """What a checkpoint of this project holds.

    Attributes:
        model_config: resolved, plain; rebuilds the model.
        data_config: resolved, plain; rebuilds the DataModule that it was trained on.
        facts: of that data set.
        weights: entries of the model.
        epoch: the epoch that it was written in, counted from 0.
    """

    model_config: dict[str, Any]
    data_config: dict[str, Any]
    facts: DataFacts
    weights: dict[str, torch.Tensor]
    epoch: int


def config_dir() -> Path:
    """The folder of configuration files: beside ``src`` in a checkout, inside the package when installed."""
    here = Path(__file__).resolve()
    for candidate in (here.parents[2] / "conf", here.parent / "conf"):
        if (candidate / "train.yaml").is_file():
            return candidate
    raise FileNotFoundError(f"the folder conf/ is neither beside src/ nor inside {here.parent}")


def build_model(
    *,
    backbone: str = "resnet50",
    upsample: str = "jpu",
    head: str = "encoding",
    num_classes: int = 59,
    weights: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> FastFCN:
    """Build a model by the names of the configuration groups, as ``train.py`` does.

    Args:
        backbone: an option of conf/backbone, or the name of a timm model.
        upsample: an option of conf/upsample.
        head: an option of conf/head.
        num_classes: of the logits.
        weights: of the backbone: None, a torchvision weights name, or a file.
        overrides: further Hydra overrides, e.g. ``["upsample.width=256", "model.aux_head=null"]``.

    Raises:
        UserError: a name that does not exist, or a combination that cannot be built.
    """
    known = {path.stem for path in (config_dir() / "backbone").glob("*.yaml")}
    chosen = [f"backbone={backbone}"] if backbone in known else ["backbone=timm", f"backbone.name={backbone}"]
    chosen += [f"upsample={upsample}", f"head={head}"]
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            config = compose("train", overrides=[*chosen, *overrides])
        config.backbone.weights = None if weights is None else str(weights)
        model: FastFCN = instantiate(config.model, num_classes=num_classes)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error
    return model


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint that this project wrote; nothing in the file can run code.

    Raises:
        UserError: the file is missing, damaged, or not of this project.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}; a run leaves its own in <run directory>/checkpoints/.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} is no readable checkpoint: damaged, or not of plain types alone ({reason})."
        ) from error
    own = content.get(CHECKPOINT_KEY) if isinstance(content, Mapping) else None
    if not isinstance(own, Mapping):
        raise UserError(f"{path} was not written by this project: it has no entry {CHECKPOINT_KEY!r}.")
    if own["version"] != CHECKPOINT_VERSION:
        raise UserError(
            f"{path} has layout version {own['version']}, this program reads {CHECKPOINT_VERSION}: update it."
        )
    facts = DataFacts(
        name=own["facts"]["name"],
        class_names=tuple(own["facts"]["class_names"]),
        palette=tuple((r, g, b) for r, g, b in own["facts"]["palette"]),
        thin_classes=tuple(own["facts"]["thin_classes"]),
    )
    prefix = "model."
    weights = {n.removeprefix(prefix): v for n, v in content["state_dict"].items() if n.startswith(prefix)}
    return Checkpoint(dict(own["model"]), dict(own["data"]), facts, weights, int(content.get("epoch", 0)))


def load_model(path: str | Path, *, trusted: Sequence[str] = ("fastfcn",)) -> FastFCN:
    """Rebuild a trained model from its checkpoint file alone.

    Args:
        path: of a checkpoint that ``train.py`` wrote.
        trusted: packages whose modules the file may name; add your own for an upsampler outside of this project.

    Returns:
        The model in evaluation mode, on the CPU, in float32.

    Raises:
        UserError: the file is missing, damaged, not of this project, or names modules outside ``trusted``.
    """
    return model_from_checkpoint(read_checkpoint(path), trusted=trusted)


def model_from_checkpoint(checkpoint: Checkpoint, *, trusted: Sequence[str] = ("fastfcn",)) -> FastFCN:
    """Rebuild the model of a checkpoint that has been read; see load_model."""
    config = copy.deepcopy(checkpoint.model_config)
    for target in _targets(config):
        _check_target(target, trusted)
    config["backbone"]["weights"] = None  # they come from the checkpoint
    model: FastFCN = instantiate(OmegaConf.create(config), num_classes=checkpoint.facts.num_classes)
    model.load_state_dict(checkpoint.weights)
    return model.eval()


def _targets(config: object) -> Iterator[str]:
    """Every ``_target_`` in a nested plain configuration."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield str(config["_target_"])
        for value in config.values():
            yield from _targets(value)
    elif isinstance(config, list):
        for value in config:
            yield from _targets(value)


def _check_target(target: str, trusted: Sequence[str]) -> None:
    """Let a checkpoint name modules of trusted packages only: its text decides what is called."""
    package = target.split(".")[0]
    known = get_object(target) if package in trusted else None
    if not (isinstance(known, type) and issubclass(known, nn.Module) and known.__module__.split(".")[0] in trusted):
        raise UserError(
            f"the checkpoint names {target}, which is no module of {', '.join(trusted)}: if you trust the file, pass "
            f"load_model(path, trusted=('fastfcn', {package!r}))."
        )
