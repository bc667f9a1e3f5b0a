import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fastfcn.data.scenes import Scenes
from fastfcn.errors import UserError
from fastfcn.metrics import BoundaryIoU
from fastfcn.models.fastfcn import FastFCN
from fastfcn.report import read_runs, tables
from fastfcn.report.comparison import check_comparable, differing_settings, references
from fastfcn.report.contents import Report, Timing
from fastfcn.report.costs import Costs
from fastfcn.report.figure import choose, hard_pixels
from fastfcn.report.findings import brackets, findings
from fastfcn.report.origin import origin
from fastfcn.report.runs import Run, labels
from fastfcn.timing import Latency
from fastfcn.types import IGNORE_INDEX, Batch, DataFacts, SegmentationOutput
from tests import scripts

FACTS = DataFacts("toy", ("ground", "wall", "wire"), ((0, 0, 0), (255, 0, 0), (0, 255, 0)), ("wire",))


def config(**changes: Any) -> dict[str, Any]:
    """A resolved configuration of a run, as far as the report looks at it."""
    content: dict[str, Any] = {
        "seed": 0,
        "model": {"width": 1},
        "backbone": {"depth": 18, "output_stride": 32},
        "head": {"kernel_size": 3},
        "data": {
            "dataset": {"_target_": "x", "seed": 0, "counts": {"train": 8, "test": 4}, "cache_dir": "a"},
            "batch_size": 4,
            "crop_size": 64,
            "whole_eval": False,
        },
        "trainer": {"max_epochs": 8, "default_root_dir": "here"},
    }
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = content
        for parent in parents:
            node = node[parent]
        node[last] = value
    return content


def write_run(
    directory: Path, upsample: str, *, seed: int = 0, head: str = "encoding", backbone: str = "resnet18", **changes: Any
) -> Path:
    """A run directory as train.py leaves it, with an empty checkpoint."""
    (directory / "checkpoints").mkdir(parents=True)
    (directory / "checkpoints" / "best.ckpt").touch()
    results = {
        "choices": {"head": head, "upsample": upsample, "backbone": backbone, "data": "scenes"},
        "best_checkpoint": str(directory / "checkpoints" / "best.ckpt"),
        "test": {"pixAcc": 0.5, "mIoU": 0.25, "IoU": {"ground": 0.5, "wall": None}},
    }
    (directory / "results.json").write_text(json.dumps(results))
    (directory / "config.yaml").write_text(json.dumps(config(seed=seed, **changes)))  # JSON is YAML
    (directory / "overrides.yaml").write_text(f'- "upsample={upsample}"\n')
    return directory


def run(upsample: str, *, seed: int = 0, head: str = "encoding", backbone: str = "resnet18", **changes: Any) -> Run:
    place = Path(f"runs/{upsample}-{seed}")
    return Run(place, head, upsample, backbone, seed, {"test": {}}, place, config(**changes), [], {})


def test_runs_come_in_the_papers_order(tmp_path: Path) -> None:
    for index, (backbone, upsample, seed) in enumerate(
        [
            ("resnet101", "none", 0), ("resnet50", "jpu_x", 0), ("resnet50", "mine", 0), ("resnet50", "jpu", 1),
            ("resnet50", "fpn", 0), ("resnet50", "none", 0), ("resnet50", "bilinear", 0), ("resnet50", "jpu", 0),
        ]
    ):  # fmt: skip
        write_run(tmp_path / str(index), upsample, seed=seed, backbone=backbone)
    (tmp_path / "pictures").mkdir()  # no run, and not worth a word
    runs, incomplete = read_runs(tmp_path)
    assert not incomplete
    assert [(r.backbone, r.upsample, r.seed) for r in runs] == [
        ("resnet50", "none", 0), ("resnet50", "bilinear", 0), ("resnet50", "fpn", 0), ("resnet50", "jpu", 0),
        ("resnet50", "jpu", 1), ("resnet50", "jpu_x", 0), ("resnet50", "mine", 0), ("resnet101", "none", 0),
    ]  # fmt: skip
    assert runs[0].overrides == ["upsample=none"]


