"""A run writes below its own directory; another place must be said to be meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastfcn.checkpoint import datamodule_from_checkpoint, read_checkpoint
from fastfcn.data.scenes import Scenes
from fastfcn.errors import UserError
from fastfcn.run_places import check, for_reading
from tests.scripts import ROOT, TINY, call

OUTSIDE: list[tuple[str, dict[str, Any]]] = [
    ("callbacks.best.dirpath", {"callbacks": {"best": {"dirpath": "{elsewhere}"}}}),
    ("callbacks.best.filename", {"callbacks": {"best": {"dirpath": "{run}/checkpoints", "filename": "../../best"}}}),
    ("callbacks.best.filename", {"callbacks": {"best": {"filename": "/etc/best"}}}),
    ("callbacks.draw_predictions.directory", {"callbacks": {"draw_predictions": {"directory": "{run}/../other"}}}),
    ("logger.csv.save_dir", {"logger": {"csv": {"save_dir": "~"}}}),
    ("logger.tensorboard.version", {"logger": {"tensorboard": {"save_dir": "{run}", "version": "../../x"}}}),
    ("trainer.default_root_dir", {"trainer": {"default_root_dir": "."}}),
    ("trainer.profiler.dirpath", {"trainer": {"profiler": {"dirpath": "{run}-b"}}}),
    ("callbacks.last.dirpath", {"callbacks": {"last": {"dirpath": "{run}/link/x"}}}),
]


def filled(value: Any, **places: str) -> Any:
    if isinstance(value, dict):
        return {key: filled(each, **places) for key, each in value.items()}
    return value.format(**places)


@pytest.mark.parametrize(("key", "config"), OUTSIDE)
def test_outside(tmp_path: Path, key: str, config: dict[str, Any]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "link").symlink_to(tmp_path)
    config = filled(config, run=str(run), elsewhere=str(tmp_path / "elsewhere"))
    with pytest.raises(UserError, match=f"^{key}=.* outside of the run directory .*paths.outside=true"):
        check(config, run)
    check({**config, "paths": {"outside": True}}, run)


def test_inside(tmp_path: Path) -> None:
    config = {
        "callbacks": {"best": {"dirpath": f"{tmp_path}/checkpoints", "filename": "{epoch}-best"}, "last": None},
        "logger": {"csv": {"save_dir": str(tmp_path)}, "wandb": {"save_dir": str(tmp_path), "name": None}},
        "trainer": {"default_root_dir": str(tmp_path), "devices": 1},
    }
    check(config, tmp_path)
    check({}, tmp_path)


def test_a_training_that_would_write_elsewhere_begins_with_nothing(tmp_path: Path, data_dir: Path) -> None:
    places = (f"hydra.run.dir={tmp_path}/run", f"paths.data_dir={data_dir}")
    done = call("train.py", *TINY, *places, f"callbacks.last.dirpath={tmp_path}/elsewhere")
    assert "callbacks.last.dirpath=" in done.sentence()
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "run/checkpoints").exists()


def test_a_job_of_a_sweep_stays_in_its_directory(tmp_path: Path) -> None:
    done = call("train.py", "-m", *TINY, f"hydra.sweep.dir={tmp_path}/sweep", "run_name=../elsewhere")
    assert "choose one without /" in done.sentence()
    assert not (tmp_path / "elsewhere").exists()


def test_a_checkpoint_names_no_place_to_write_to(first_version: Path, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(first_version)
    dataset = {**checkpoint.data_config["dataset"], "cache_dir": str(tmp_path / "new"), "counts": {"test": 1}}
    foreign = checkpoint._replace(data_config={**checkpoint.data_config, "dataset": dataset})
    assert len(datamodule_from_checkpoint(foreign).open("test")) == 1
    assert not (tmp_path / "new").exists()
    Scenes("test", size=64, counts={"test": 1}, cache_dir=tmp_path / "new")
    assert for_reading(foreign.data_config) == foreign.data_config  # scenes are kept there: it is their place
    assert for_reading({"batch_size": 1}) == {"batch_size": 1}


def test_notebooks_serve_nothing() -> None:
    """What they show they draw; were one to serve, it would have to say so here, and to bind to the loopback."""
    words = ("http.server", "socketserver", "0.0.0.0", ".bind(", "gradio", "%tensorboard", "import dash", "streamlit")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        code = "".join(
            line
            for cell in json.loads(path.read_text())["cells"]
            if cell["cell_type"] == "code"
            for line in cell["source"]
        )
        assert code
        assert not [word for word in words if word in code], path.name
