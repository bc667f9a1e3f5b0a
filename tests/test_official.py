"""Checkpoints of the original code: what is inferred, what is refused, and the way back."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fastfcn
from fastfcn.checkpoint import Checkpoint, model_from_checkpoint
from fastfcn.errors import UserError
from fastfcn.evaluation import check_classes
from fastfcn.official import facts_of, read_official, to_official
from fastfcn.official_names import TARGETS, Architecture
from fastfcn.types import DataFacts
from tests import official
from tests.data.tiny import is_one_sentence_with

State = dict[str, Tensor]
PATH = Path("x.ckpt")


def of(backbone: str, upsample: str, head: str, num_classes: int, *overrides: str) -> tuple[Checkpoint, State]:
    """A checkpoint of this project with small weights of noise, and the same under the official names."""
    kernel = ["head.kernel_size=1"] if head == "encoding" and upsample != "none" else []
    model = fastfcn.build_model(
        backbone=backbone, upsample=upsample, head=head, num_classes=num_classes, overrides=[*kernel, *overrides]
    )
    options: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    if head == "encoding":
        options = (
            {"kernel_size": 3 if upsample == "none" else 1, "presence": "head.presence=false" not in overrides},
            {},
        )
    aux = "model.aux_head=null" not in overrides
    config = Architecture(head, upsample, int(backbone[6:-1]), num_classes, aux, options).config()
    checkpoint = Checkpoint(config, {}, facts_of(num_classes), dict(model.state_dict()), 0)
    return checkpoint, to_official(checkpoint, path=PATH)


@pytest.mark.parametrize(
    ("backbone", "upsample", "head", "num_classes", "overrides"),
    [
        ("resnet50s", "jpu", "encoding", 150, ()),
        ("resnet101s", "none", "psp", 59, ()),
        ("resnet50s", "jpu_x", "aspp", 21, ()),
        ("resnet50s", "none", "aspp", 60, ("model.aux_head=null",)),
        ("resnet50s", "jpu", "encoding", 59, ("head.presence=false", "model.aux_head=null")),
        pytest.param("resnet152s", "jpu", "psp", 150, (), marks=pytest.mark.slow),
    ],
)
def test_any_of_the_grid_comes_back_as_it_was(
    backbone: str, upsample: str, head: str, num_classes: int, overrides: tuple[str, ...], tmp_path: Path
) -> None:
    ours, state = of(backbone, upsample, head, num_classes, *overrides)
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "a.pth.tar")
    again = read_official(tmp_path / "a.pth.tar")
    assert again.weights.keys() == ours.weights.keys()
    assert all(torch.equal(value, ours.weights[name]) for name, value in again.weights.items())
    assert again.facts.num_classes == num_classes
    model = model_from_checkpoint(again)
    assert (model.aux_head is None) == ("model.aux_head=null" in overrides)
    with torch.no_grad():
        out = model(torch.zeros(1, 3, 64, 64))
    assert out.logits.shape == (1, num_classes, 64, 64)
    assert (out.presence is None) == (head != "encoding" or "head.presence=false" in overrides)


def test_names_and_shapes_are_the_official_ones() -> None:
    golden = official.official_state("encnet_jpu_resnet50_pcontext")
    _, state = of("resnet50s", "jpu", "encoding", 59)
    assert {name: value.shape for name, value in state.items()} == {name: value.shape for name, value in golden.items()}


@pytest.fixture(scope="module")
def psp() -> State:
    return official.official_state("psp_jpu_resnet50_pcontext")


def rename(old: str, new: str) -> Callable[[State], State]:
    return lambda state: {new if name == old else name: value for name, value in state.items()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: {**state, "head.connect.0.0.weight": torch.zeros(1)}, ["lateral connections", "head.connect.0"]),
        (lambda state: {**state, "head.extra": torch.zeros(1)}, ["head.extra", "no place for"]),
        (lambda state: {**state, "pretrained.extra": torch.zeros(1)}, ["pretrained.extra", "no place for"]),
        (rename("jpu.conv3.0.weight", "jpu.conv3.0.x"), ["jpu.conv3.0."]),
        (rename("head.conv5.5.weight", "head.conv5.9.weight"), ["no entry", "head.conv5.5.weight"]),
        (
            lambda state: {**state, "jpu.conv4.0.weight": torch.zeros(512, 1000, 3, 3)},
            ["jpu.conv4.0.weight is (512, 1000, 3, 3)", "needs (512, 1024, 3, 3)"],
        ),
        (
            lambda state: {**state, "head.conv5.5.bias": torch.zeros(60)},
            ["head.conv5.5.bias is (60,)", "needs (59,)"],
        ),
        (
            lambda state: {name: value for name, value in state.items() if ".layer3.5." not in name},
            ["5 blocks in pretrained.layer3"],
        ),
        (lambda state: {**state, "head.conv5.5.weight": torch.tensor(1.0)}, ["head.conv5.5.weight of 4 dimensions"]),
        (lambda state: {**state, "jpu.conv5.0.weight": torch.tensor(1.0)}, ["jpu.conv5.0.weight of 4 dimensions"]),
        (lambda state: {"fc.weight": torch.zeros(2)}, ["no EncNet, PSP or DeepLab", "fc.weight"]),
        (lambda state: {}, ["no state dict"]),
        (lambda state: {"epoch": 3}, ["no state dict"]),
    ],
)
def test_what_does_not_fit_is_named(
    psp: State, change: Callable[[State], State], words: list[str], tmp_path: Path
) -> None:
    torch.save({"state_dict": change(psp)}, tmp_path / "a.pth.tar")
    with pytest.raises(UserError) as caught:
        fastfcn.load_official(tmp_path / "a.pth.tar")
    is_one_sentence_with(caught.value, words)


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_damaged_and_hostile_files(psp: State, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        fastfcn.load_official(tmp_path / "nothing.pth.tar")
    torch.save({"state_dict": psp}, tmp_path / "a.pth.tar")
    whole = (tmp_path / "a.pth.tar").read_bytes()
    (tmp_path / "a.pth.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="is no checkpoint: damaged"):
        fastfcn.load_official(tmp_path / "a.pth.tar")
    torch.save({"state_dict": {}, "best_pred": Hostile(tmp_path / "ran")}, tmp_path / "b.pth.tar")
    with pytest.raises(UserError, match="is no checkpoint of plain types alone: it names"):
        fastfcn.load_official(tmp_path / "b.pth.tar")
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("legacy", [True, False])
def test_whatever_is_damaged_gives_one_sentence(legacy: bool, tmp_path: Path) -> None:
    """Cut at any place, or with wrong bytes: torch raises a dozen kinds of errors."""
    buffer = io.BytesIO()
    content = {"epoch": 3, "state_dict": {"a.b": torch.zeros(3, 4)}, "best_pred": np.float64(0.5)}
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    data = buffer.getvalue()
    rng = np.random.default_rng(0)
    damaged = [data[:length] for length in range(0, len(data), 37)]
    for _ in range(600):
        wrong = bytearray(data)
        wrong[rng.integers(len(wrong))] = rng.integers(256)
        damaged.append(bytes(wrong))
    refused = 0
    for index, text in enumerate(damaged):
        (tmp_path / f"{index}.pth.tar").write_bytes(text)
        with pytest.raises(UserError) as caught:  # no byte makes a model of this
            fastfcn.load_official(tmp_path / f"{index}.pth.tar")
        is_one_sentence_with(caught.value, [])
        refused += "is no checkpoint" in str(caught.value)
    assert refused > 100


@pytest.mark.parametrize("number", [np.int64(80), np.float32(0.5), np.float16(0.5), np.bool_(True), torch.tensor(0.5)])
def test_numbers_of_any_kind(psp: State, number: object, tmp_path: Path) -> None:
    torch.save({"epoch": number, "state_dict": psp, "best_pred": number}, tmp_path / "a.pth.tar")
    read = read_official(tmp_path / "a.pth.tar")
    assert read.facts.num_classes == 59
    assert read.score is None or read.score == float(number)  # type: ignore[arg-type]


@pytest.mark.parametrize(("legacy", "old_numpy"), [(True, True), (True, False), (False, False)])
def test_files_as_the_original_writes_them(psp: State, legacy: bool, old_numpy: bool, tmp_path: Path) -> None:
    """With optimizer, a NumPy number as the best score, and in torch's format of before 1.6."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1, momentum=0.9).state_dict()
    content = {"epoch": 80, "state_dict": psp, "optimizer": optimizer, "best_pred": np.float64(0.65)}
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    data = buffer.getvalue()
    if old_numpy:
        assert b"cnumpy._core.multiarray\n" in data
        data = data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    (tmp_path / "model_best.pth.tar").write_bytes(data)
    assert fastfcn.load_official(tmp_path / "model_best.pth.tar").num_classes == 59


