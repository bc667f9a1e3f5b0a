"""train.py -m logger=wandb from outside: what W&B's own reader finds in the offline runs of a multirun."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.scripts import TINY, start
from tests.test_tracking import inspect

pytestmark = pytest.mark.slow


def test_every_job_of_a_multirun_is_a_finished_run_of_its_own(tmp_path: Path, data_dir: Path) -> None:
    overrides = [item for item in TINY if not item.startswith("upsample")]
    jobs = ["-m", "upsample=bilinear,fpn", "logger=wandb", f"hydra.sweep.dir={tmp_path}", f"paths.data_dir={data_dir}"]
    done = start("train.py", *jobs, *overrides, WANDB_MODE="offline").check()
    assert done.out.count("wandb sync") == 2
    directories = sorted(tmp_path.glob("*/wandb/offline-run-*"))
    assert len(directories) == 2
    for directory, upsample in zip(directories, ("bilinear", "fpn"), strict=True):
        record = inspect(directory)
        run_dir = directory.parents[1]
        figures = json.loads((run_dir / "results.json").read_text())
        assert record["exit_code"] == 0
        assert set(record["tags"]) == {"encoding", upsample, "resnet18", "scenes"}
        assert f"models.upsamplers.{upsample}" in json.dumps(record["config"])
        summary = record["summary"]
        assert summary["test/mIoU"] == pytest.approx(figures["test"]["mIoU"], rel=1e-5)
        assert summary["best/val_score"] == pytest.approx(figures["val_score"], rel=1e-5)
        table = json.loads((directory / "files" / summary["test/IoU"]["path"]).read_text())
        assert dict(table["data"]) == pytest.approx(figures["test"]["IoU"], nan_ok=True)
        assert (directory / "files" / summary["val/predictions"]["filenames"][0]).is_file()
