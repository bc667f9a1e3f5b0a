"""The tasks from configuration to files, at sizes that say nothing of speed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fastfcn
from fastfcn import heap
from fastfcn.benchmarks import inference_arms, models_measured, predictions, scaling, tables, targets
from fastfcn.benchmarks.arms import Arm, compare_values
from fastfcn.benchmarks.bench import Bench
from fastfcn.benchmarks.inference_arms import PLAIN, make_arms, rows
from fastfcn.benchmarks.judging import Target
from fastfcn.benchmarks.measuring import measure_arms
from fastfcn.benchmarks.models_measured import Named, groups_of_table_2, groups_of_upsamplers
from fastfcn.benchmarks.protocol import HostClock, Plan
from fastfcn.benchmarks.rates import Rates
from fastfcn.benchmarks.table2 import table_2
from fastfcn.benchmarks.training_step import step_arms
from fastfcn.errors import UserError
from fastfcn.losses import SegmentationLoss
from fastfcn.models.fastfcn import FastFCN
from fastfcn.optim import SGDPoly
from fastfcn.optimize import Optimize
from fastfcn.report.rows import UPSAMPLERS
from tests.scripts import Done, call, one_thread, start

CPU = torch.device("cpu")
RATES = Rates({"float32": 1e9, "bfloat16": 1e9}, 1e9, 1e-6)
QUICK = Plan(repeats=3, seconds=0.01, warmup_seconds=0.01)
TINY = (
    "device=cpu", "num_classes=5", "repeats=3", "seconds=0.01", "warmup_seconds=0.01", "matrix_side=64",
    "backbone=resnet18", "head.width=32", "upsample.width=32",
)  # fmt: skip


def bench_call(task: str, out: Path, *overrides: str) -> Done:
    return call("benchmark.py", f"task={task}", *TINY, f"out={out}", *overrides)


def tiny() -> FastFCN:
    torch.manual_seed(0)
    overrides = ["head.width=32", "upsample.width=32"]
    return fastfcn.build_model(backbone="resnet18", num_classes=5, overrides=overrides).eval()


def read(out: Path, task: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / f"{task}.json").read_text())
    assert content["task"] == task
    assert content["conditions"]["provenance"]["hardware"]["cpu"]
    assert content["conditions"]["threads"] == 1
    assert content["protocol"]["repeats"] == 3
    assert content["rates"]["bytes_per_second"] > 0
    assert "| " in (out / f"{task}.md").read_text()
    return content


def test_inference(tmp_path: Path) -> None:
    done = bench_call("inference", tmp_path, "task.image_size=[32,64]", "task.arms=['as it is, channels_last']").check()
    [model] = read(tmp_path, "inference")["models"]
    assert [arm["name"] for arm in model["arms"]] == [PLAIN, "as it is, channels_last"]
    for arm in model["arms"]:
        assert arm["milliseconds"]["repeats"] >= 3
        assert arm["agreement"]["fine"]
        assert arm["gflops"] == pytest.approx(model["parts"]["inference"]["gflops"], rel=0.01)
        assert arm["roofline"]["share"] > 0
        assert arm["peak_memory_mib"]["tensors"] > 0
    assert "times plain" in done.out


def test_training(tmp_path: Path) -> None:
    sizes = (
        "task.image_size=[64,64]", "task.compiled=false", "task.encoding_batch=2", "task.encoding_size=8",
        "task.encoding_channels=16", "task.codewords=4", "task.loss_size=[32,32]", "task.confusion_batch=1",
    )  # fmt: skip
    bench_call("training", tmp_path, *sizes).check()
    parts = read(tmp_path, "training")["parts"]
    assert list(parts) == ["step", "cross_entropy", "confusion", "encoding"]
    for part in parts.values():
        assert part["arms"][0]["name"] == "plain"
        # BatchNorm over so few pixels makes much of bfloat16's rounding.
        timed = [arm for arm in part["arms"] if arm["milliseconds"] and arm["precision"] == "float32"]
        assert len(timed) >= 2
        assert all(arm["agreement"]["fine"] for arm in timed)


def test_evaluation(tmp_path: Path) -> None:
    sizes = ("task.image_size=[24,40]", "task.base_size=40", "task.crop_size=32", "task.scales=[0.5,1.25]")
    bench_call("evaluation", tmp_path, *sizes).check()
    arms = read(tmp_path, "evaluation")["arms"]
    assert arms[0]["name"] == "plain"
    assert all(arm["agreement"]["fine"] for arm in arms if arm["milliseconds"] and arm["precision"] == "float32")


def test_memory(tmp_path: Path) -> None:
    bench_call("memory", tmp_path, "task.image_size=[32,32]").check()
    content = json.loads((tmp_path / "memory.json").read_text())
    peaks = {(peak["what"], peak["arm"]): peak["tensors"] for peak in content["peaks_mib"]}
    whole = "training step, optimizer included"
    assert peaks[whole, "plain"] > peaks["prediction", "plain"] > 0
    assert peaks["head, prediction", "plain"] >= peaks["head, prediction", "ours"]
    assert content["weights_mib"] > 40


@pytest.mark.slow
def test_scaling(tmp_path: Path) -> None:
    sizes = (
        "task.sizes=[32,48,64]", "task.batches=[1]", "task.classes=[5]", "task.size=32", "task.upsamplers=[none,jpu]",
        "task.arms=[plain]",
    )  # fmt: skip
    bench_call("scaling", tmp_path, *sizes).check()
    axes = read(tmp_path, "scaling")["axes"]
    assert {axis: list(curves) for axis, curves in axes.items()} == {
        axis: ["none: plain", "jpu: plain"] for axis in ("pixels", "batch", "classes")
    }
    assert [point["amount"] for point in axes["pixels"]["jpu: plain"]["points"]] == [32**2, 48**2, 64**2]
    assert axes["pixels"]["jpu: plain"]["fit"]["slope"] >= 0
    assert (tmp_path / "scaling.png").stat().st_size > 1000


def test_data(tmp_path: Path) -> None:
    sizes = ("task.images=2", "task.batch_size=2", "task.base_size=40", "task.crop_size=32", "task.repeats=1")
    bench_call("data", tmp_path, *sizes).check()
    assert "images_per_second" in json.loads((tmp_path / "data.json").read_text())


@pytest.mark.slow
def test_targets_and_other_runtimes(tmp_path: Path) -> None:
    sizes = (
        "task.image_size=[32,32]", "task.depths=[18]", "task.compiled=false", "task.seconds=0.01",
        "task.warmup_seconds=0.01", "task.train_size=[32,32]", "task.encoding_batch=1", "task.encoding_size=8",
        "task.loss_size=[32,32]", "task.evaluation_size=[24,40]", "task.evaluation_base=40", "task.evaluation_crop=32",
    )  # fmt: skip
    done = bench_call("targets", tmp_path, *sizes).check()
    targets = {target["what"]: target for target in read(tmp_path, "targets")["targets"]}
    assert len(targets) == 22
    assert sum(target["by"] == "needs a GPU" for target in targets.values()) == 4
    assert targets["inference in float32 as an exported model"]["measured"] > 0
    assert targets["difference of loss and gradient from float64"]["met"]
    assert "at least 25.00" in done.out
    assert "Removed" not in done.out  # the exporter tells nothing


@pytest.mark.slow
def test_upsamplers_beside_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [named.upsample for named in groups_of_upsamplers((50, 101))[1]] == list(UPSAMPLERS)
    with pytest.raises(UserError, match=r"task\.depths=\[18\]: choose among 50 and 101"):
        groups_of_upsamplers((18,))
    monkeypatch.setattr(models_measured, "UPSAMPLERS", ("fpn", "carafe"))
    sizes = ("task.models=upsamplers", "task.depths=[50]", "task.image_size=[32,32]", "task.arms=[plain]")
    bench_call("inference", tmp_path, *sizes).check()
    fpn, carafe = read(tmp_path, "inference")["models"]
    assert (fpn["upsample"], fpn["paper_fps"]) == ("fpn", 37.87)
    assert (carafe["upsample"], carafe["paper_fps"], carafe["head"]) == ("carafe", None, "encoding")
    assert carafe["arms"][0]["agreement"]["fine"]
    text = (tmp_path / "inference.md").read_text()
    assert "## The upsamplers, beside the paper's Table 2 where it has them" in text
    assert re.search(r"\| resnet50s \| encoding \| carafe +\| +- \|", text)


@pytest.mark.slow
def test_table_2_as_a_process(tmp_path: Path) -> None:
    sizes = ("task.models=table2", "task.depths=[50]", "task.image_size=[32,32]", "task.arms=[plain]")
    start("benchmark.py", "task=inference", *TINY, f"out={tmp_path}", *sizes, cwd=tmp_path, timeout=600).check()
    content = read(tmp_path, "inference")
    assert len(content["models"]) == 9  # eight of the paper, and JPU_X
    assert sum(model["paper_fps"] is not None for model in content["models"]) == 8
    text = (tmp_path / "inference.md").read_text()
    assert "37.56" in text
    assert "2.00" in text  # the paper's ratio of JPU to the dilated model
    assert (tmp_path / "inference.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("task", "overrides", "sentence"),
    [
        ("inference", ["task.models=all"], "task.models=all: give chosen or table2 or upsamplers"),
        ("inference", ["task.image_size=[0,32]"], "task.image_size=[0,32]: give a whole number of at least 1"),
        ("inference", ["task.arms=[fast]"], "task.arms: there is no arm 'fast': choose among plain"),
        ("training", ["task.parts=[all]"], "task.parts=['all']: choose among step"),
        ("scaling", ["task.classes=[1]"], "task.classes=[1]: segmentation needs at least 2 classes"),
        ("targets", ["task.groups=[all]"], "task.groups=['all']: choose among inference"),
        ("memory", ["device=tpu"], "device=tpu: choose auto, cpu or cuda"),
        ("memory", ["repeats=1"], "repeats=1: choose at least 3"),
        ("evaluation", ["task.crop_size=1"], "inference.crop_size=1 must be at least 2"),
        ("memory", ["ckpt_path=nowhere.ckpt"], "there is no checkpoint nowhere.ckpt"),
    ],
)
def test_mistakes_are_told_in_one_sentence(tmp_path: Path, task: str, overrides: list[str], sentence: str) -> None:
    assert bench_call(task, tmp_path / "out", *overrides).sentence().startswith(sentence)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = bench_call("memory", tmp_path / "file" / "deeper")
    assert done.sentence().startswith(f"out={tmp_path / 'file' / 'deeper'} cannot be written to (")


def test_an_arm_in_float32_that_gives_something_else_is_not_timed() -> None:
    calls: list[str] = []
    arms = [
        Arm(name="right", call=lambda: calls.append("right")),
        Arm(
            name="wrong",
            call=lambda: calls.append("wrong"),
            check=lambda: compare_values(torch.ones(3), torch.zeros(3) + 0.9, tolerance=1e-4),
        ),
    ]
    right, wrong = measure_arms(arms, device=CPU, plan=QUICK, clock=HostClock(), rates=RATES)
    assert right.timing is not None
    assert wrong.timing is None
    assert "wrong" not in calls
    assert "differs from the reference by 1.1e-01" in wrong.note
    assert "wrong: not timed" in tables.speeds([right, wrong], reference="right")


def test_a_runtime_that_is_not_installed_is_a_row_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    wanted = [row for row in rows(CPU) if row.name in (PLAIN, "OpenVINO")]
    arms, missing = make_arms(tiny(), torch.randn(1, 3, 32, 32), wanted)
    assert [arm.name for arm in arms] == [PLAIN]
    assert missing["OpenVINO"][1] == "openvino is not installed: pip install -e .[export]"


def test_each_row_of_the_ladder_has_one_switch_more() -> None:
    names = [
        name for name, more, precision in inference_arms.LADDER if precision == "float32" and "compile" not in more
    ]
    arms, missing = make_arms(tiny(), torch.randn(1, 3, 32, 32), [row for row in rows(CPU) if row.name in names])
    assert missing == {}
    assert (
        [arm.name for arm in arms]
        == names
        == ["drop_branches", "+ fold_bn", "+ channels_last", "+ commute", "+ winograd", "+ onednn", "+ kept heap"]
    )
    assert [arm.kept_heap for arm in arms] == [False] * 6 + [True]
    assert all(arm.check is not None and arm.check().fine for arm in arms)
    # Every switch of the class is off in the first row's beginning, and has a row, or is of a GPU or a compiler alone.
    switches = {field.name for field in dataclasses.fields(Optimize)}
    assert set(predictions.OFF) == switches - {"autotune"}
    assert not any(value for key, value in predictions.OFF.items() if key != "dtype")
    assert {key for _, more, _ in inference_arms.LADDER for key in more} == switches - {"autotune", "cuda_graphs"}


def test_arms_that_keep_memory_have_their_turns_in_a_row_within_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    @contextlib.contextmanager
    def kept() -> Iterator[None]:
        told.append("<")
        yield
        told.append(">")

    monkeypatch.setattr(heap, "kept", kept)
    monkeypatch.setattr(heap, "possible", lambda: True)
    arms = [
        Arm(name=name, call=functools.partial(told.append, name), kept_heap=name in "AC")
        for name in "ABC"
    ]  # fmt: skip
    plan = Plan(repeats=3, seconds=100.0, warmup_seconds=1e-9)
    found = measure_arms(arms, device=CPU, plan=plan, clock=HostClock(), rates=RATES, memory=False)
    assert "".join(told).startswith("B<AAAAC>BB<AAAAC>BB<AAAAC>")
    assert [(each.name, each.facts["kept_heap"]) for each in found] == [("A", True), ("B", False), ("C", True)]


def test_where_memory_cannot_be_kept_its_row_says_so_and_the_others_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    wanted = [row for row in rows(CPU) if row.name in ("+ onednn", "+ kept heap")]
    arms, missing = make_arms(tiny(), torch.randn(1, 3, 32, 32), wanted)
    assert [arm.name for arm in arms] == ["+ onednn"]
    assert "glibc" in missing["+ kept heap"][1]


def test_table_2_groups_what_is_compared() -> None:
    groups = groups_of_table_2((50, 101))
    assert sum(len(group) for group in groups) == 18
    assert all(group[0].upsample == "none" for group in groups)
    assert all(len({(named.backbone, named.head) for named in group}) == 1 for group in groups)
    with pytest.raises(UserError, match=r"task\.depths=\[18\]: choose among 50 and 101"):
        groups_of_table_2((18,))


def test_the_papers_ratios_stand_beside_ours() -> None:
    none, jpu = Named("resnet101s", "none", "encoding"), Named("resnet101s", "jpu", "encoding")
    calls = {none: 0.004, jpu: 0.002}

    class Clock:
        def milliseconds(self, call: Callable[[], object]) -> float:
            return float(call()) * 1000  # type: ignore[arg-type]

    row = rows(CPU)[0]
    found = {
        named: measure_arms(
            [Arm(name=row.name, call=lambda t=taken: t)],  # type: ignore[misc]
            device=CPU, plan=QUICK, clock=Clock(), rates=RATES, memory=False,
        )
        for named, taken in calls.items()
    }  # fmt: skip
    lines = table_2(found, [row]).splitlines()
    assert [cell.strip() for cell in lines[3].split("|")[4:-1]] == ["32.02", "3.05", "500.00", "2.00"]


def test_what_exceeds_memory_or_time_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(
        build=lambda classes: tiny(), named=lambda **_: tiny(), num_classes=5, device=CPU, plan=QUICK, matrix_side=64,
        chosen={"backbone": "resnet18", "upsample": "jpu", "head": "encoding"},
    )  # fmt: skip
    few = {"batches": [1], "classes": [5], "size": 32, "upsamplers": ["jpu"], "arms": [PLAIN]}
    monkeypatch.setattr(scaling, "free", lambda device: 1 << 19)
    record = scaling.run(bench=bench, sizes=[32, 256], budget_s=1000.0, **few)  # type: ignore[arg-type]
    first, second = record["axes"]["pixels"]["jpu: plain"]["points"]
    assert first["milliseconds"] is not None
    assert second["milliseconds"] is None
    assert "GiB, more than is free" in second["note"]
    monkeypatch.undo()
    record = scaling.run(bench=bench, sizes=[32, 4096], budget_s=1.5, **few)  # type: ignore[arg-type]
    assert "budget_s" in record["axes"]["pixels"]["jpu: plain"]["points"][1]["note"]


def test_an_arm_is_measured_without_plain_and_compared_with_it_at_the_first_point(tmp_path: Path) -> None:
    bench = Bench(
        build=lambda classes: tiny(), named=lambda **_: tiny(), num_classes=5, device=CPU, plan=QUICK, matrix_side=64,
        chosen={"backbone": "resnet18", "upsample": "jpu", "head": "encoding"}, out=tmp_path,
    )  # fmt: skip
    arm = "as it is, channels_last"
    record = scaling.run(
        bench=bench, sizes=[32, 64], batches=[1], classes=[5], size=32, upsamplers=["jpu"], arms=[arm], budget_s=1000.0
    )
    assert list(record["axes"]["pixels"]) == [f"jpu: {arm}"]
    first, second = record["axes"]["pixels"][f"jpu: {arm}"]["points"]
    assert first["agreement"]["fine"]
    assert second["agreement"] is None
    assert second["milliseconds"]["median"] > 0


def test_what_was_measured_before_an_axis_that_fails_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(
        build=lambda classes: tiny(), named=lambda **_: tiny(), num_classes=5, device=CPU, plan=QUICK, matrix_side=64,
        chosen={"backbone": "resnet18", "upsample": "jpu", "head": "encoding"}, out=tmp_path,
    )  # fmt: skip
    measure = scaling._measure

    def killed(bench: Bench, rates: Any, models: Any, wanted: Any, point: scaling.Point, *rest: Any) -> None:
        if point.axis == "batch":
            raise KeyboardInterrupt
        measure(bench, rates, models, wanted, point, *rest)

    monkeypatch.setattr(scaling, "_measure", killed)
    with pytest.raises(KeyboardInterrupt):
        scaling.run(
            bench=bench, sizes=[32], batches=[1], classes=[5], size=32, upsamplers=["jpu"], arms=[PLAIN],
            budget_s=1000.0,
        )  # fmt: skip
    assert list(read(tmp_path, "scaling")["axes"]) == ["pixels"]
    assert "Size of the image" in (tmp_path / "scaling.md").read_text()


def test_the_loss_of_a_compiled_step_is_compared_before_a_step_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler's own part is left out: what is tried first may not move the weights."""
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: None)
    optim, loss = SGDPoly(lr=1.0), SegmentationLoss()
    bench = Bench(build=lambda classes: tiny(), num_classes=5, plan=QUICK, optim=optim, loss=loss)
    arms, missing = step_arms(bench, batch=2, size=(32, 32), compiled=True)
    assert set(missing) <= {"ours, bfloat16", "ours, bfloat16, compiled"}
    errors = {arm.name: arm.check().error for arm in arms if arm.check is not None}
    assert errors["ours, compiled"] == errors["ours"] < 1e-3


def test_targets_of_finished_groups_are_kept_when_a_later_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **more: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(targets, "_jpu", lambda *arguments: [Target("jpu", 2.1, 3.0, "an arm")])
    monkeypatch.setattr(targets, "measure_evaluation", fail)
    bench = Bench(build=lambda classes: tiny(), num_classes=5, plan=QUICK, out=tmp_path, matrix_side=16)
    with one_thread(), pytest.raises(MemoryError):
        targets.run(bench=bench, groups=["jpu", "evaluation"])
    assert [each["what"] for each in read(tmp_path, "targets")["targets"]] == ["jpu", "jpu"]
