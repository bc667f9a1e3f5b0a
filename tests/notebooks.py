"""Notebooks as they lie in git: no outputs, no counts, no traces of the machine that ran them.

`python -m tests.notebooks FILE ...` writes them so, where no file is named all of `notebooks/`, and exits with 1 where
it changed one, as a hook before a commit does.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat

NOTEBOOKS = sorted(Path(__file__).resolve().parents[1].joinpath("notebooks").glob("*.ipynb"))

#: What is said of the kernel: any Python 3 will do.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook in the present layout, in which each cell has an id."""
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)
    return notebook


def cleaned(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without what running or looking at it leaves: of a cell's metadata its tags alone stay."""
    clean = copy.deepcopy(notebook)
    clean.metadata = nbformat.from_dict(METADATA)
    for cell in clean.cells:
        cell.metadata = nbformat.from_dict({key: cell.metadata[key] for key in ("tags",) if key in cell.metadata})
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return clean


def text(notebook: nbformat.NotebookNode) -> str:
    """The file's text."""
    return str(nbformat.writes(notebook)).rstrip("\n") + "\n"


def main(arguments: Sequence[str]) -> int:
    """Clean the files; gives the exit code."""
    changed = 0
    for path in map(Path, arguments or NOTEBOOKS):
        before, after = path.read_text(encoding="utf-8"), text(cleaned(read(path)))
        if before != after:
            path.write_text(after, encoding="utf-8")
            print(f"cleared the outputs of {path}")
            changed = 1
    return changed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
