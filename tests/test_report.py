import json
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fastfcn.data.scenes import Scenes
from fastfcn.metrics import BoundaryIoU
from fastfcn.models.fastfcn import FastFCN
from fastfcn.report import tables
from fastfcn.report.costs import timed
from fastfcn.report.figure import choose, hard_pixels
from fastfcn.report.measuring import representatives
from fastfcn.types import IGNORE_INDEX, Batch, DataFacts, SegmentationOutput
from tests import fake_runs, scripts

FACTS = DataFacts("toy", ("ground", "wall", "wire"), ((0, 0, 0), (255, 0, 0), (0, 255, 0)), ("wire",))


def test_markdown_table_is_in_line() -> None:
    table = tables.markdown([tables.Column("run", ("a|b", "long name"), text=True), tables.Column("x", ("1", "22.5"))])
    assert table.splitlines() == [
        "| run       |    x |",
        "| --------- | ---: |",
        "| a\\|b      |    1 |",
        "| long name | 22.5 |",
    ]


def test_hard_pixels_are_thin_or_near_another_class() -> None:
    mask = torch.zeros(1, 40, 60, dtype=torch.long)
    mask[:, :, 30:] = 1
    mask[:, 5, 8] = 2  # a thin class
    mask[:, 30:, :10] = IGNORE_INDEX
    hard = hard_pixels(mask, torch.tensor([2]))[0]
    distance = max(1, round(BoundaryIoU(3).dilation_ratio * (40**2 + 60**2) ** 0.5))
    expected = torch.zeros(40, 60, dtype=torch.bool)
    for row in range(40):
        for column in range(60):
            label = mask[0, row, column]
            window = mask[
                0, max(0, row - distance) : row + distance + 1, max(0, column - distance) : column + distance + 1
            ]
            expected[row, column] = label != IGNORE_INDEX and (label == 2 or bool((window != label).any()))
    assert torch.equal(hard, expected)
    assert hard.any()
    assert not hard.all()
    # all of a picture of one thin class is hard, though it has no contour
    assert hard_pixels(torch.full((1, 8, 8), 2), torch.tensor([2])).all()


class Answers(nn.Module):
    """Predicts class 0 but on images whose first pixel says otherwise."""

    def __init__(self, wrong: Sequence[int]) -> None:
        super().__init__()
        self.wrong = wrong
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, image: Tensor) -> SegmentationOutput:
        logits = torch.zeros(len(image), 3, *image.shape[-2:])
        for index, number in enumerate(image[:, 0, 0, 0].int().tolist()):
            logits[index, 1 if number in self.wrong else 0] = 1.0
        return SegmentationOutput(logits)


def toy_batches(count: int) -> list[Batch]:
    """Batches of two images; the first pixel is the image's number. A wire crosses the ground."""
    mask = torch.zeros(2, 16, 16, dtype=torch.long)
    mask[:, 8] = 2
    images = [torch.full((3, 16, 16), float(number)) for number in range(count)]
    return [
        {"image": torch.stack(images[i : i + 2]), "mask": mask, "name": [f"image{i}", f"image{i + 1}"]}
        for i in range(0, count, 2)
    ]


def test_chosen_images_tell_the_models_apart() -> None:
    # Both are right on 0; they differ on 1 and 4; both are wrong on 2.
    models = cast("list[FastFCN]", [Answers([1, 2]), Answers([2, 4])])
    chosen, seen = choose(models, toy_batches(6), facts=FACTS, count=2, candidates=6)
    assert seen == 6
    assert [choice.name for choice in chosen] == ["image1", "image4"]
    first, second = chosen[0].hard_errors
    assert first == 1.0
    assert second == pytest.approx(1 / 3)  # the wire itself, of the three hard lines
    assert (chosen[0].example.predictions[0] == 1).all()
    assert (chosen[0].example.predictions[1] == 0).all()
    # The last candidate is the fourth image.
    chosen, seen = choose(models, toy_batches(6), facts=FACTS, count=2, candidates=3)
    assert seen == 3
    assert [choice.name for choice in chosen] == ["image1", "image0"]
    # A single model: where it is wrong most.
    chosen, _ = choose(models[:1], toy_batches(6), facts=FACTS, count=2, candidates=6)
    assert [choice.name for choice in chosen] == ["image1", "image2"]


