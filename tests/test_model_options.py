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


@pytest.mark.parametrize("key", ["resume", "init_from"])
def test_a_checkpoint_of_a_model_that_computes_otherwise(
    first_version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    theirs = read_checkpoint(first_version)
    own = {**theirs.model_config, "upsample": {**theirs.model_config["upsample"], "dilations": [1, 2, 4, 16]}}
    module = SegmentationModule(model=load_model(first_version), facts=theirs.facts, config={"model": own})
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=20)
    words = f"{key}={first_version} was trained with upsample.dilations=[1, 2, 4, 8]"
    resume, init_from = (str(first_version) if key == name else None for name in ("resume", "init_from"))
    if key == "resume":
        with pytest.raises(UserError) as caught:
            choose(trainer, module, run_dir=tmp_path, resume=resume, init_from=init_from)
        assert words in str(caught.value)
    else:
        choose(trainer, module, run_dir=tmp_path, resume=resume, init_from=init_from)
        assert words in capsys.readouterr().out
