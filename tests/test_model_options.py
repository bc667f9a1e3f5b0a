"""Options by which models of the same weights differ."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl

from fastfcn.beginning import choose
from fastfcn.checkpoint import load_model, read_checkpoint
from fastfcn.errors import UserError
from fastfcn.model_options import Difference, differences
from fastfcn.module import SegmentationModule


def test_options_are_compared_by_the_keys_of_the_command_line() -> None:
    own = {"backbone": {"depth": 18, "dilate": False, "weights": "none"}, "align_corners": True, "new": 1}
    theirs = {"backbone": {"depth": 18, "dilate": True, "weights": "DEFAULT"}, "align_corners": False, "old": 2}
    assert differences(own, theirs) == [
        Difference("backbone.dilate", False, True),
        Difference("model.align_corners", True, False),
    ]
    assert differences(own, own) == differences({}, theirs) == []


def test_what_is_not_named_has_the_default_of_its_class() -> None:
    jpu = {"_target_": "fastfcn.models.upsamplers.jpu.JPU", "_partial_": True}
    assert differences({"upsample": {**jpu, "dilations": [1, 2, 4, 8]}}, {"upsample": jpu}) == []
    assert differences({"upsample": jpu}, {"upsample": {**jpu, "align_corners": False}}) == [
        Difference("upsample.align_corners", True, False)
    ]


def test_another_part_is_one_difference() -> None:
    own, theirs = ({"upsample": {"_target_": f"fastfcn.models.{name}", name: 1}} for name in ("a", "b"))
    assert differences(own, theirs) == [Difference("upsample._target_", "fastfcn.models.a", "fastfcn.models.b")]


def test_options_of_the_root_have_its_keys() -> None:
    own, theirs = ({"backbone": {"output_stride": stride}, "head": {"kernel_size": stride}} for stride in (8, 32))
    assert [each.key for each in differences(own, theirs)] == ["output_stride", "head_kernel_size"]


@pytest.mark.parametrize("key", ["resume", "init_from"])
def test_a_checkpoint_of_a_model_that_computes_otherwise(
    first_version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    theirs = read_checkpoint(first_version)
    own = {**theirs.model_config, "upsample": {**theirs.model_config["upsample"], "dilations": [1, 2, 4, 16]}}
    module = SegmentationModule(model=load_model(first_version), facts=theirs.facts, config={"model": own})
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=20)
    words = f"{key}={first_version} was trained with upsample.dilations=[1,2,4,8] (here [1,2,4,16])"
    resume, init_from = (str(first_version) if key == name else None for name in ("resume", "init_from"))
    if key == "resume":
        with pytest.raises(UserError) as caught:
            choose(trainer, module, run_dir=tmp_path, resume=resume, init_from=init_from)
        assert words in str(caught.value)
    else:
        choose(trainer, module, run_dir=tmp_path, resume=resume, init_from=init_from)
        assert words in capsys.readouterr().out
