"""Every option of every group composes, and names targets and arguments that exist."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from fastfcn.checkpoint import config_dir
from fastfcn.config_types import check_types
from fastfcn.errors import UserError
from fastfcn.report.rows import UPSAMPLERS

CONF = config_dir()
#: What belongs to Hydra, or to one machine.
ELSEWHERE = ("hydra", "local", "prepare", "task", "inference")
OPTIONS = sorted(
    f"{path.parent.relative_to(CONF).as_posix()}={path.stem}"
    for path in CONF.rglob("*.yaml")
    if path.parent != CONF and path.relative_to(CONF).parts[0] not in ELSEWHERE
)
#: What an option cannot know by itself.
NEEDS = {
    "data=folder": ["data.dataset.root=/data"],
    "data=coco": ["data.dataset.root=/data"],
    "debug=replay": ["replay=step.json"],
    "experiment/camvid=r18": ["data.dataset.root=/data"],
    "experiment/ade20k=encnet_jpu_r101_finetune": ["init_from=best.ckpt"],
    "experiment/ade20k=encnet_none_r101_finetune": ["init_from=best.ckpt"],
}


def composed(script: str, overrides: list[str]) -> dict[str, Any]:
    """The resolved configuration, plain."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(script, overrides=overrides)
        # ${hydra:...} asks the running application, which a script's own start would have set.
        application = compose(script, overrides=overrides, return_hydra_config=True)
        OmegaConf.set_readonly(application.hydra, False)
        application.hydra.runtime.output_dir = "/run"
        HydraConfig.instance().set_config(application)
        try:
            return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
        finally:
            HydraConfig.instance().cfg = None


def override(option: str) -> list[str]:
    group, _, name = option.partition("=")
    parts = group.split("/")
    if parts[0] == "experiment":  # experiment=camvid/r18
        return [f"experiment={'/'.join([*parts[1:], name])}", *NEEDS.get(option, [])]
    return [option, *NEEDS.get(option, [])]


