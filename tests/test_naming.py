"""Names of runs and of what they belong to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fastfcn.naming import group_name, run_name
from tests.scripts import SRC


@pytest.mark.parametrize(
    ("backbone", "timm", "more", "name"),
    [
        ("resnet50", None, (), "encoding-jpu-r50-os32-s0"),
        ("resnet101s", None, (), "encoding-jpu-r101s-os32-s0"),
        ("timm", "convnext_tiny", (), "encoding-jpu-convnext_tiny-os32-s0"),
        ("resnet18", None, ("optim.lr=0.1",), "encoding-jpu-r18-os32-s0-optim.lr=0.1"),
        ("resnet18", None, ("data.scale=[0.5, 2]",), "encoding-jpu-r18-os32-s0-data.scale=_0.5_2"),
        ("timm", "hf-hub:a/b", (), "encoding-jpu-hf-hub_a_b-os32-s0"),
    ],
)
def test_names(backbone: str, timm: str | None, more: tuple[str, ...], name: str) -> None:
    choices = {"head": "encoding", "upsample": "jpu", "backbone": backbone}
    assert run_name(choices, output_stride=32, seed=0, timm_name=timm, more=more) == name


def test_runs_are_grouped_by_their_sweep_or_without_their_seed(tmp_path: Path) -> None:
    job = tmp_path / "2026-01-31" / "12-00-00" / "psp-jpu-r50-os32-s1"
    job.mkdir(parents=True)
    name = job.name
    assert group_name(name, data="ade20k", sweep="table1", run_dir=job) == "table1-ade20k"
    assert group_name(name, data="ade20k", run_dir=job) == "psp-jpu-r50-os32-ade20k"
    assert group_name("psp-jpu-r50-os32-s12-lr=0.1", data="ade20k", run_dir=job) == "psp-jpu-r50-os32-lr=0.1-ade20k"
    (job.parent / "sweep.json").write_text("{}")
    assert group_name(name, data="ade20k", run_dir=job) == "multirun-2026-01-31-12-00-00"


def test_names_cost_no_import_of_torch() -> None:
    code = "import sys, fastfcn.naming; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(SRC)})