@pytest.mark.parametrize(
    ("part", "option", "words"),
    [
        ("head", {"bins": [1, 2, 3, 4]}, ["bins=(1, 2, 3, 4)", "bins=(1, 2, 3, 6)"]),
        ("upsample", {"dilations": [1, 2, 3, 4]}, ["dilation=(3, 3)", "dilation=(4, 4)"]),
        ("backbone", {"output_stride": 8}, ["contradicts"]),
        ("", {"align_corners": False}, ["align_corners=False"]),
    ],
)
def test_options_that_the_original_does_not_have(part: str, option: dict[str, Any], words: list[str]) -> None:
    """The weights are the same, what the original computed with them would not be."""
    checkpoint, _ = of("resnet50s", "jpu", "psp", 59)
    (checkpoint.model_config[part] if part else checkpoint.model_config).update(option)
    with pytest.raises(UserError) as caught:
        to_official(checkpoint, path=PATH)
    is_one_sentence_with(caught.value, words)


def test_a_first_convolution_that_the_original_does_not_have() -> None:
    model = fastfcn.build_model(backbone="resnet50s", num_classes=59, overrides=["head.kernel_size=3"])
    config = Architecture("encoding", "jpu", 50, 59, True, ({"kernel_size": 3}, {})).config()
    assert config["head"]["_target_"] == TARGETS["encoding"]
    with pytest.raises(UserError, match=r"kernel_size=\(3, 3\).* where that has .*kernel_size=\(1, 1\)"):
        to_official(Checkpoint(config, {}, facts_of(59), dict(model.state_dict()), 0), path=PATH)


def test_a_model_that_the_original_does_not_have() -> None:
    checkpoint, _ = of("resnet50s", "jpu", "psp", 59)
    checkpoint.model_config["backbone"]["stem"] = "7x7"
    with pytest.raises(UserError, match="the original code does not have"):
        to_official(checkpoint, path=PATH)


def test_names_of_classes_are_asked_for_where_they_are_known() -> None:
    names = tuple(f"thing {index}" for index in range(21))
    things = DataFacts("things", names, ((0, 0, 0),) * 21)
    assert check_classes(facts_of(21), things, path=PATH) == things
    assert check_classes(facts_of(59), facts_of(59), path=PATH).name == "pascal_context"
    with pytest.raises(UserError, match="21 classes"):
        check_classes(facts_of(21), DataFacts("things", names[1:], ((0, 0, 0),) * 20), path=PATH)
    with pytest.raises(UserError, match="class 0 = 'aeroplane'"):
        check_classes(facts_of(59), DataFacts("things", tuple(map(str, range(59))), ((0, 0, 0),) * 59), path=PATH)
