"""What the report writes: Markdown, CSV, LaTeX, the scatter plot, and the missing rows with their commands."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from fastfcn.checkpoint import config_dir
from fastfcn.errors import UserError
from fastfcn.report import latex, scatter
from fastfcn.report.gathering import gather
from fastfcn.report.label_places import place
from fastfcn.report.making import make
from fastfcn.report.measuring import Plan
from fastfcn.report.origin import origin
from fastfcn.report.rows import UPSAMPLERS
from tests import scripts
from tests.fake_runs import begin_run, provenance, row, run, speed, write_run
from tests.test_report_numbers import part_of

TABLE_1 = [
    ("encoding", "none", 0.30), ("encoding", "bilinear", 0.20), ("encoding", "fpn", 0.29), ("encoding", "jpu", 0.36),
    ("aspp", "none", 0.29), ("aspp", "jpu", 0.31), ("psp", "none", 0.32), ("psp", "jpu", 0.33),
]  # fmt: skip

#: Nothing is built or drawn.
LIGHT = Plan(latency=None, figure=None)


def write_table_1(root: Path, *, seeds: Sequence[int] = (0, 1, 2), **keywords: Any) -> Path:
    """Twenty-four runs and the list of the sweep that they are of."""
    jobs = []
    for index, (head, upsample, miou) in enumerate(TABLE_1):
        for seed in seeds:
            name = f"{head}-{upsample}-r18-os{8 if upsample == 'none' else 32}-s{seed}"
            overrides = ["sweep=table1", f"head={head}", f"upsample={upsample}", "backbone=resnet18", f"seed={seed}"]
            measured = {"speed": speed(10 + 3 * index)}
            figure = miou + 0.01 * seed + 0.001 * ((index * 7 + seed * 3) % 5)
            write_run(
                root / name, upsample, head=head, seed=seed, miou=figure, made=measured,
                overrides=[*overrides, f"run_name={name}"], **keywords,
            )  # fmt: skip
            jobs.append({"name": name, "directory": name, "overrides": overrides})
    command = "python src/train.py sweep=table1 backbone=resnet18 seed=0,1,2"
    (root / "sweep.json").write_text(json.dumps({"sweep": "table1", "command": command, "jobs": jobs}))
    return root


@pytest.fixture(scope="module")
def incomplete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep with a missing seed, a crashed run, a failed one, and a duplicate; and its report."""
    root = write_table_1(tmp_path_factory.mktemp("sweep") / "table1")
    shutil.rmtree(root / "psp-jpu-r18-os32-s2")
    for name, status in (
        ("aspp-none-r18-os8-s1", {"state": "running", "host": "node_17", "pid": 7, "started": "yesterday"}),
        ("encoding-fpn-r18-os32-s0", {"state": "failed", "reason": "CUDA out of memory"}),
    ):
        shutil.rmtree(root / name)
        _, upsample, *_ = name.split("-")
        begin_run(root / name, upsample, head=name.split("-")[0], status=status)
    again = {"state": "done", "ended": "2027-01-01T00:00:00+00:00"}
    write_run(root / "again" / "jpu", "jpu", miou=0.5, status=again, made={"speed": speed(19)})
    make(gather(root), out=root, plan=LIGHT)
    return root


def test_a_report_of_an_incomplete_sweep(incomplete: Path) -> None:
    text = (incomplete / "report.md").read_text()
    assert text.startswith("# scenes: encoding, aspp, psp x {none, bilinear, fpn, jpu} with resnet18\n")
    rows = re.findall(r"^\| ((?:encoding|aspp|psp) \w+) +\| (\w+) ", text, flags=re.MULTILINE)
    assert rows[:8] == [(f"{head} {upsample}", head) for head, upsample, _ in TABLE_1]

    left = re.search(r"## Runs left out\n\n((?:- .*\n)+)", text)
    assert left is not None
    assert left[1].count("\n") == 3
    assert "Left out (failed): " in left[1]
    assert "encoding-fpn-r18-os32-s0 failed: CUDA out of memory." in left[1]
    assert "is running since yesterday, or was killed: on node_17" in left[1]
    assert re.search(
        r"Left out \(duplicate\): .*encoding-jpu-r18-os32-s0 .* not the newest; .*again/jpu counts", left[1]
    )

    commands = dict(re.findall(r"^# (\S+) \((.+)\) *\n(?:.*)$", text, flags=re.MULTILINE))
    assert commands == {
        "psp-jpu-r18-os32-s2": "not started", "aspp-none-r18-os8-s1": "running", "encoding-fpn-r18-os32-s0": "failed",
    }  # fmt: skip
    assert "\npython src/train.py sweep=table1 head=psp upsample=jpu backbone=resnet18 seed=2\n" in text
    assert "`python src/train.py sweep=table1 backbone=resnet18 seed=0,1,2` once more" in text

    assert "± is half the 95% interval" in text
    assert re.search(r"- jpu >= none in mIoU under Encoding: \+\S+ \[\S+, \S+\] points, 3 seeds: ", text)
    assert re.search(r"- jpu >= none in mIoU under ASPP: \+\S+ \[\S+, \S+\] points, 2 seeds: ", text)
    assert "CPU process hours" in text
    assert "GPU hours" not in text
    assert "(scatter.png)" in text


