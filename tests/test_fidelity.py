"""docs/fidelity.md says what the models cost: the models say the same, and so do the official checkpoints."""

from __future__ import annotations

import json
import re
from math import prod
from pathlib import Path

import pytest
import torch

import fastfcn
from fastfcn.summary import summarise
from tests import official

TEXT = (Path(__file__).resolve().parents[1] / "docs/fidelity.md").read_text()
ROWS = {
    (backbone, head, upsample): (int(parameters.replace(",", "")), float(gflops))
    for backbone, head, upsample, parameters, gflops in re.findall(
        r"^\| (resnet\w+) \| (\w+) \| (\w+) \| ([\d,]+) \| ([\d.]+) \|", TEXT, flags=re.MULTILINE
    )
}


def test_the_table_has_all_rows() -> None:
    grid = {("encoding", up) for up in ("none", "bilinear", "fpn", "jpu", "jpu_x")}
    grid |= {(head, up) for head in ("aspp", "psp") for up in ("none", "jpu")}
    assert set(ROWS) == {(depth, *row) for depth in ("resnet50s", "resnet101s") for row in grid}


@pytest.mark.parametrize("row", ROWS, ids="-".join)
def test_parameters_and_operations(row: tuple[str, str, str]) -> None:
    backbone, head, upsample = row
    with torch.device("meta"):
        model = fastfcn.build_model(backbone=backbone, head=head, upsample=upsample, num_classes=59)
    cost = summarise(model.eval(), image_size=(512, 512)).inference
    assert (cost.parameters, round(cost.gflops, 2)) == ROWS[row]


@pytest.mark.parametrize("golden", sorted(path.name for path in official.GOLDENS.glob("*.keys.json")))
def test_parameters_are_those_of_the_official_checkpoint(golden: str) -> None:
    """Counted from its names and shapes alone: without buffers, the ImageNet classifier and the auxiliary head."""
    keys: dict[str, list[int]] = json.loads((official.GOLDENS / golden).read_text())
    left_out = ("pretrained.fc.", "auxlayer.")
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    counted = sum(
        prod(shape) for name, shape in keys.items() if not name.startswith(left_out) and not name.endswith(buffers)
    )
    head, upsample = golden.split("_")[0], golden.split("_resnet")[0].split("_", 1)[1]
    ours = {"encnet": "encoding", "deeplab": "aspp", "psp": "psp"}[head]
    assert counted == ROWS["resnet50s", ours, upsample][0]


def test_what_the_text_says_of_the_table() -> None:
    for backbone, words in (("resnet50s", (34, 44)), ("resnet101s", (22, 37))):
        (none, none_flops), (jpu, jpu_flops) = (ROWS[backbone, "encoding", up] for up in ("none", "jpu"))
        assert (round(100 * jpu / none - 100), round(100 * jpu_flops / none_flops)) == words
