"""An upsampler of one's own is one Python file and one YAML file, both outside of this project."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import fastfcn
from fastfcn.errors import UserError
from tests.scripts import TINY, call, start

pytestmark = pytest.mark.slow

MODULE = '''
from collections.abc import Sequence

from torch import nn

from fastfcn.models.layers import resize
from fastfcn.models.upsamplers.base import Upsampler
from fastfcn.types import Pyramid


class Mine(Upsampler):
    """c5, narrowed and enlarged."""

    def __init__(self, in_channels: Sequence[int], *, width: int = 8) -> None:
        super().__init__()
        c2, c3, c4, c5 = in_channels
        self.narrow = nn.Conv2d(c5, width, 1)
        self.out_channels = (c2, c3, c4, width)

    def forward(self, pyramid: Pyramid) -> Pyramid:
        return pyramid._replace(c5=resize(self.narrow(pyramid.c5), pyramid.c3.shape[-2:]))
'''
OPTION = """
_target_: my_upsamplers.Mine
_partial_: true
width: 16
"""


def test_one_python_file_and_one_yaml_file(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_upsamplers.py").write_text(MODULE)
    option = tmp_path / "conf/upsample/mine.yaml"
    option.parent.mkdir(parents=True)
    option.write_text(OPTION)
    tiny = [override for override in TINY if not override.startswith("upsample.")]
    overrides = ("upsample=mine", "upsample.width=24", f"paths.data_dir={data_dir}", f"hydra.run.dir={tmp_path}/run")
    command = (f"--config-dir={option.parents[1]}", *tiny, *overrides)
    done = start("train.py", *command, PYTHONPATH=str(tmp_path)).check()
    assert "test of encoding-mine-resnet18 on scenes" in done.out

    checkpoint = tmp_path / "run/checkpoints/best.ckpt"
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(UserError, match=r"my_upsamplers\.Mine.*trusted="):
        fastfcn.load_model(checkpoint)
    assert "my_upsamplers" not in sys.modules  # nor was the module imported
    evaluate = ("trainer=cpu", f"ckpt_path={checkpoint}", f"hydra.run.dir={tmp_path}/eval")
    assert "trusted=[fastfcn,my_upsamplers]" in call("eval.py", *evaluate).sentence()
    call("eval.py", *evaluate, "trusted=[fastfcn,my_upsamplers]").check()
    model = fastfcn.load_model(checkpoint, trusted=("fastfcn", "my_upsamplers"))
    assert type(model.upsample).__name__ == "Mine"
    assert model.upsample.out_channels[-1] == 24
    monkeypatch.delitem(sys.modules, "my_upsamplers")