def test_runs_from_several_machines_make_one_sweep(incomplete: Path, tmp_path: Path) -> None:
    """Half of the runs on either, each with the whole list of jobs: what one has is not missing on the other."""
    for machine in ("a", "b"):
        shutil.copytree(incomplete, tmp_path / machine)
    for directory in (tmp_path / "a").glob("psp-*"):
        shutil.rmtree(directory)
    for directory in (tmp_path / "b").glob("encoding-*"):
        shutil.rmtree(directory)
    make(gather([tmp_path / "a", tmp_path / "b"]), out=tmp_path / "out", plan=LIGHT)
    text = (tmp_path / "out" / "report.md").read_text()
    assert len(re.findall(r"^# \S+-s\d \(", text, flags=re.MULTILINE)) == 3
    # the aspp runs are on both: one of each counts
    assert text.count("is the same run copied") == len(list((tmp_path / "a").glob("aspp-*/results.json"))) + 1
    # runs named one by one belong to the sweep around them
    one = gather([tmp_path / "a" / "encoding-jpu-r18-os32-s1"])
    assert [sweep.name for sweep in one.sweeps] == ["table1"]


def test_csv_holds_every_run_and_row_at_full_precision(incomplete: Path) -> None:
    with (incomplete / "report.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    done = [line for line in lines if line["state"] == "done"]
    assert len(done) == 21
    assert sorted(line["state"] for line in lines if line["state"] != "done") == ["duplicate", "failed", "running"]
    for line in done:
        results = json.loads((Path(line["directory"]) / "results.json").read_text())
        assert float(line["mIoU"]) == results["test"]["mIoU"]  # to the last bit
        assert float(line["speed_fps"]) == results["speed"]["fps"]
        assert float(line["cpu_process_hours"]) == 0.5
        assert (line["gpu_hours"], line["IoU wall"]) == ("", "")
    with (incomplete / "report_rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["head"], r["upsample"]) for r in rows] == [(head, upsample) for head, upsample, _ in TABLE_1]
    for r in rows:
        of = [float(d["mIoU"]) for d in done if (d["head"], d["upsample"]) == (r["head"], r["upsample"])]
        assert float(r["mIoU"]) == pytest.approx(np.mean(of), rel=1e-12)
        assert len(of) == len(r["seeds"].split())
    assert (rows[0]["mIoU_difference"], rows[0]["reference"]) == ("", "encoding none")
    assert float(rows[3]["mIoU_difference_half_interval"]) > 0
    assert (rows[3]["paper_mIoU_percent"], rows[3]["paper_comparable"]) == ("51.05", "False")
    assert rows[3]["paper_fps"] == "37.56"


def balanced(text: str) -> bool:
    """Braces and environments close in the order in which they open; rows have as many cells as columns."""
    bare = re.sub(r"\\[\\{}$&%#_]", "", re.sub(r"(?m)^%.*$", "", text))
    depth = 0
    for letter in bare:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if depth < 0:
            return False
    stack = []
    for kind, environment in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            stack.append(environment)
        elif not stack or stack.pop() != environment:
            return False
    for columns, body in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, flags=re.DOTALL):
        for line in body.splitlines():
            spanned = sum(int(span) - 1 for span in re.findall(r"\\multicolumn\{(\d+)\}", line))
            if line.endswith(r"\\") and len(re.findall(r"(?<!\\)&", line)) + 1 + spanned != len(columns):
                return False
    return depth == 0 and not stack and bare.count("$") % 2 == 0


def test_the_check_of_latex_sees_faults() -> None:
    assert balanced(r"\begin{tabular}{lr}" + "\na\\_b & $1 \\pm 2$ \\\\\n" + r"\end{tabular}")
    assert not balanced(r"\begin{tabular}{lr}" + "\na & b & c \\\\\n" + r"\end{tabular}")
    assert not balanced(r"\caption{a")
    assert not balanced(r"\begin{table}\end{tabular}")
    assert not balanced("$1")


def test_latex_is_balanced_and_escaped(incomplete: Path, tmp_path: Path) -> None:
    text = (incomplete / "report.tex").read_text()
    assert balanced(text)
    for word in (r"\toprule", r"\midrule", r"\bottomrule", r"\label{tab:scenes-center-crop}", r"\caption{"):
        assert word in text
    assert text.count(r"\midrule") == 3  # under the headings, and between the heads
    assert "Encoding & 32 & JPU & $" in text
    assert "_" not in re.sub(r"\\_", "", re.sub(r"(?m)^%.*$", "", text))
    assert latex.escape(r"a_b & 50% #1 {x} ~^\ $") == (
        r"a\_b \& 50\% \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} \$"
    )
    assert [latex.name(n) for n in ("resnet50s", "jpu_x", "dysample", "convnext_tiny")] == [
        "ResNet-50s",
        r"JPU\_X",
        "DySample",
        r"convnext\_tiny",
    ]
    write_run(tmp_path / "a", "jpu", data="my_data", backbone="timm", head="odd_head&co", optim__lr=0.1)
    write_run(tmp_path / "b", "jpu", data="my_data", backbone="timm", head="odd_head&co", optim__lr=0.2)
    make(gather(tmp_path), out=tmp_path, plan=LIGHT)
    assert balanced((tmp_path / "report.tex").read_text())
    assert r"odd\_head\&co & 32 & JPU (optim.lr=0.1)" in (tmp_path / "report.tex").read_text()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX is installed")
def test_latex_compiles(incomplete: Path, tmp_path: Path) -> None:
    preamble = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{report.tex}\end{document}"
    (tmp_path / "document.tex").write_text(preamble)
    shutil.copy(incomplete / "report.tex", tmp_path)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def composed(command: str) -> dict[str, Any]:
    """What a command chooses, by Hydra's own word."""
    _, script, *overrides = shlex.split(command)
    assert script == "src/train.py"
    overrides = [o for o in overrides if not o.startswith("hydra.")]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=overrides, return_hydra_config=True)
    return {**config.hydra.runtime.choices, "seed": config.seed}


