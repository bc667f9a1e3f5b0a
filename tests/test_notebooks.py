"""The notebooks: clean in git, found from anywhere, and run to their end on the embedded data."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.notebooks import NOTEBOOKS, cleaned, main, read, text
from tests.preparation.trees import make_ade20k_tree
from tests.scripts import ROOT, SRC, TINY, environment

by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def setup_of(notebook: nbformat.NotebookNode) -> str:
    [cell] = [cell for cell in notebook.cells if cell.id == "find-package"]
    return str(cell.source)


def test_there_are_notebooks() -> None:
    assert [path.name for path in NOTEBOOKS] == ["01_data.ipynb", "02_jpu.ipynb", "03_ablation.ipynb"]


@by_name
def test_git_holds_no_output(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == text(cleaned(read(path))), (
        f"{path.name} holds outputs or metadata of the one who ran it: clear them by `make format`"
    )


@by_name
def test_cells_have_names_of_their_own(path: Path) -> None:
    notebook = read(path)
    names = [cell.id for cell in notebook.cells]
    assert len(set(names)) == len(names)
    # Words, and not what an editor draws at random for a new cell: they stay when cells move.
    assert not [name for name in names if not re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", name) or len(name) > 24]
    assert [cell.id for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())] == ["parameters"]


@by_name
def test_no_path_of_a_machine(path: Path) -> None:
    code = "\n".join(cell.source for cell in read(path).cells)
    assert not re.findall(r"(?:[\"'\s=(])(?:~/|/(?:home|Users|root|tmp|mnt|work|data)\b|[A-Z]:\\)", code)


def test_cleaning_takes_what_running_leaves_and_nothing_else(tmp_path: Path) -> None:
    notebook = read(NOTEBOOKS[0])
    dirty = nbformat.from_dict(notebook)
    dirty.metadata["language_info"]["version"] = "3.99"
    dirty.metadata["widgets"] = {}
    code = next(cell for cell in dirty.cells if cell.cell_type == "code")
    code.execution_count = 7
    code.outputs = [nbformat.v4.new_output("stream", text="hello\n")]
    code.metadata["execution"] = {"iopub.status.busy": "2026-01-01T00:00:00Z"}
    code.metadata["collapsed"] = True
    path = tmp_path / "dirty.ipynb"
    path.write_text(text(dirty))
    assert main([str(path)]) == 1
    assert path.read_text() == NOTEBOOKS[0].read_text()
    assert main([str(path)]) == 0


def test_the_package_is_found_from_the_checkout_and_elsewhere(tmp_path: Path) -> None:
    [setup] = {setup_of(read(path)) for path in NOTEBOOKS}
    code = f"{setup}\nimport fastfcn\nprint(fastfcn.__file__)"

    def found(cwd: Path, **variables: str) -> Path:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=cwd,
            env=environment(**variables),
            capture_output=True,
            text=True,
            check=True,
        )
        return Path(done.stdout.strip())

    installed = tmp_path / "installed"
    (installed / "fastfcn").mkdir(parents=True)
    (installed / "fastfcn/__init__.py").touch()
    for cwd in (ROOT, ROOT / "notebooks"):  # where one is installed too, the checkout's own counts
        assert found(cwd, PYTHONPATH=str(installed)) == SRC / "fastfcn/__init__.py"
    assert found(tmp_path, PYTHONPATH=str(installed)) == installed / "fastfcn/__init__.py"


def run(name: str, cwd: Path, **parameters: object) -> nbformat.NotebookNode:
    """Run a notebook from its first cell to its last in a folder, with other values for its parameters."""
    notebook = read(ROOT / "notebooks" / f"{name}.ipynb")
    place = next(i for i, cell in enumerate(notebook.cells) if cell.id == "parameters")
    values = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    unknown = [key for key in parameters if not re.search(rf"^{key} = ", notebook.cells[place].source, re.MULTILINE)]
    assert not unknown, f"{name} has no parameter {unknown}"
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(values, id="injected"))
    client = NotebookClient(notebook, timeout=400, kernel_name="python3", resources={"metadata": {"path": str(cwd)}})
    client.execute(env=environment(PYTHONPATH=str(SRC), IPYTHONDIR=str(cwd / "ipython")))
    return notebook


def outputs(notebook: nbformat.NotebookNode, name: str) -> Iterator[nbformat.NotebookNode]:
    [cell] = [cell for cell in notebook.cells if cell.id == name]
    yield from cell.outputs


def printed(notebook: nbformat.NotebookNode, name: str) -> str:
    """What a cell wrote to standard output, and its Markdown."""
    out = list(outputs(notebook, name))
    texts = [output.text for output in out if output.get("name") == "stdout"]
    return "".join(
        [*texts, *(output.data["text/markdown"] for output in out if "text/markdown" in output.get("data", {}))]
    )


def pictures(notebook: nbformat.NotebookNode) -> dict[str, int]:
    """By cell, how many pictures it shows."""
    shown = {
        cell.id: [o for o in cell.get("outputs", ()) if "image/png" in o.get("data", {})] for cell in notebook.cells
    }
    return {name: len(found) for name, found in shown.items() if found}


@pytest.mark.slow
def test_data(tmp_path: Path) -> None:
    make_ade20k_tree(tmp_path / "data/ade20k")
    notebook = run("01_data", tmp_path, COUNTS={"train": 8, "val": 4, "test": 4})
    assert pictures(notebook) == {"scenes": 1, "classes": 1, "augment": 1, "recipe": 1, "disk": 1, "folder": 1}
    assert "short side 520 px at scale 1, crops of 480 px" in printed(notebook, "recipe")
    assert "ade20k: " in printed(notebook, "disk")
    assert "pascal_context is not here: " in printed(notebook, "disk")
    assert printed(notebook, "get").splitlines()[0] == "python src/prepare.py data=pascal_context prepare.dry_run=true"
    assert "ade20k" not in printed(notebook, "get")
    assert "folder: 2 images in val, 11 classes" in printed(notebook, "folder")
    assert {path.name for path in tmp_path.iterdir()} == {"data", "ipython"}  # it leaves nothing else behind


@pytest.mark.slow
def test_jpu_with_a_model_trained_in_it(tmp_path: Path) -> None:
    small = {"SIZE": 128, "TRAIN_SCENES": 16, "EPOCHS": 1, "WIDTH": 16, "FIT_SCENES": 8, "FIT_STEPS": 5}
    notebook = run("02_jpu", tmp_path, **small)
    cells = ["rates-1d", "rates-2d", "maps", "parts", "target-readout", "target-pictures"]
    assert pictures(notebook) == dict.fromkeys(cells, 1)
    assert printed(notebook, "algebra-1d").count("largest difference") == 5
    assert "c5: plain (4, 4), dilated (16, 16)" in printed(notebook, "algebra-2d")
    assert re.search(r"2 steps; on the validation scenes pixAcc [\d.]+%, mIoU", printed(notebook, "train"))
    assert {path.name for path in tmp_path.iterdir()} == {"data", "ipython"}


@pytest.mark.slow
def test_jpu_from_a_checkpoint(tmp_path: Path, best: Path, data_dir: Path) -> None:
    small = {"SIZE": 64, "TRAIN_SCENES": 8, "FIT_SCENES": 8, "FIT_STEPS": 2}
    notebook = run("02_jpu", tmp_path, CHECKPOINT=str(best), DATA_DIR=str(data_dir), **small)
    assert printed(notebook, "train") == ""
    assert "y      (128, 8, 8)" in printed(notebook, "steps")  # four arms of the checkpoint's width, 32


@pytest.mark.slow
def test_ablation_makes_runs_and_reads_them_again(tmp_path: Path) -> None:
    tiny = tuple(override for override in TINY if not override.startswith("upsample."))
    small = {"ARMS": ("none", "jpu"), "SEEDS": (0, 1), "OVERRIDES": tiny, "REPEATS": 2}
    notebook = run("03_ablation", tmp_path, **small)
    assert "4 runs under notebook/" in printed(notebook, "find")
    assert re.search(r"^jpu-s1: \d+ s$", printed(notebook, "find"), re.MULTILINE)
    assert pictures(notebook) == dict.fromkeys(["seeds", "classes", "curves", "cost"], 1)
    rows = re.findall(
        r"^\| (\w+) +\| +2 \| +[\d.]+ ± [\d.]+ \|.*\| +(\S.*?) +\|$", printed(notebook, "table"), re.MULTILINE
    )
    assert [name for name, _ in rows] == ["none", "jpu"]
    assert rows[0][1] == "-"  # nothing stands above itself
    assert re.fullmatch(r"[+-][\d.]+ ± [\d.]+", rows[1][1])

    runs = tmp_path / "outputs/notebook"
    (runs / "none-s1/results.json").unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    again = run("03_ablation", elsewhere, RUNS=str(runs), REPEATS=2)
    assert {path.name for path in elsewhere.iterdir()} == {"ipython"}  # it reads, and leaves nothing behind
    found = printed(again, "find")
    assert "3 runs under notebook/, tested on scenes (whole)\nleft out: none-s1 has no results.json" in found
    assert re.search(r"^jpu-s", printed(again, "find"), re.MULTILINE) is None  # nothing was trained
    assert re.search(r"^\| none +\| +1 \|", printed(again, "table"), re.MULTILINE)
    assert re.search(r"\| +[+-][\d.]+ \|$", printed(again, "table"), re.MULTILINE)  # one pair of seeds has no interval
