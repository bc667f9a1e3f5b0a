"""A checkpoint of the first version still loads, evaluates as it did, and can be gone on from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fastfcn.checkpoint import load_model, read_checkpoint
from tests.scripts import ROOT, call

FIXTURES = ROOT / "tests/fixtures"
EXPECTED = json.loads((FIXTURES / "first_version.json").read_text())

#: What it was trained with.
AS_BEFORE = (
    "trainer=cpu", "backbone=timm", "backbone.name=test_efficientnet", "upsample.width=8", "head.width=16",
    "head.num_codewords=4", "data.dataset.size=64", "data.batch_size=8", "data.crop_size=64", "data.whole_eval=false",
    "callbacks.show_summary.image_size=[64,64]", "optim.lr=0.05",
)  # fmt: skip


def test_it_loads(first_version: Path) -> None:
    checkpoint = read_checkpoint(first_version)
    assert (checkpoint.facts.name, checkpoint.facts.num_classes) == ("scenes", 11)
    assert checkpoint.resumable
    assert tuple(checkpoint.behind) == (96, 12)
    assert checkpoint.score == pytest.approx(0.4527, abs=1e-4)
    image = torch.linspace(-2, 2, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.no_grad():
        logits = load_model(first_version)(image).logits
    y, x = EXPECTED["pixel"]
    torch.testing.assert_close(logits[0, :, y, x], torch.tensor(EXPECTED["logits"]), atol=1e-3, rtol=1e-3)
    assert float(logits.mean()) == pytest.approx(EXPECTED["mean"], abs=1e-3)


def test_it_evaluates(first_version: Path, tmp_path: Path) -> None:
    data = ("data=folder", f"data.dataset.root={FIXTURES / 'scenes'}", "data.crop_size=64", "data.num_workers=0")
    call("eval.py", f"ckpt_path={first_version}", *data, "trainer=cpu", f"hydra.run.dir={tmp_path}").check()
    figures = json.loads((tmp_path / "results.json").read_text())["test"]
    found = {**figures, **{f"IoU {name}": iou for name, iou in figures["IoU"].items()}}
    for name, value in EXPECTED["figures"].items():
        assert found[name] == pytest.approx(value, abs=1e-3), name  # an even pixel may go another way elsewhere


def test_it_is_gone_on_from(first_version: Path, tmp_path: Path) -> None:
    counts = "data.dataset.counts={train:8,val:4,test:4}"  # the number may be another behind a whole epoch
    places = (f"hydra.run.dir={tmp_path}/run", f"paths.data_dir={tmp_path}")
    done = call("train.py", *AS_BEFORE, counts, *places, f"resume={first_version}", "trainer.max_epochs=13").check()
    assert f"goes on after epoch 12 from {first_version}" in done.out
    after, before = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt"), read_checkpoint(first_version)
    assert tuple(after.behind) == (97, 13)
    assert not all(torch.equal(value, before.weights[name]) for name, value in after.weights.items())
    assert json.loads((tmp_path / "run/results.json").read_text())["epochs"] == 13