def missing_commands(text: str) -> list[str]:
    return re.findall(r"^(python src/train\.py .*)$", text.partition("## Missing rows")[2], flags=re.MULTILINE)


def test_commands_of_missing_rows_compose(incomplete: Path) -> None:
    commands = missing_commands((incomplete / "report.md").read_text())
    chosen = [tuple(composed(c)[key] for key in ("head", "upsample", "backbone", "seed")) for c in commands]
    assert sorted(chosen) == [
        ("aspp", "none", "resnet18", 1), ("encoding", "fpn", "resnet18", 0), ("psp", "jpu", "resnet18", 2),
    ]  # fmt: skip


def test_without_a_sweep_the_holes_of_the_grid_are_missing(tmp_path: Path) -> None:
    def write(name: str, upsample: str, *, head: str = "encoding", seed: int = 0, more: Sequence[str] = ()) -> None:
        overrides = [f"upsample={upsample}", f"head={head}", "backbone=resnet18", f"seed={seed}", *more]
        write_run(tmp_path / name, upsample, head=head, seed=seed, overrides=overrides)

    write("a", "none", more=["trainer.max_epochs=3"])
    write(
        "b",
        "jpu",
        seed=1,
        more=["upsample.width=64", "head.width=32", "data.dataset.counts={train: 8, val: 4, test: 4}"],
    )
    write("c", "none", head="psp")
    write("d", "bilinear")
    begin_run(tmp_path / "e", "jpu", overrides=["upsample=jpu", "seed=0", "backbone=resnet18", "hydra.run.dir=x"])
    make(gather(tmp_path), out=tmp_path, plan=LIGHT)
    text = (tmp_path / "report.md").read_text()
    names = re.findall(r"^# (.+) \((.+)\)", text.partition("## Missing rows")[2], flags=re.MULTILINE)
    assert [(name, state) for name, state in names] == [
        ("encoding none resnet18 s1 on scenes", "not among the runs"),
        ("encoding bilinear resnet18 s1 on scenes", "not among the runs"),
        ("encoding jpu resnet18 s0 on scenes", "unfinished"),
        ("psp none resnet18 s1 on scenes", "not among the runs"),
        ("psp jpu resnet18 s0 on scenes", "not among the runs"),
        ("psp jpu resnet18 s1 on scenes", "not among the runs"),
    ]
    commands = missing_commands(text)
    chosen = [composed(command) for command in commands]
    for (name, _), choice in zip(names, chosen, strict=True):
        assert (
            name == f"{choice['head']} {choice['upsample']} {choice['backbone']} s{choice['seed']} on {choice['data']}"
        )
    assert "trainer.max_epochs=3" in commands[0]
    assert commands[2] == "python src/train.py upsample=jpu seed=0 backbone=resnet18"
    assert "width" not in commands[4]  # of another upsampler, or another head


