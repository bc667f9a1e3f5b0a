"""Checkpoints: rebuilt from the file alone, and harmless whatever a file says."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import fastfcn
from fastfcn.checkpoint import datamodule_from_checkpoint, load_model, read_checkpoint
from fastfcn.errors import UserError

CONFIG: dict[str, Any] = {
    "_target_": "fastfcn.models.fastfcn.FastFCN",
    "_convert_": "all",
    "backbone": {
        "_target_": "fastfcn.models.backbones.resnet.ResNet",
        "depth": 18,
        "output_stride": 32,
        "weights": "/long/gone.pth",
    },
    "upsample": {"_target_": "fastfcn.models.upsamplers.jpu.JPU", "_partial_": True, "width": 32, "dilations": [1, 2]},
    "head": {"_target_": "fastfcn.models.heads.fcn.FCNHead", "_partial_": True, "level": "c5"},
    "aux_head": None,
}
DATA: dict[str, Any] = {
    "_target_": "fastfcn.data.datamodule.SegmentationDataModule",
    "_convert_": "all",
    "dataset": {"_target_": "fastfcn.data.scenes.Scenes", "_partial_": True, "size": 64, "counts": {"train": 1}},
    "batch_size": 1,
    "crop_size": 64,
    "base_size": 64,
}
OVERRIDES = ["upsample.width=32", "upsample.dilations=[1,2]", "model.aux_head=null"]


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """What a checkpoint of this project holds, as Lightning writes it."""
    torch.manual_seed(0)
    model = fastfcn.build_model(backbone="resnet18", head="fcn", num_classes=3, overrides=OVERRIDES)
    facts = {
        "name": "toy",
        "class_names": ["a", "b", "c"],
        "palette": [[0, 0, 0], [1, 1, 1], [2, 2, 2]],
        "thin_classes": ["c"],
    }
    return {
        "epoch": 4,
        "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()},
        "fastfcn": {"version": 1, "model": CONFIG, "data": DATA, "facts": facts},
    }


def save(content: dict[str, Any], path: Path) -> Path:
    torch.save(content, path)
    return path


def changed(content: dict[str, Any], **entries: Any) -> dict[str, Any]:
    """A copy whose model configuration differs; weights are shared."""
    own = copy.deepcopy(content["fastfcn"])
    own["model"] |= entries
    return {**content, "fastfcn": own}


def test_round_trip(content: dict[str, Any], tmp_path: Path) -> None:
    path = save(content, tmp_path / "good.ckpt")
    read = read_checkpoint(path)
    assert read.epoch == 4
    assert read.facts.thin_classes == ("c",)
    model = fastfcn.load_model(str(path))  # needs no weights file of the backbone
    assert not model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, content["state_dict"][f"model.{name}"])
    assert model(torch.zeros(1, 3, 64, 64)).logits.shape == (1, 3, 64, 64)
    assert datamodule_from_checkpoint(read).num_classes == 11


@pytest.mark.parametrize("name", ["a home directory's ~/x.ckpt", "nowhere.ckpt"])
def test_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="there is no checkpoint"):
        load_model(tmp_path / name)


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_pickled_code_does_not_run(content: dict[str, Any], tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    path = save({**content, "extra": Hostile(trap)}, tmp_path / "bad.ckpt")
    with pytest.raises(UserError, match=r"bad\.ckpt"):
        load_model(path)
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Hostile(trap)))
    with pytest.raises(UserError, match=r"plain\.ckpt"):
        load_model(tmp_path / "plain.ckpt")
    assert not trap.exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.mkdir",
        "builtins.eval",
        "fastfcn.models.backbones.weights.pickle.loads",  # a name that a trusted module happens to hold
        "fastfcn.checkpoint.torch.load",
        "fastfcn.provenance.subprocess.run",
        "fastfcn.provenance.write",  # a function of a trusted module, no class
        "fastfcn.models.backbones.weights.read_state_dict",
        "fastfcn.models.fastfcn.nn.Conv2d",  # a module, but not of a trusted package
        "hydra.utils.call",
        "fastfcn",
        "fastfcn.nothing.at.all",
        "fastfcnevil.Module",
        "",
    ],
)
@pytest.mark.parametrize("place", ["top", "nested", "list", "tuple"])
def test_target_that_is_no_module_of_a_trusted_package(
    content: dict[str, Any], tmp_path: Path, target: str, place: str
) -> None:
    trap = tmp_path / "trap"
    call = {"_target_": target, "path": str(trap)}
    model = {
        "top": lambda: changed(content, **call),
        "nested": lambda: changed(content, head={**CONFIG["head"], "level": {"deeper": call}}),
        "list": lambda: changed(content, head={**CONFIG["head"], "level": [[call]]}),
        "tuple": lambda: changed(content, head={**CONFIG["head"], "level": ((call,),)}),
    }[place]()
    path = save(model, tmp_path / "hostile.ckpt")
    with pytest.raises(UserError):
        load_model(path)
    assert not trap.exists()


@pytest.mark.parametrize(
    "text",
    [
        "${oc.create:{_target_:os.mkdir,path:TRAP}}",
        "${oc.decode:'{_target_: os.mkdir, path: TRAP}'}",
        "${oc.env:HOME}",
    ],
)
def test_interpolation_runs_nothing(content: dict[str, Any], tmp_path: Path, text: str) -> None:
    trap = tmp_path / "trap"
    hostile = changed(content, head={**CONFIG["head"], "level": text.replace("TRAP", str(trap))})
    with pytest.raises(UserError, match="interpolation"):
        load_model(save(hostile, tmp_path / "hostile.ckpt"))
    assert not trap.exists()


@pytest.mark.parametrize("where", ["whole", "dataset"])
def test_data_configuration_runs_nothing_either(content: dict[str, Any], tmp_path: Path, where: str) -> None:
    trap = tmp_path / "trap"
    call = {"_target_": "os.mkdir", "path": str(trap)}
    own = copy.deepcopy(content["fastfcn"])
    own["data"] = call if where == "whole" else {**own["data"], "dataset": call}
    path = save({**content, "fastfcn": own}, tmp_path / "hostile.ckpt")
    with pytest.raises(UserError, match=r"os\.mkdir"):
        datamodule_from_checkpoint(read_checkpoint(path))
    assert not trap.exists()


@pytest.mark.parametrize("missing", ["version", "facts", "model", "data"])
def test_incomplete(content: dict[str, Any], tmp_path: Path, missing: str) -> None:
    own = {key: value for key, value in content["fastfcn"].items() if key != missing}
    with pytest.raises(UserError, match=r"half\.ckpt"):
        load_model(save({**content, "fastfcn": own}, tmp_path / "half.ckpt"))


@pytest.mark.parametrize("entry", [3, [], {"version": 2}, {"version": 1, "facts": 5, "model": {}, "data": {}}])
def test_strange(tmp_path: Path, entry: object) -> None:
    with pytest.raises(UserError, match=r"strange\.ckpt"):
        load_model(save({"fastfcn": entry, "state_dict": {}}, tmp_path / "strange.ckpt"))


def test_weights_of_another_model(content: dict[str, Any], tmp_path: Path) -> None:
    path = save(changed(content, upsample={**CONFIG["upsample"], "width": 64}), tmp_path / "mixed.ckpt")
    with pytest.raises(UserError, match="do not fit"):
        load_model(path)


@pytest.mark.parametrize(
    "arguments",
    [{"upsample": "jpv"}, {"head": "foo"}, {"overrides": ["upsample.widht=3"]}, {"backbone": "nothing_like_this"}],
)
def test_build_model_of_names_that_do_not_exist(arguments: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        fastfcn.build_model(**arguments)


def test_build_data_makes_what_the_configuration_says(tmp_path: Path) -> None:
    counts = "data.dataset.counts={train:2,val:1,test:1}"
    datamodule = fastfcn.build_data(
        "scenes", overrides=[counts, "data.batch_size=2", "data.dataset.size=64", f"paths.data_dir={tmp_path}"]
    )
    assert (datamodule.batch_size, datamodule.crop_size, datamodule.base_size) == (2, 96, 64)
    assert len(datamodule.open("train")) == 2
    assert [path.parent.name for path in tmp_path.rglob("train-*.npy")] == ["scenes"]
    recipe = fastfcn.build_data("ade20k")  # nothing is opened before it is asked for
    assert (recipe.crop_size, recipe.base_size, recipe.eval_split) == (480, 520, "val")


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("nowhere", [], "nowhere"),
        ("scenes", ["data.batch=2"], "batch"),
        ("scenes", ["data.batch_size=0"], "data.batch_size=0 must be at least 1"),
        ("folder", [], "data.dataset.root"),
    ],
)
def test_build_data_of_what_does_not_exist(name: str, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fastfcn.build_data(name, overrides=overrides)