def test_a_list_of_runs_and_a_moved_run(tmp_path: Path) -> None:
    write_run(tmp_path / "elsewhere" / "a", "jpu").rename(tmp_path / "a")
    write_run(tmp_path / "b", "none")
    runs, _ = read_runs([tmp_path / "a", tmp_path / "b", tmp_path / "b"])
    assert [r.upsample for r in runs] == ["none", "jpu"]
    assert runs[1].checkpoint == tmp_path / "a" / "checkpoints" / "best.ckpt"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda d: (d / "results.json").unlink(), "no results.json"),
        (lambda d: (d / "results.json").write_text("{"), "damaged results.json"),
        (lambda d: (d / "results.json").write_text('{"checkpoint": "x", "test": {}}'), "no choices and no best_check"),
        (lambda d: (d / "checkpoints" / "best.ckpt").unlink(), "lost its checkpoint"),
        (lambda d: (d / "config.yaml").unlink(), "no config.yaml"),
        (
            lambda d: (d / "results.json").write_text('{"choices": {}, "test": null, "best_checkpoint": "x"}'),
            "not tested",
        ),
        (
            lambda d: (d / "results.json").write_text('{"choices": {}, "test": {}, "best_checkpoint": null}'),
            "no best checkpoint",
        ),
    ],
)
def test_incomplete_runs_are_left_out_with_the_reason(tmp_path: Path, damage: Any, reason: str) -> None:
    damage(write_run(tmp_path / "bad", "jpu"))
    with pytest.raises(UserError, match=f"no run can be reported on: .*bad .*{reason}"):
        read_runs(tmp_path)
    write_run(tmp_path / "good", "none")
    runs, incomplete = read_runs(tmp_path)
    assert [r.directory.name for r in runs] == ["good"]
    assert [i.directory.name for i in incomplete] == ["bad"]
    assert reason in incomplete[0].reason


def test_no_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no run in it"):
        read_runs(tmp_path)
    with pytest.raises(UserError, match="there is no run in it"):
        read_runs([])
    with pytest.raises(UserError, match="there is no run in it"):
        read_runs(None)
    with pytest.raises(UserError, match="no such directory"):
        read_runs(tmp_path / "missing")


def test_labels_tell_runs_apart() -> None:
    assert labels([run("none"), run("jpu")]) == ["none", "jpu"]
    assert labels([run("jpu"), run("jpu", seed=1)]) == ["jpu s0", "jpu s1"]
    assert labels([run("none", head="psp"), run("none")]) == ["psp none", "encoding none"]
    twins = [run("jpu")._replace(directory=Path(place)) for place in ("a/x", "a/y", "b/y")]
    assert labels(twins[:2]) == ["jpu (x)", "jpu (y)"]
    assert labels(twins) == ["jpu (a/x)", "jpu (a/y)", "jpu (b/y)"]


def test_reference_is_none_of_the_same_head_and_seed() -> None:
    runs = [run("none"), run("none", seed=1), run("jpu"), run("jpu", seed=1), run("jpu", seed=2)]
    assert references(runs) == [0, 1, 0, 1, 0]  # a reference is compared with itself
    assert references([run("bilinear"), run("jpu"), run("none", head="psp"), run("jpu", head="psp")]) == [0, 0, 2, 2]


def test_runs_tested_on_different_images_are_refused() -> None:
    same = [run("none"), run("jpu", data__dataset__cache_dir="b", data__batch_size=2)]
    check_comparable(same)
    check_comparable([run("none"), run("jpu", data__dataset__counts={"train": 16, "test": 4})])
    changes: dict[str, Any] = {
        "data__dataset__seed": 1,
        "data__dataset__counts": {"train": 8, "test": 2},
        "data__dataset___target_": "y",
        "data__crop_size": 32,
        "data__whole_eval": True,
        "trainer__limit_test_batches": 2,
    }
    for key, value in changes.items():
        with pytest.raises(UserError, match="were tested on different images"):
            check_comparable([*same, run("fpn", **{key: value})])


def test_other_differences_between_the_runs_are_told() -> None:
    runs = [run("none", backbone__output_stride=8), run("jpu", head__kernel_size=1, trainer__default_root_dir="there")]
    assert differing_settings(runs) == {}
    other = run("fpn", seed=1, trainer__max_epochs=4)
    assert differing_settings([*runs, other]) == {"trainer.max_epochs": (8, 8, 4)}