def test_a_free_multirun_is_completed_where_it_lies(tmp_path: Path) -> None:
    home = tmp_path / "outputs" / "multirun"
    write_run(home / "one", "none", overrides=["upsample=none"])
    jobs = [{"name": u, "directory": d, "overrides": [f"upsample={u}"]} for u, d in (("none", "one"), ("jpu", "two"))]
    (home / "sweep.json").write_text(
        json.dumps({"sweep": None, "command": "python src/train.py -m upsample=none,jpu", "jobs": jobs})
    )
    make(gather(home), out=tmp_path, plan=LIGHT)
    text = (tmp_path / "report.md").read_text()
    assert missing_commands(text) == [f"python src/train.py upsample=jpu hydra.run.dir={home / 'two'}"]
    write_run(home / "two", "jpu", overrides=["upsample=jpu"])
    make(gather(home), out=tmp_path, plan=LIGHT)
    assert "## Missing rows\n\nNone. By the list" in (tmp_path / "report.md").read_text()


def test_speed_alone_takes_the_form_of_table_2(tmp_path: Path) -> None:
    for backbone in ("resnet50s", "resnet101s"):
        for index, (head, upsample, _) in enumerate(TABLE_1):
            measured = {"speed": speed(20.0 + 5 * index)}
            write_run(
                tmp_path / f"{head}-{upsample}-{backbone}",
                upsample,
                head=head,
                backbone=backbone,
                miou=None,
                made=measured,
            )
    make(gather(tmp_path), out=tmp_path, plan=LIGHT)
    text = (tmp_path / "report.md").read_text()
    assert "## Speed, beside the paper's Table 2" in text
    assert re.search(r"\| encoding jpu resnet101s +\| +35.00 \| +×1.75 \|.* 32.02 \| +×3.05 \|", text)
    assert "- jpu faster than none under Encoding with resnet101s: 1.75 times the FPS (paper, ResNet-101" in text
    assert "IoU" not in text
    table = (tmp_path / "report.tex").read_text()
    assert balanced(table)
    assert "ResNet-101s & PSP & 32 & JPU & 55.00 & 1.10 & 23.87 & 2.10" in table
    assert not (tmp_path / "scatter.png").exists()


def test_several_data_sets_are_sections(tmp_path: Path) -> None:
    for data, root in (("scenes", "x"), ("ade20k", "y")):
        for upsample in ("none", "jpu"):
            write_run(
                tmp_path / data / upsample, upsample, data=data, backbone="resnet50", data__dataset__root=root,
                made={"protocol": "multiscale", "speed": speed(20)},
            )  # fmt: skip
    make(gather(tmp_path), out=tmp_path, plan=LIGHT)
    text = (tmp_path / "report.md").read_text()
    headings = re.findall(r"^# (.+)$", text.partition("```")[0], flags=re.MULTILINE)
    assert headings[1:] == [
        f"{data}: encoding x {{none, jpu}} with resnet50, multiscale" for data in ("ade20k", "scenes")
    ]
    assert "## Beside the paper: Table 4" in text
    assert "Trained for 8 epochs; the paper's trainings have 120." in text
    assert "## For scale, not comparable: the paper's Table 1" in text
    assert {path.name for path in tmp_path.glob("*.png")} == {"scatter.png", "scatter-2.png"}
    assert balanced((tmp_path / "report.tex").read_text())
    labels = re.findall(r"\\label\{(.+)\}", (tmp_path / "report.tex").read_text())
    assert len(set(labels)) == 2
    with pytest.raises(UserError, match=r"data=\.\.\. is one data set"):
        make(gather(tmp_path), out=tmp_path / "out", plan=LIGHT._replace(datamodule=object()))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_origin_tells_what_is_the_same_once() -> None:
    common = {
        "command": "python src/train.py -m sweep=demo",
        "python": "3.11",
        "packages": {"torch": "2", "wandb": None},
    }
    runs = [
        run(
            name,
            source={**common, "git": {"commit": letter * 40, "dirty": letter == "b"}},
            made={"train_seconds": 125.2},
        )
        for name, letter in zip(("none", "fpn", "jpu"), "aab", strict=True)
    ]
    part = part_of(
        [row(r.upsample, [0.3])._replace(runs=(r._replace(overrides=[f"upsample={r.upsample}"]),)) for r in runs]
    )
    text = "\n".join(origin(part, out=Path("out")))
    assert text.count("sweep=demo") == 1
    assert "none  upsample=none\nfpn   upsample=fpn\njpu   upsample=jpu" in text
    assert "Versions: Python 3.11, torch 2." in text
    assert "Code of `none`, `fpn`: commit `aaaaaaaaaaaa`, clean." in text
    assert "Code of `jpu`: commit `bbbbbbbbbbbb`, dirty" in text
    assert "Hardware: not recorded." in text
    assert "2 min 05 s" in text


