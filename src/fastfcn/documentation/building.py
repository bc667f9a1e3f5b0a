"""From the repository to the site: the pages are laid out in a folder, from which Zensical makes HTML."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastfcn.documentation import pages, reference
from fastfcn.errors import UserError
from fastfcn.whole_files import check_folder

#: Entry of the navigation in docs/zensical.toml in whose place the pages of the reference come.
REFERENCE = '"configuration"'


def build(root: Path, out: Path) -> Path:
    """Make the site; nothing is fetched, and what is made fetches nothing.

    Args:
        root: the repository.
        out: a folder for the site (``site/``) and what it was made from (``source/``); what these held before goes.

    Returns:
        The page to begin with.

    Raises:
        UserError: this is no checkout of the repository, Zensical is missing, or a page is wrong.
    """
    if not (root / "docs/zensical.toml").is_file():
        raise UserError(f"{root} has no docs/zensical.toml: call this in the folder of the repository.")
    if find_spec("zensical") is None:
        raise UserError("Zensical is not installed: pip install -e .[docs].")
    check_folder(out, key="out")
    lay_out(root, out)
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "--config-file", "zensical.toml"]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)
    if done.returncode:
        told = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)  # without colours
        raise UserError(f"the pages cannot be built:\n{told}".rstrip())
    return out / "site/index.html"


def lay_out(root: Path, out: Path) -> None:
    """Write what Zensical reads: pages, pictures, style sheet, script and configuration.

    Args:
        root: the repository.
        out: the folder; its ``source/`` and ``site/`` are made anew.
    """
    collected = pages.collect(root) | reference.pages(root / "conf")
    settings = configuration(root)
    for folder in ("source", "site", ".cache"):
        shutil.rmtree(out / folder, ignore_errors=True)
    for name, text in collected.items():
        path = out / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for path, name in pages.others(root):
        (out / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, out / "source" / name)
    (out / "zensical.toml").write_text(settings, encoding="utf-8")


def configuration(root: Path) -> str:
    """docs/zensical.toml with the pages of the reference in its navigation."""
    text = (root / "docs/zensical.toml").read_text(encoding="utf-8")
    if text.count(REFERENCE) != 1:
        raise UserError(f"docs/zensical.toml has no place for the reference: write {REFERENCE} in nav once.")
    entries = ", ".join(
        f"{{ {json.dumps(k)} = {json.dumps(v)} }}" for e in reference.navigation(root / "conf") for k, v in e.items()
    )
    return text.replace(REFERENCE, f'{{ "Configuration" = [{entries}] }}')


def listed(root: Path) -> list[str]:
    """Pages of the navigation, in its order."""
    return list(_leaves(tomllib.loads(configuration(root))["project"]["nav"]))


def _leaves(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    return [leaf for inner in (entry.values() if isinstance(entry, dict) else entry) for leaf in _leaves(inner)]