def targets(config: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield config
        for value in config.values():
            yield from targets(value)
    elif isinstance(config, list):
        for value in config:
            yield from targets(value)


def test_there_are_options() -> None:
    assert {"upsample=jpu", "backbone=timm", "debug=fast", "sweep=demo", "data=folder"} <= set(OPTIONS)


def test_the_sweep_of_upsamplers_has_all_in_the_reports_order() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=["sweep=upsamplers"], return_hydra_config=True)
    assert tuple(config.hydra.sweeper.params.upsample.split(",")) == UPSAMPLERS


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_with_arguments_that_exist(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastfcn.config_ranges._check_devices", lambda *_: None)  # trainer=gpu where there is none
    config = composed("train", override(option))
    check_types(config)
    found = list(targets(config))
    assert found
    for node in found:
        target = pkgutil.resolve_name(node["_target_"])
        arguments = {key: value for key, value in node.items() if not (key.startswith("_") and key.endswith("_"))}
        inspect.signature(target).bind_partial(**arguments)  # a TypeError names what does not exist


@pytest.mark.parametrize(
    ("script", "overrides"),
    [
        *(("eval", [f"inference={name}"]) for name in ("default", "center_crop", "whole", "slide", "multiscale")),
        ("prepare", ["data=ade20k"]),
        ("prepare", ["data=pascal_context"]),
        ("prepare", ["data=scenes"]),
        ("benchmark", ["task=data"]),
        ("report", ["runs=outputs/demo"]),
        ("web", []),
    ],
)
def test_the_other_scripts_compose_with_arguments_that_exist(script: str, overrides: list[str]) -> None:
    config = composed(script, overrides)
    check_types(config)
    for node in targets(config):
        arguments = {key: value for key, value in node.items() if not (key.startswith("_") and key.endswith("_"))}
        target = pkgutil.resolve_name(node["_target_"])
        own = ("check", "splits", "out", "workers")  # of prepare.py itself
        inspect.signature(target).bind_partial(**{key: arguments[key] for key in arguments if key not in own})


def test_the_tables_of_the_paper() -> None:
    """Each row of its Tables 1, 3, 4 and 5 that this project has the parts for is an experiment."""
    rows = {path.stem for path in (CONF / "experiment/pascal_context").iterdir()}
    ups = {"encnet": ("none", "bilinear", "fpn", "jpu"), "deeplab": ("none", "jpu"), "psp": ("none", "jpu")}
    grid = {f"{head}_{up}_r50" for head in ups for up in ups[head]}
    assert rows == grid | {"encnet_jpu_r101", "encnet_none_r101"}
    for row in rows:
        config = composed("train", [f"experiment=pascal_context/{row}"])
        assert (config["optim"]["lr"], config["trainer"]["max_epochs"], config["data"]["crop_size"]) == (0.001, 80, 480)
        assert config["output_stride"] == (8 if "_none_" in row else 32)
    for path in (CONF / "experiment/ade20k").iterdir():
        option = f"experiment/ade20k={path.stem}"
        config = composed("train", [f"experiment=ade20k/{path.stem}", *NEEDS.get(option, [])])
        tuned = path.stem.endswith("finetune")
        assert (config["optim"]["lr"], config["trainer"]["max_epochs"]) == ((0.001, 20) if tuned else (0.01, 120))
        assert config["data"]["train_split"] == ("trainval" if tuned else "train")


@pytest.mark.parametrize(
    "overrides", [[], ["data=folder", "data.dataset.root=/data"], ["data=scenes"], ["trainer=ddp"]]
)
def test_eval_composes(overrides: list[str]) -> None:
    check_types(composed("eval", ["ckpt_path=x.ckpt", *overrides]))


@pytest.mark.parametrize(
    ("upsample", "output_stride", "kernel_size"),
    [
        ("none", 8, 3),
        ("bilinear", 32, 3),
        ("fpn", 32, 3),
        ("jpu", 32, 1),
        ("jpu_x", 32, 1),
        ("bilinear_skip", 32, 1),
        ("guided", 32, 3),
        ("carafe", 32, 3),
        ("sapa", 32, 3),
        ("dysample", 32, 3),
    ],
)
def test_neighbours_follow_the_upsampler(upsample: str, output_stride: int, kernel_size: int) -> None:
    config = composed("train", [f"upsample={upsample}", "backbone=resnet101", "head=encoding"])
    assert config["model"]["backbone"]["output_stride"] == output_stride
    assert config["model"]["backbone"]["depth"] == 101
    assert config["model"]["head"]["kernel_size"] == kernel_size


def test_what_is_evaluated_follows_the_data() -> None:
    assert composed("eval", ["ckpt_path=x.ckpt"])["data"] == {"split": None}
    assert composed("eval", ["ckpt_path=x.ckpt", "data.split=val"])["data"] == {"split": "val"}
    assert composed("eval", ["ckpt_path=x.ckpt", "data=ade20k"])["data"]["split"] == "val"
    assert composed("eval", ["ckpt_path=x.ckpt", "data=ade20k", "data.split=test"])["data"]["split"] == "test"


def test_an_override_reaches_the_model() -> None:
    config = composed("train", ["backbone.weights=file.pth", "upsample.width=64", "seed=3"])
    assert config["model"]["backbone"]["weights"] == "file.pth"
    assert config["model"]["upsample"]["width"] == 64
    assert config["data"]["seed"] == 3


@pytest.mark.parametrize("name", ["train", "eval", "prepare", "benchmark", "predict", "export", "web"])
def test_every_key_of_the_scripts_is_checked_or_of_a_group(name: str) -> None:
    from fastfcn.config_keys import SCRIPT_KEYS

    text = cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(Path(CONF) / f"{name}.yaml"), resolve=False))
    loose = {key for key, value in text.items() if isinstance(value, bool | int | float)}
    assert loose <= set(SCRIPT_KEYS)


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("optim.lr", "abc", "a number"),
        ("optim.lr", None, "a number"),
        ("trainer.max_epochs", "abc", "a whole number or null"),
        ("trainer.max_epochs", 1.5, "a whole number or null"),
        ("backbone.depth", "abc", "a whole number"),
        ("head.width", "abc", "a whole number"),
        ("data.batch_size", "abc", "a whole number"),
        ("seed", "abc", "a whole number"),
        ("compile", "abc", "true or false"),
        ("loss.aux_weight", [0.2], "a number"),
    ],
)
def test_values_of_the_wrong_type(key: str, value: object, wanted: str) -> None:
    shown = "null" if value is None else value
    with pytest.raises(UserError) as caught:
        check_types(composed("train", [f"{key}={shown}"]))
    assert str(caught.value) == f"{key}={shown}: give {wanted}."


@pytest.mark.parametrize(
    "fine", ["optim.lr=1", "optim.lr=1e30", "trainer.max_epochs=null", "optim.reference_batch=null"]
)
def test_values_of_a_right_type(fine: str) -> None:
    check_types(composed("train", [fine]))


def test_targets_that_do_not_exist_are_left_to_hydra() -> None:
    check_types({"optim": {"_target_": "nowhere.Nothing", "lr": "abc"}, "loss": {"_target_": "fastfcn.Nothing"}})


def test_evaluations_have_a_place_of_their_own() -> None:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("eval", overrides=["ckpt_path=x"], return_hydra_config=True)
    node = OmegaConf.to_container(config.hydra.run, resolve=False)
    assert str(node["dir"]).startswith("outputs/eval/")  # type: ignore[index, call-overload]


def test_without_callbacks_nothing_is_saved() -> None:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=["callbacks=none"])
    assert config.callbacks == {}
    assert config.trainer.enable_checkpointing is False


def test_a_flag_is_no_number_and_nested_keys_of_the_report_are_checked() -> None:
    with pytest.raises(UserError, match="seed=true: give a whole number"):
        check_types({"seed": True})
    with pytest.raises(UserError, match=r"latency\.warmup=abc: give a whole number"):
        check_types({"latency": {"warmup": "abc"}})
    with pytest.raises(UserError, match="deterministic=maybe: give true or false or warn"):
        check_types({"deterministic": "maybe"})
    check_types({"latency": {"warmup": 3}, "seed": 0, "compile": True, "deterministic": "warn"})