def test_figures_relative_to_the_reference() -> None:
    runs = [
        run("none")._replace(results={"test": {"pixAcc": 0.5, "mIoU": 0.25, "thin_IoU": None}}),
        run("jpu")._replace(results={"test": {"pixAcc": 0.4, "mIoU": 0.26, "thin_IoU": 0.1}}),
    ]
    quality = {column.heading: column.cells for column in tables.quality(runs, [0, 0])}
    assert quality == {
        "pixAcc": ("50.00", "40.00 (-10.00)"), "mIoU": ("25.00", "26.00 (+1.00)"), "thin-class IoU": ("-", "10.00"),
    }  # fmt: skip
    costs = [
        Costs(2_000_000, 8.0, Latency(10.0, 9.0, 12.0, 5), 8),
        Costs(3_000_000, 2.0, Latency(5.0, 4.0, 6.0, 5), 32),
    ]
    expense = {column.heading: column.cells for column in tables.expense(costs, [0, 0])}
    assert expense == {
        "parameters (M)": ("2.00", "3.00 (×1.50)"),  # noqa: RUF001
        "GFLOPs": ("8.00", "2.00 (×0.25)"),  # noqa: RUF001
        "latency (ms)": ("10.00", "5.00 (×0.50)"),  # noqa: RUF001
        "p10 to p90 (ms)": ("9.00 to 12.00", "4.00 to 6.00"),
    }


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


def report_of(runs: Sequence[Run], *, scores: Sequence[float], milliseconds: Sequence[float]) -> Report:
    """A report of runs with these mIoU and latencies, and no picture."""
    return Report(
        runs=[
            r._replace(results={"test": {"pixAcc": 0.5, "mIoU": score, "IoU": {}}, "train_seconds": 125.2})
            for r, score in zip(runs, scores, strict=True)
        ],
        names=labels(runs),
        reference=references(runs),
        costs=[Costs(1_000_000, 1.0, Latency(t, t, t, 5), 32) for t in milliseconds],
        chosen=[],
        candidates=4,
        facts=FACTS,
        tested=4,
        size=(64, 64),
        timing=Timing(1, 5, torch.device("cpu"), False),
        incomplete=[],
        out=Path("out"),
        picture="figure6.png",
    )


def test_sentences_say_what_jpu_adds_and_costs() -> None:
    report = report_of([run("none"), run("bilinear"), run("jpu")], scores=[0.3, 0.2, 0.4], milliseconds=[20, 4, 10])
    best, against_none, against_bilinear, seeds = findings(report)
    assert "mIoU `jpu` (40.00)" in best
    assert "latency `bilinear` (4.00 ms)" in best
    assert against_none.startswith("`jpu` against `none`: pixAcc +0.00, mIoU +10.00 points")
    assert against_none.endswith("×0.50 the latency.")  # noqa: RUF001
    assert "mIoU +20.00 points" in against_bilinear
    assert against_bilinear.endswith("×2.50 the latency.")  # noqa: RUF001
    assert "one seed" in seeds
    assert "`upsample=none` of the same head and backbone." in brackets(report)


def test_sentences_keep_heads_and_seeds_apart() -> None:
    runs = [run("none"), run("jpu"), run("jpu", seed=1), run("bilinear", head="psp"), run("jpu", head="psp")]
    report = report_of(runs, scores=[0.3, 0.4, 0.5, 0.1, 0.2], milliseconds=[1, 1, 1, 1, 1])
    lines = findings(report)
    assert [line.split(":")[0] for line in lines] == [
        "encoding with resnet18",
        "`encoding jpu s0` against `encoding none s0`",
        "psp with resnet18",
        "`psp jpu s0` against `psp bilinear s0`",
    ]
    assert "where there is none, relative to the first row of this head and backbone: `psp bilinear s0`" in brackets(
        report
    )
    alone = report_of(runs[3:], scores=[0.1, 0.2], milliseconds=[1, 1])
    assert "relative to the first row, `bilinear`: there is no run with `upsample=none`" in brackets(alone)


def test_latencies_that_scatter_are_called_rough() -> None:
    report = report_of([run("none"), run("fpn")], scores=[0.3, 0.4], milliseconds=[1, 1])
    assert not any("Rough" in line for line in findings(report))
    report.costs[1:] = [report.costs[1]._replace(latency=Latency(1.5, 1.0, 1.6, 5))]  # type: ignore[index]
    assert any(line.startswith("Rough latencies: `fpn`,") for line in findings(report))