class Sleeper(nn.Module):
    """Takes a hundredth of a second."""

    def forward(self, image: Tensor) -> Tensor:
        time.sleep(0.01)
        return image


def test_slow_models_are_timed_in_fewer_rounds() -> None:
    models = cast("dict[str, FastFCN]", {"a": Sleeper(), "b": Sleeper()})
    image = torch.zeros(1, 3, 8, 8)
    times, unmeasured = timed(models, image, warmup=3, repeats=6, seconds=60)
    assert (times["a"].repeats, times["b"].repeats, unmeasured) == (6, 6, 3)
    times, unmeasured = timed(models, image, warmup=3, repeats=1000, seconds=0.1)
    assert 3 <= times["a"].repeats == times["b"].repeats <= 5
    assert unmeasured == 2
    assert timed(models, image, warmup=3, repeats=1000, seconds=0)[0]["a"].repeats == 3
    times, unmeasured = timed(models, image, warmup=0, repeats=5, seconds=0)  # nothing to judge by
    assert (times["b"].repeats, unmeasured) == (5, 0)


def test_one_model_stands_for_each_row() -> None:
    rows = [fake_runs.row("none", [0.1, 0.2, 0.3]), fake_runs.row("fpn", [0.1]), fake_runs.row("jpu", [0.1, 0.2])]

    def with_checkpoints(index: int, seeds: Sequence[int]) -> None:
        runs = (run._replace(checkpoint=Path("x") if run.seed in seeds else None) for run in rows[index].runs)
        rows[index] = rows[index]._replace(runs=tuple(runs))

    assert representatives(rows) == [None, None, None]
    with_checkpoints(0, [0, 1, 2])
    with_checkpoints(2, [1])
    assert [run and run.seed for run in representatives(rows)] == [1, None, 1]  # the seed that most have
    with_checkpoints(1, [0])
    with_checkpoints(2, [0, 1])
    assert [run and run.seed for run in representatives(rows)] == [0, 0, 0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny trainings; the first is there a second time as another seed, and copied; and one broke off."""
    root = tmp_path_factory.mktemp("report")
    tiny = [override for override in scripts.TINY if not override.startswith("upsample.")]
    for upsample in ("bilinear", "none"):
        scripts.call(
            "train.py", *tiny, f"upsample={upsample}", f"paths.data_dir={root / 'data'}",
            f"hydra.run.dir={root / 'runs' / upsample}",
        ).check()  # fmt: skip
    runs = root / "runs"
    shutil.copytree(runs / "none", runs / "deeper" / "copied")
    shutil.copytree(runs / "none", runs / "deeper" / "seed1")
    config = runs / "deeper" / "seed1" / "config.yaml"
    config.write_text(re.sub(r"^seed: 0$", "seed: 1", config.read_text(), flags=re.MULTILINE))
    fake_runs.begin_run(runs / "jpu", "jpu")
    return root


def test_report_of_trained_runs(trained: Path) -> None:
    runs, quick = trained / "runs", ("latency.warmup=0", "latency.repeats=2", "figure.images=2", "device=cpu")
    done = scripts.call("report.py", f"runs={runs}", f"out={trained / 'out'}", *quick).check()
    text = (trained / "out" / "report.md").read_text()
    for file in ("report.md", "report.csv", "report_rows.csv", "report.tex", "figure6.png", "scatter.png"):
        assert str(trained / "out" / file) in done.out
        assert (trained / "out" / file).is_file()
    assert f"Left out (unfinished): {runs / 'jpu'} has no results.json" in text
    assert f"{runs / 'deeper' / 'copied'} is the same run copied" in text or f"{runs / 'none'} is the same run" in text
    assert "Left out" in done.out

    rows = [line for line in text.splitlines() if re.match(r"\| (none|bilinear) .* encoding ", line)]
    none, bilinear = ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows)
    assert none[:5] == ["none", "encoding", "8", "none", "2"]
    assert bilinear[:5] == ["bilinear", "encoding", "32", "bilinear", "1"]
    test = {name: json.loads((runs / name / "results.json").read_text())["test"] for name in ("none", "bilinear")}
    assert none[6] == f"{100 * test['none']['mIoU']:.2f} ± 0.00"  # the other seed is the same training
    difference = 100 * (test["bilinear"]["mIoU"] - test["none"]["mIoU"])
    assert bilinear[6] == f"{100 * test['bilinear']['mIoU']:.2f} ({difference:+.2f})"
    # Bilinear learns nothing, so the parameters are the same; a coarser map takes fewer operations.
    assert bilinear[9].endswith("(×1.00)")
    ratio = re.search(r"\(×(.+)\)", bilinear[10])
    assert ratio is not None
    assert 0 < float(ratio[1]) < 1

    assert "64 x 64 pixels" in text
    assert "median of 2 predictions" in text
    assert all(name in text for name in Scenes.facts.class_names)
    assert "The runs differ in more than the upsampler" not in text
    picture = np.asarray(Image.open(trained / "out" / "figure6.png"))
    # input, truth, and one prediction per row: not per run
    assert 4 * 256 < picture.shape[1] < 5 * 256
    assert not (trained / "out" / ".hydra").exists()


def test_report_without_models(trained: Path) -> None:
    """Neither timed nor pictured: no checkpoint is opened, and what needs none is there."""
    quick = ("latency=null", "figure=null")
    scripts.call("report.py", f"runs={trained / 'runs'}", f"out={trained / 'light'}", *quick).check()
    text = (trained / "light" / "report.md").read_text()
    assert not list((trained / "light").glob("*.png"))  # there are no speeds to draw either
    assert "GFLOPs" not in text
    assert "± 0.00" in text
    assert "## Missing rows" in text


def test_data_that_are_gone_are_told(trained: Path) -> None:
    """Checkpoints of a data set that is not on this machine: the figures are there, and why the rest is not."""
    run = shutil.copytree(trained / "runs" / "none", trained / "strange" / "none")
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    content["fastfcn"]["data"]["split"] = "val"
    content["fastfcn"]["data"]["dataset"] = {
        "_target_": "fastfcn.data.pascal_context.PascalContext", "_partial_": True, "root": "lost/context",
    }  # fmt: skip
    torch.save(content, run / "checkpoints" / "best.ckpt")
    (run / "checkpoints" / "best.ckpt.sha256").unlink()  # of the file before
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps({**results, "best_checkpoint": "moved/checkpoints/best.ckpt"}))
    done = scripts.call("report.py", f"runs={trained / 'strange'}", "device=cpu").check()
    assert "Models could neither be counted nor pictured here" in done.out
    told = re.search(
        r"^- Models could neither be .*$", (trained / "strange" / "report.md").read_text(), flags=re.MULTILINE
    )
    assert told is not None
    assert "lost/context" in told[0]


def test_mistakes_in_one_sentence(trained: Path, tmp_path: Path) -> None:
    assert "there is no run in it" in scripts.call("report.py", f"runs={tmp_path}").sentence()
    assert "runs" in scripts.call("report.py").sentence()
    one = trained / "runs" / "none"
    assert "out=" in scripts.call("report.py", f"runs=[{one}]").sentence()
    assert "candidates=1" in scripts.call("report.py", f"runs={one}", "figure.candidates=1").sentence()
    assert "device=tpu9" in scripts.call("report.py", f"runs={one}", "device=tpu9").sentence()
    assert "repeats=0" in scripts.call("report.py", f"runs={one}", "latency.repeats=0").sentence()
    assert "latency.measure=maybe" in scripts.call("report.py", f"runs={one}", "latency.measure=maybe").sentence()
    assert not (one / "report.md").exists()
