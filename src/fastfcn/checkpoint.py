"""Models and data from names and from checkpoint files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from fastfcn.cli import explain
from fastfcn.data.datamodule import SegmentationDataModule
from fastfcn.errors import UserError
from fastfcn.hub.pulling import local_file
from fastfcn.models.fastfcn import FastFCN
from fastfcn.own_entry import CHECKPOINT_KEY, CHECKPOINT_VERSION, targets
from fastfcn.plain_files import ORIGINAL_KEY, Behind, best_score, load_plain, what_is_behind
from fastfcn.run_places import for_reading
from fastfcn.types import DataFacts


class Checkpoint(NamedTuple):
    """What a checkpoint of this project holds.

    Attributes:
        model_config: resolved, plain; rebuilds the model.
        data_config: resolved, plain; rebuilds the DataModule that it was trained on.
        facts: of that data set.
        weights: entries of the model.
        epoch: the epoch that it was written in, counted from 0.
        resumable: whether it holds the optimizer's state too.
        behind: optimizer steps and whole epochs; in the midst of an epoch that number is `epoch`.
        score: the best (pixAcc + mIoU) / 2 of the training so far, where the file tells it.
        unused: entries of a checkpoint of the original code that its model never reads, under their names.
        exported: the exported file that has all this of its checkpoint, and no weights to build a model of.
    """

    model_config: dict[str, Any]
    data_config: dict[str, Any]
    facts: DataFacts
    weights: dict[str, torch.Tensor]
    epoch: int
    resumable: bool = False
    behind: Behind = Behind()
    score: float | None = None
    unused: Mapping[str, torch.Tensor] = {}
    exported: Path | None = None


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
        config = _composed([*chosen, *overrides])
        if weights is not None:
            config.backbone.weights = str(weights)
        return cast("FastFCN", instantiate(config.model, num_classes=num_classes))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error


def build_data(name: str = "scenes", *, overrides: Sequence[str] = ()) -> SegmentationDataModule:
    """Build the DataModule of an option of conf/data, as ``train.py`` does; nothing is read before it is asked for.

    Args:
        name: an option of conf/data.
        overrides: further Hydra overrides, e.g. ``["data.batch_size=4"]``.

    Raises:
        UserError: a name or a key that does not exist, or a value that is missing or makes no sense.
    """
    try:
        config = _composed([f"data={name}", *overrides]).data
        OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # what is missing shows now
        return cast("SegmentationDataModule", instantiate(config))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error


def _composed(overrides: Sequence[str]) -> DictConfig:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint that this project wrote, also from the hub (hf://user/name); nothing in the file can run code.

    Raises:
        UserError: the file is missing, damaged, or not of this project.
    """
    path = local_file(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}; a run leaves its own in <run directory>/checkpoints/.")
    content = load_plain(path)
    own = content.get(CHECKPOINT_KEY) if isinstance(content, Mapping) else None
    if not isinstance(own, Mapping):
        raise UserError(f"{path} was not written by this project: it has no entry {CHECKPOINT_KEY!r}.")
    if own.get("version") != CHECKPOINT_VERSION:
        raise UserError(
            f"{path} has layout version {own.get('version')}, this program reads {CHECKPOINT_VERSION}: update it."
        )
    try:
        facts = DataFacts(
            name=own["facts"]["name"],
            class_names=tuple(own["facts"]["class_names"]),
            palette=tuple((r, g, b) for r, g, b in own["facts"]["palette"]),
            thin_classes=tuple(own["facts"]["thin_classes"]),
        )
        weights = {n.removeprefix("model."): v for n, v in content["state_dict"].items() if n.startswith("model.")}
        return Checkpoint(
            model_config=dict(own["model"]),
            data_config=dict(own["data"]),
            facts=facts,
            weights=weights,
            epoch=int(content.get("epoch", 0)),
            resumable="optimizer_states" in content,
            behind=what_is_behind(content),
            score=best_score(content),
            unused=dict(content.get(ORIGINAL_KEY, {}).get("unused", {})),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is incomplete ({type(error).__name__}: {error}): take another of the run.") from error


def load_model(path: str | Path, *, trusted: Sequence[str] = ("fastfcn",)) -> FastFCN:
    """Rebuild a trained model from its checkpoint file alone.

    Args:
        path: of a checkpoint that ``train.py`` wrote, or hf://user/name, or hf://user/name@revision.
        trusted: packages whose modules the file may name; add your own for an upsampler outside of this project.

    Returns:
        The model in evaluation mode, on the CPU, in float32.

    Raises:
        UserError: the file is missing, damaged, not of this project, or names modules outside ``trusted``.
    """
    return model_from_checkpoint(read_checkpoint(path), trusted=trusted)


def model_from_checkpoint(checkpoint: Checkpoint, *, trusted: Sequence[str] = ("fastfcn",)) -> FastFCN:
    """Rebuild the model of a checkpoint that has been read; see load_model. An exported file is called as one."""
    if checkpoint.exported is not None:
        from fastfcn.exporting.runtime import load_exported

        return cast("FastFCN", load_exported(checkpoint.exported, trusted=trusted))
    model = unfilled_model(checkpoint, trusted=trusted)
    try:
        model.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise UserError(
            f"the checkpoint's weights do not fit the model that it describes ({' '.join(str(error).split())})."
        ) from error
    return model.eval()


def unfilled_model(checkpoint: Checkpoint, *, trusted: Sequence[str] = ("fastfcn",)) -> FastFCN:
    """Rebuild the model of a checkpoint without its weights.

    Raises:
        UserError: the checkpoint names modules outside ``trusted``, or a model that cannot be built.
    """
    config = dict(checkpoint.model_config)
    if isinstance(config.get("backbone"), dict) and "weights" in config["backbone"]:
        config["backbone"] = {**config["backbone"], "weights": None}  # they come from the checkpoint
    return cast("FastFCN", _build(config, trusted, nn.Module, num_classes=checkpoint.facts.num_classes))


def datamodule_from_checkpoint(
    checkpoint: Checkpoint, *, split: str | None = None, trusted: Sequence[str] = ("fastfcn",)
) -> SegmentationDataModule:
    """Rebuild the DataModule that a checkpoint was trained on.

    Args:
        checkpoint: What was read from the file.
        split: The split to evaluate; None is the one that its training evaluated.
        trusted: Packages whose classes the file may name.

    Raises:
        UserError: the data are gone, or the file names classes outside ``trusted``.
    """
    if not checkpoint.data_config:
        raise UserError("the checkpoint does not tell what data it was trained on: choose some by data=...")
    config = for_reading(checkpoint.data_config) | ({} if split is None else {"split": split})
    return cast("SegmentationDataModule", _build(config, trusted, object))


def _build(config: dict[str, Any], trusted: Sequence[str], kind: type, **arguments: object) -> Any:
    """Instantiate what a checkpoint describes, once every target in it is known to be harmless."""
    for target in targets(config):
        _check_target(target, trusted, kind)
    try:
        return instantiate(OmegaConf.create(config), **arguments)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error


def _check_target(target: str, trusted: Sequence[str], kind: type) -> None:
    """Let a checkpoint name classes of trusted packages only: its text decides what is called."""
    package = target.split(".")[0]
    try:
        known = get_object(target) if package in trusted else None
    except (ImportError, ValueError, AttributeError) as error:
        raise UserError(f"the checkpoint names {target}, which does not exist ({error}).") from error
    if not (isinstance(known, type) and issubclass(known, kind) and known.__module__.split(".")[0] in trusted):
        raise UserError(
            f"the checkpoint names {target}, which is no {'module' if kind is nn.Module else 'class'} of "
            f"{', '.join(trusted)}: if you trust the file, pass trusted=('fastfcn', {package!r}) to load_model, or "
            f"trusted=[fastfcn,{package}] to eval.py."
        )