def test_origin_tells_what_is_the_same_once() -> None:
    common = {
        "command": "python src/train.py -m sweep=demo",
        "python": "3.11",
        "packages": {"torch": "2", "wandb": None},
    }
    commits = [{"git": {"commit": letter * 40, "dirty": letter == "b"}} for letter in "ab"]
    runs = [
        run(name)._replace(provenance={**common, **commit}, overrides=[f"upsample={name}"])
        for name, commit in zip(("none", "jpu"), commits, strict=True)
    ]
    report = report_of(runs, scores=[0.3, 0.4], milliseconds=[1, 1])
    text = "\n".join(origin(report.runs, report.names, out=Path("out")))
    assert text.count("sweep=demo") == 1
    assert "none  upsample=none\njpu   upsample=jpu" in text
    assert "Versions: Python 3.11, torch 2." in text
    assert "Code of `none`: commit `aaaaaaaaaaaa`, clean." in text
    assert "Code of `jpu`: commit `bbbbbbbbbbbb`, dirty" in text
    assert "Hardware: not recorded." in text
    assert "2 min 05 s" in text


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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny trainings of one sweep, and one that broke off."""
    root = tmp_path_factory.mktemp("report")
    tiny = [override for override in scripts.TINY if not override.startswith("upsample.")]
    for upsample in ("bilinear", "none"):
        scripts.call(
            "train.py", *tiny, f"upsample={upsample}", f"paths.data_dir={root / 'data'}",
            f"hydra.run.dir={root / 'runs' / upsample}",
        ).check()  # fmt: skip
    (root / "runs" / "jpu" / ".hydra").mkdir(parents=True)
    return root


def test_report_of_trained_runs(trained: Path) -> None:
    runs, quick = trained / "runs", ("latency.warmup=0", "latency.repeats=2", "figure.images=2", "device=cpu")
    done = scripts.call("report.py", f"runs={runs}", f"out={trained / 'out'}", *quick).check()
    text = (trained / "out" / "report.md").read_text()
    assert str(trained / "out" / "report.md") in done.out
    assert str(trained / "out" / "figure6.png") in done.out
    assert f"Left out: {runs / 'jpu'} has no results.json" in text
    assert "Left out" in done.out

    rows = [line for line in text.splitlines() if re.match(r"\| (none|bilinear) .* encoding ", line)]
    none, bilinear = ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows)
    assert none[:4] == ["none", "encoding", "8", "none"]
    assert bilinear[:4] == ["bilinear", "encoding", "32", "bilinear"]
    test = {name: json.loads((runs / name / "results.json").read_text())["test"] for name in ("none", "bilinear")}
    assert none[5] == f"{100 * test['none']['mIoU']:.2f}"
    difference = 100 * (test["bilinear"]["mIoU"] - test["none"]["mIoU"])
    assert bilinear[5] == f"{100 * test['bilinear']['mIoU']:.2f} ({difference:+.2f})"
    # Bilinear learns nothing, so the parameters are the same; a coarser map takes fewer operations.
    assert bilinear[8].endswith("(×1.00)")  # noqa: RUF001
    ratio = re.search(r"\(×(.+)\)", bilinear[9])  # noqa: RUF001
    assert ratio is not None
    assert 0 < float(ratio[1]) < 1

    assert "64 x 64 pixels" in text
    assert "median of 2 predictions" in text
    assert "upsample=bilinear" in text
    assert all(name in text for name in Scenes.facts.class_names)
    assert "The runs differ in more than the upsampler" not in text
    picture = np.asarray(Image.open(trained / "out" / "figure6.png"))
    assert picture.shape[1] > 4 * 256  # input, truth, two predictions
    assert not (trained / "out" / ".hydra").exists()


def test_mistakes_in_one_sentence(trained: Path, tmp_path: Path) -> None:
    assert "there is no run in it" in scripts.call("report.py", f"runs={tmp_path}").sentence()
    assert "runs" in scripts.call("report.py").sentence()
    one = trained / "runs" / "none"
    assert "out=" in scripts.call("report.py", f"runs=[{one}]").sentence()
    assert "candidates=1" in scripts.call("report.py", f"runs={one}", "figure.candidates=1").sentence()
    assert "device=tpu9" in scripts.call("report.py", f"runs={one}", "device=tpu9").sentence()
    assert "repeats=0" in scripts.call("report.py", f"runs={one}", "latency.repeats=0").sentence()
