"""Means, intervals, differences, speeds, hours and verdicts: each by hand or by another library."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fastfcn.report import beside, claims, paper, tables
from fastfcn.report.contents import Measured, Part, Timing
from fastfcn.report.costs import Costs
from fastfcn.report.estimates import Estimate, difference, estimate
from fastfcn.report.findings import brackets, findings
from fastfcn.report.rows import Row, Section, labels, references, run_labels
from fastfcn.report.speed import Speed, comparable, expense, hours, of_runs, processes, told_by_runs
from fastfcn.timing import Latency
from fastfcn.types import DataFacts
from tests.fake_runs import CPU, GPU, provenance, row, run, speed

FACTS = DataFacts("toy", ("ground", "wall"), ((0, 0, 0), (255, 0, 0)))


def part_of(
    rows: Sequence[Row], *, fps: Sequence[float] = (), data: str = "scenes", protocol: str | None = "center_crop"
) -> Part:
    """A part of rows that were measured with these frames per second, each time scattering by a twentieth."""
    names = labels(rows)
    times = [(1000 / each, 950 / each, 1050 / each) for each in fps]
    speeds: list[Speed | None] = [Speed(1000 / t[0], t, None, "here") for t in times]
    costs = [Costs(1_000_000, 1.0, Latency(*t, 5)) for t in times]
    measured = Measured(costs, FACTS, 4, (64, 64), Timing(1, 5, None, False), None) if times else None  # type: ignore[arg-type]
    return Part(
        Section(data, protocol, list(rows)),
        names,
        run_labels(rows, names),
        references(rows),
        speeds or [None] * len(rows),
        measured,
    )


@pytest.mark.parametrize("size", [2, 3, 5, 30])
def test_intervals_are_scipys(size: int) -> None:
    rng = np.random.default_rng(size)
    ours, theirs = rng.normal(0.5, 0.1, size), rng.normal(0.4, 0.1, size)
    found = estimate(list(ours))
    low, high = stats.t.interval(0.95, size - 1, loc=ours.mean(), scale=stats.sem(ours))
    assert found.n == size
    assert found.mean == pytest.approx(ours.mean())
    assert (found.low, found.high) == pytest.approx((low, high))
    # seeds of another order, and one that the other has not
    paired = difference({7: 9.9, **dict(enumerate(ours))}, dict(reversed(list(enumerate(theirs)))))
    assert paired is not None
    assert paired.paired
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert (paired.estimate.low, paired.estimate.high) == pytest.approx((expected.low, expected.high))
    assert paired.estimate.excludes_zero == (expected.low > 0 or expected.high < 0)


def test_without_two_values_there_is_no_interval() -> None:
    assert estimate([0.5]) == Estimate(0.5, None, 1)
    assert estimate([0.5]).excludes_zero is None
    one = difference({0: 0.5, 1: 0.7}, {1: 0.4})
    assert one is not None
    assert one.paired
    assert one.estimate.mean == pytest.approx(0.3)
    assert one.estimate[1:] == (None, 1)
    none = difference({0: 0.5, 1: 0.7}, {2: 0.4})
    assert none is not None
    assert not none.paired
    assert none.estimate.mean == pytest.approx(0.2)
    assert none.estimate.half is None
    assert difference({}, {0: 1.0}) is None


def test_the_papers_tables_are_its_own() -> None:
    """By statements of its text: more than 1% above FPN and EncNet, twice and thrice as fast, 1.64% above EncNet."""
    encoding = {upsample: quality.miou for (head, upsample), quality in paper.TABLE_1.items() if head == "encoding"}
    assert encoding["jpu"] - max(encoding["fpn"], encoding["none"]) > 1
    for head in ("encoding", "aspp", "psp"):
        assert paper.TABLE_1[head, "jpu"].miou > paper.TABLE_1[head, "none"].miou
        for depth in (50, 101):
            assert paper.TABLE_2[depth, head, "jpu"] > paper.TABLE_2[depth, head, "none"]
    assert paper.TABLE_2[50, "encoding", "jpu"] / paper.TABLE_2[50, "encoding", "none"] == pytest.approx(2, abs=0.01)
    assert paper.TABLE_2[101, "encoding", "jpu"] / paper.TABLE_2[101, "encoding", "none"] > 3
    assert set(paper.TABLE_1) == {key[1:] for key in paper.TABLE_2}
    ours, encnet = paper.TABLE_4["Ours", "ResNet-50"], paper.TABLE_4["EncNet", "ResNet-50"]
    assert ours.miou - encnet.miou == pytest.approx(1.64)
    for depth, miou in paper.TABLE_3_ON_59.items():
        assert round(miou * 59 / 60, 1) == pytest.approx(paper.TABLE_3["EncNet+JPU", f"ResNet-{depth}"], abs=0.05)
    assert (len(paper.TABLE_1), len(paper.TABLE_2), len(paper.TABLE_3), len(paper.TABLE_4)) == (8, 16, 13, 11)


CONTEXT: dict[str, Any] = {"data": "pascal_context", "data__dataset__classes": 59}


@pytest.mark.parametrize(
    ("keywords", "protocol", "comparable", "miou"),
    [
        ({**CONTEXT, "backbone": "resnet50"}, "slide", True, 51.05),
        ({**CONTEXT, "backbone": "resnet50s"}, "slide", True, 51.05),
        ({**CONTEXT, "backbone": "resnet18"}, "slide", False, 51.05),
        ({**CONTEXT, "backbone": "resnet101"}, "slide", False, 51.05),
        ({**CONTEXT, "backbone": "resnet50"}, "center_crop", False, 51.05),
        ({**CONTEXT, "backbone": "resnet50", "trainer__limit_test_batches": 2}, "slide", False, 51.05),
        ({**CONTEXT, "backbone": "resnet50", "data__dataset__classes": 60}, "slide", False, 51.05),
        ({**CONTEXT, "backbone": "resnet101"}, "multiscale", True, 54.03),
        ({**CONTEXT, "backbone": "resnet101", "data__dataset__classes": 60}, "multiscale", True, 53.1),
        ({"data": "ade20k", "backbone": "resnet50"}, "multiscale", True, 42.75),
        ({"data": "ade20k", "backbone": "resnet101"}, "slide", False, 44.34),
        ({"data": "scenes", "backbone": "resnet18"}, "whole", False, 51.05),
    ],
)
def test_only_like_is_called_comparable(keywords: dict[str, Any], protocol: str, comparable: bool, miou: float) -> None:
    rows = [row("jpu", [0.5], made={"protocol": protocol}, **keywords)]
    found = paper.beside(Section(keywords["data"], protocol, rows))
    assert found.comparable == comparable
    assert [figure and figure.miou for figure in found.figures] == [miou]
    table = beside.quality(part_of(rows, data=keywords["data"], protocol=protocol))
    assert table is not None
    assert table[0].startswith("Beside the paper" if comparable else "For scale, not comparable")
    assert any(column.heading == "paper mIoU" for column in table[1]) == comparable


def test_of_several_backbones_the_papers_alone_is_comparable() -> None:
    rows = [row("jpu", [0.5], made={"protocol": "slide"}, backbone=b, **CONTEXT) for b in ("resnet18", "resnet50")]
    found = paper.beside(Section("pascal_context", "slide", rows))
    assert found.comparable
    assert found.figures == [None, paper.TABLE_1["encoding", "jpu"]]
    # and what the paper has not at all is not there
    assert beside.quality(part_of([row("mine", [0.5])])) is None


def test_figures_relative_to_the_reference() -> None:
    rows = [row("none", [0.25]), row("jpu", [0.26])]
    quality = {column.heading: column.cells for column in tables.quality(rows, [0, 0])}
    assert quality["pixAcc"] == ("50.00", "50.00 (+0.00)")
    assert quality["mIoU"] == ("25.00", "26.00 (+1.00)")
    assert "thin-class IoU" not in quality
    several = [row("none", [0.25, 0.27]), row("jpu", [0.26, 0.30])]
    half = 100 * float(stats.t.ppf(0.975, 1)) * float(stats.sem([0.25, 0.27]))
    quality = {column.heading: column.cells for column in tables.quality(several, [0, 0])}
    assert quality["mIoU"] == (f"26.00 ± {half:.2f}", f"28.00 ± {2 * half:.2f} (+2.00)")
    costs = [
        Costs(2_000_000, 8.0, Latency(10.0, 9.0, 12.0, 5)),
        Costs(3_000_000, 2.0, Latency(5.0, 4.0, 6.0, 5)),
        None,
    ]
    expense = {column.heading: column.cells for column in tables.expense(costs, [0, 0, 0])}
    assert expense == {
        "parameters (M)": ("2.00", "3.00 (×1.50)", "-"),
        "GFLOPs": ("8.00", "2.00 (×0.25)", "-"),
        "latency (ms)": ("10.00", "5.00 (×0.50)", "-"),
        "p10 to p90 (ms)": ("9.00 to 12.00", "4.00 to 6.00", "-"),
    }


def test_differences_say_whether_they_leave_zero_out() -> None:
    rows = [row("none", [0.20, 0.22, 0.21]), row("fpn", [0.21, 0.21, 0.21]), row("jpu", [0.30, 0.33, 0.31])]
    rows.append(row("jpu_x", [0.4]))
    columns = {c.heading: c.cells for c in tables.differences(rows, labels(rows), references(rows))}
    assert columns["row"] == ("fpn", "jpu", "jpu_x")
    assert columns["against"] == ("none", "none", "none")
    assert columns["seeds in common"] == ("3", "3", "1")
    assert columns["0 excluded"] == ("no", "yes", "no interval")
    expected = stats.ttest_rel([0.30, 0.33, 0.31], [0.20, 0.22, 0.21]).confidence_interval(0.95)
    assert columns["mIoU"][1] == f"+10.33 [{100 * expected.low:.2f}, {100 * expected.high:.2f}]"
    assert columns["mIoU"][2] == "+20.00"


def verdicts(rows: Sequence[Row], fps: Sequence[float] = ()) -> dict[str, str]:
    part = part_of(rows, fps=fps)
    return {claim.claim: str(claim) for claim in claims.claims(part.rows, part.names, part.speeds)}


def test_claims_are_judged_by_their_intervals() -> None:
    rows = [
        row("none", [0.20, 0.22, 0.21]), row("bilinear", [0.21, 0.20, 0.22]), row("fpn", [0.1, 0.11, 0.12]),
        row("jpu", [0.30, 0.33, 0.31]), row("none", [0.4, 0.5], head="psp"), row("jpu", [0.3], head="psp"),
    ]  # fmt: skip
    found = verdicts(rows)
    interval = stats.ttest_rel([0.30, 0.33, 0.31], [0.20, 0.22, 0.21]).confidence_interval(0.95)
    assert found["jpu >= none in mIoU under Encoding"] == (
        f"jpu >= none in mIoU under Encoding: +10.33 [{100 * interval.low:.2f}, {100 * interval.high:.2f}] points, "
        "3 seeds: holds"
    )
    assert found["none >= bilinear in mIoU under Encoding"].endswith(": not decided")
    assert found["fpn >= bilinear in mIoU under Encoding"].endswith(": does not hold")
    assert found["jpu >= none in mIoU under PSP"].endswith(
        "-10.00 points, one seed in common, no interval: not decided"
    )
    assert len(found) == 6


def test_claims_on_speed_are_judged_by_their_scatter() -> None:
    rows = [row("none", [0.2], backbone="resnet101"), row("jpu", [0.3], backbone="resnet101")]
    claim = "jpu faster than none under Encoding"
    assert verdicts(rows, [10, 30])[claim] == (
        f"{claim}: 3.00 times the FPS (paper, ResNet-101 on a Titan Xp: 3.05): holds"
    )
    assert verdicts(rows, [10, 10.5])[claim].endswith(": not decided")
    assert verdicts(rows, [30, 10])[claim].endswith(": does not hold")
    assert claim not in verdicts(rows)


def test_hours_are_those_of_what_the_training_ran_on() -> None:
    on_gpu = {"processes": 4, "device": GPU, "peak_memory_gib": 9.5}
    gpu = run("jpu", made=on_gpu, source=provenance(gpu=True))
    assert hours(gpu) == (2.0, None)  # half an hour on four
    cpu = run("jpu", made={"processes": 2, "device": CPU, "peak_memory_gib": None}, source=provenance(gpu=True))
    assert hours(cpu) == (None, 1.0)
    # older runs: by the configuration and what the machine had
    old = run("jpu", source=provenance(gpu=True), trainer__devices=2)
    assert (processes(old), hours(old)) == (2, (1.0, None))
    assert hours(run("jpu", source=provenance(gpu=True), trainer__accelerator="cpu")) == (None, 0.5)
    assert hours(run("jpu", made={"train_seconds": None})) == (None, None)
    assert hours(run("jpu", source={"started": "?"})) == (None, 0.5)
    mixed = Row("encoding", "jpu", "resnet18", (), (gpu, cpu._replace(seed=1)))
    assert expense(mixed) == (2.0, 1.0, 9.5, (GPU, CPU))
    columns = {c.heading: c.cells for c in beside.cost(part_of([mixed, row("none", [0.1])]))}
    assert columns["GPU hours"] == ("2.00", "-")
    assert columns["CPU process hours"] == ("1.00", "0.50")
    assert "GPU hours" not in {c.heading for c in beside.cost(part_of([row("none", [0.1])]))}
    assert "2.00 GPU hours and 1.50 CPU process hours" in beside.cost_notes(part_of([mixed, row("none", [0.1])]))[0]


def test_speeds_stand_beside_table_2() -> None:
    measured = {"none": 20.0, "fpn": 44.0, "jpu": 50.0}
    rows = [row(u, [0.1], backbone="resnet50s", made={"speed": speed(fps)}) for u, fps in measured.items()]
    section = Section("scenes", None, rows)
    found = told_by_runs(section, [section])
    part = part_of(rows)._replace(section=section, speeds=found)
    columns = {c.heading: c.cells for c in beside.speed(part)}
    assert columns["FPS"] == ("20.00", "44.00", "50.00")
    assert columns["ratio"] == ("×1.00", "×2.20", "×2.50")
    assert columns["paper's FPS"] == ("18.77", "37.87", "37.56")
    assert columns["paper's ratio"] == ("×1.00", "×2.02", "×2.00")
    assert columns["peak memory (GiB)"] == ("1.50", "1.50", "1.50")
    notes = " ".join(beside.speed_notes(part))
    assert f"{GPU}, 512 x 512 pixels, float32" in notes
    assert "for scale" not in notes
    # of several seeds the median, as far as measured alike
    seeds = [run("jpu", seed=s, made={"speed": speed(fps)}) for s, fps in enumerate((10.0, 20.0, 60.0))]
    assert (told := of_runs(Row("encoding", "jpu", "resnet18", (), tuple(seeds)))) is not None
    assert told.fps == 20
    # another device: said, and no ratio
    other = row("jpu", [0.1], backbone="resnet50s", made={"speed": speed(5, device=CPU, peak_memory_gib=None)})
    section = Section("scenes", None, [rows[0], other])
    part = part_of([rows[0], other])._replace(section=section, speeds=told_by_runs(section, [section]))
    columns = {c.heading: c.cells for c in beside.speed(part)}
    assert columns["ratio"] == ("×1.00", "-")
    assert columns["measured on"][1] == f"{CPU}, 8 threads, 512 x 512 pixels, float32"
    assert "not all rows were measured in the same way" in beside.speed_notes(part)[0]
    # the same device, with and without freed memory kept
    made = [{"speed": speed(5, device=CPU, peak_memory_gib=None, kept_heap=kept)} for kept in (False, True)]
    rows = [Row("encoding", "jpu", "resnet18", (), (run("jpu", made=seen),)) for seen in made]
    given, kept = (told for row in rows if (told := of_runs(row)) is not None)
    assert kept.where == f"{given.where}, freed memory kept"
    assert not comparable([given, kept])


def test_trained_rows_take_the_speed_of_runs_of_speed_alone() -> None:
    trained = Section("scenes", "whole", [row("none", [0.1]), row("jpu", [0.2])])
    alone = Section("scenes", None, [row("jpu", [0.0], made={"speed": speed(33)})])
    none, jpu = told_by_runs(trained, [trained, alone])
    assert none is None
    assert jpu is not None
    assert jpu.fps == pytest.approx(33)


def test_sentences_say_what_jpu_adds_and_costs() -> None:
    part = part_of([row("none", [0.3]), row("bilinear", [0.2]), row("jpu", [0.4])], fps=[50, 250, 100])
    best, against_none, against_bilinear, seeds = findings(part)
    assert "mIoU `jpu` (40.00)" in best
    assert "latency `bilinear` (4.00 ms)" in best
    assert against_none.startswith("`jpu` against `none`: pixAcc +0.00, mIoU +10.00")
    assert against_none.endswith("×0.50 the latency.")
    assert "mIoU +20.00" in against_bilinear
    assert against_bilinear.endswith("×2.50 the latency.")
    assert "one seed" in seeds
    assert "`upsample=none` of the same head and backbone." in brackets(part)
    _, against_its_cost, _ = findings(part_of([row("jpu", [0.4]), row("bilinear_skip", [0.3])]))
    assert against_its_cost.startswith("`jpu` against `bilinear_skip`: pixAcc +0.00, mIoU +10.00")


def test_sentences_keep_heads_apart_and_name_rows_of_one_seed() -> None:
    rows = [
        row("none", [0.3]),
        row("jpu", [0.4, 0.5]),
        row("bilinear", [0.1], head="psp"),
        row("jpu", [0.2], head="psp"),
    ]
    part = part_of(rows)
    lines = findings(part)
    assert [line.split(":")[0] for line in lines[:-1]] == [
        "encoding with resnet18", "`encoding jpu` against `encoding none`",
        "psp with resnet18", "`psp jpu` against `psp bilinear`",
    ]  # fmt: skip
    assert f"mIoU `encoding jpu` ({100 * fmean([0.4, 0.5]):.2f})" in lines[0]
    assert lines[-1].endswith("There is one seed, and no interval, of `encoding none`, `psp bilinear`, `psp jpu`.")
    assert "where there is none, relative to the first row of this head and backbone: `psp bilinear`" in brackets(part)
    alone = part_of(rows[2:])
    assert "relative to the first row, `bilinear`: there is none with `upsample=none`" in brackets(alone)


def test_latencies_that_scatter_are_called_rough() -> None:
    part = part_of([row("none", [0.3]), row("fpn", [0.4])], fps=[10, 10])
    assert not any("Rough" in line for line in findings(part))
    loose = Speed(10, (100, 90, 160), None, "here")
    rough = part._replace(speeds=[part.speeds[0], loose])
    assert any(line.startswith("Rough latencies: `fpn`,") for line in findings(rough))
