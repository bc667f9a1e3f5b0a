"""A .pt2 compiled to machine code, of a model that compiles in seconds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fastfcn.errors import UserError
from fastfcn.exporting.description import Description
from fastfcn.exporting.making import compare, make
from fastfcn.exporting.request import Wanted, files_of
from fastfcn.exporting.runtime import load_exported
from fastfcn.models.fastfcn import FastFCN
from fastfcn.models.heads.fcn import FCNHead
from fastfcn.models.upsamplers.bilinear import Bilinear
from fastfcn.own_entry import own_entry
from fastfcn.types import Pyramid
from tests.toy import FACTS

WANTED = Wanted(dynamic=True)


class Backbone(nn.Module):
    """Five strided convolutions."""

    output_stride = 32
    out_channels = (4, 4, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3 if i == 0 else 4, 4, 3, stride=2, padding=1) for i in range(5))

    def forward(self, image: Tensor) -> Pyramid:
        x, levels = image, []
        for conv in self.convs:
            x = conv(x)
            levels.append(x)
        return Pyramid(*levels[1:])


def toy() -> FastFCN:
    torch.manual_seed(0)
    return FastFCN(num_classes=2, backbone=Backbone(), upsample=Bilinear, head=partial(FCNHead)).eval()


def description() -> Description:
    return Description(
        format="torch_export", precision="fp32", takes="normalised", gives="logits", size=None, batch=None,
        least=1, entry=own_entry({}, FACTS), source={},
    )  # fmt: skip


@pytest.mark.slow
def test_it_gives_what_torch_gives_at_other_sizes(tmp_path: Path) -> None:
    path, model = tmp_path / "a.pt2", toy()
    make(model, "torch_export", path, wanted=WANTED, description=description())
    files = files_of(path, "torch_export", WANTED)
    assert [each.name for each in files] == ["a.pt2", "a.aoti.pt2"]
    found = compare(model, files, wanted=WANTED, size=(64, 64))
    assert [each.shape for each in found] == 2 * [(1, 64, 64), (3, 65, 71), (1, 101, 33), (3, 33, 33)]
    exported = load_exported(files[1], trusted=("fastfcn", "pt2"))
    assert exported.facts == FACTS
    with pytest.raises(UserError, match=r"trusted=\[fastfcn,pt2\]"):
        load_exported(files[1])


def test_a_compiler_that_fails_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class CppCompileError(RuntimeError):
        pass

    def fail(*_: object, **__: object) -> None:
        raise CppCompileError("C++ compile error\nand pages of it")

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", fail)
    with pytest.raises(UserError, match=r"export\.aot_inductor=false"):
        make(toy(), "torch_export", tmp_path / "a.pt2", wanted=WANTED, description=description())