def test_settings_in_which_runs_differ_are_told(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "none", source=provenance(gpu=True))
    write_run(tmp_path / "b", "jpu", data__batch_size=8)
    make(gather(tmp_path), out=tmp_path, plan=LIGHT)
    text = (tmp_path / "report.md").read_text()
    assert "The runs differ in more than the upsampler: data.batch_size is 4 in `none`; 8 in `jpu`." in text
    assert "- Hardware of `none`: AMD EPYC, 8 cores, 8 threads, 64.0 GiB, NVIDIA H100." in text


def test_scatter_plot_shows_each_row_and_the_paper(incomplete: Path, tmp_path: Path) -> None:
    picture = np.asarray(Image.open(incomplete / "scatter.png"))
    for upsample in ("none", "bilinear", "fpn", "jpu"):
        colour = np.frombuffer(bytes.fromhex(scatter._COLOURS[upsample][1:]), np.uint8)
        assert (picture == colour).all(axis=-1).any(), upsample
    assert tuple(scatter._COLOURS) == UPSAMPLERS
    assert len({*scatter._COLOURS.values(), *scatter._MORE_COLOURS}) == len(UPSAMPLERS) + len(scatter._MORE_COLOURS)
    theirs = scatter.paper_points()
    assert len(theirs) == 8
    assert all(point.hollow for point in theirs)
    rows = [row("none", [0.3, 0.31]), row("jpu", [0.4])]
    ours = scatter.points(part_of(rows, fps=[10, 20]))
    assert [(p.label, p.fps, p.miou) for p in ours] == [("none", 10, pytest.approx(30.5)), ("jpu", 20, 40)]
    assert ours[0].half == pytest.approx(100 * (rows[0].estimate("mIoU") or (0, 0))[1])  # type: ignore[operator]
    assert ours[1].half is None
    assert not scatter.draw(part_of(rows), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize("seed", range(4))
def test_labels_cover_neither_marks_nor_one_another(seed: int) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rng = np.random.default_rng(seed)
    figure = Figure(figsize=(6.4, 4.6), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    # two close bundles, as rows of nearly the same speed are
    points = [(f"encoding {i}", x, y, 0.01) for i, (x, y) in enumerate(rng.normal([[1, 1]] * 5 + [[2, 1.2]] * 5, 0.05))]
    for _, x, y, half in points:
        axes.errorbar(x, y, yerr=half, marker="o", markersize=7)
    axes.margins(0.2)
    figure.canvas.draw()
    notes = place(axes, points)
    boxes = [note.get_window_extent() for note in notes]
    marks = axes.transData.transform([(x, y) for _, x, y, _ in points])
    for index, box in enumerate(boxes):
        others = [*boxes[:index], *boxes[index + 1 :]]
        overlapped = sum(
            max(0, min(box.x1, o.x1) - max(box.x0, o.x0)) * max(0, min(box.y1, o.y1) - max(box.y0, o.y0))
            for o in others
        )
        assert overlapped < 1
        assert not any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for x, y in marks)
        assert axes.bbox.x0 <= box.x0
        assert box.x1 <= axes.bbox.x1


def test_the_script_reports_in_seconds_without_models(incomplete: Path, tmp_path: Path) -> None:
    done = scripts.call("report.py", f"runs={incomplete}", f"out={tmp_path}", "figure=null").check()
    # the runs bring speeds of their own that compare: nothing is measured
    assert "Missing: psp-jpu-r18-os32-s2 (not started): python src/train.py sweep=table1 head=psp" in done.out
    assert "jpu >= none in mIoU under Encoding" in done.out
    assert (tmp_path / "report.md").read_text().count("512 x 512 pixels") > 0
    for file in ("report.csv", "report_rows.csv", "report.tex", "scatter.png"):
        assert (tmp_path / file).is_file()
