"""CONTRIBUTING.md is followed to the letter; CITATION.cff and CHANGELOG.md have the form that they claim."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.commands import ROOT, blocks
from tests.scripts import TINY, environment

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
#: The files of the page: the code span that comes before a block names it.
FILES = {
    name[1]: "\n".join(lines) + "\n"
    for language, before, lines in blocks(TEXT)
    if language in ("python", "yaml") and (name := re.fullmatch(r"`((?:src|conf|tests)/\S+)`:", before))
}


def test_the_upsampler_has_forty_lines_at_most() -> None:
    assert set(FILES) == {
        "src/fastfcn/models/upsamplers/sub_pixel.py",
        "conf/upsample/sub_pixel.yaml",
        "tests/models/test_sub_pixel.py",
    }
    assert sum(len(text.splitlines()) for name, text in FILES.items() if not name.startswith("tests")) <= 40


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the files of the page in it."""
    root = tmp_path_factory.mktemp("copy")
    for folder in ("src", "conf", "tests"):
        shutil.copytree(
            ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "goldens", "fixtures")
        )
    shutil.copy(ROOT / "pyproject.toml", root)
    for name, text in FILES.items():
        assert not (root / name).exists()
        (root / name).write_text(text, encoding="utf-8")
    return root


#: The tests and then the script in one process, which imports torch once: what two calls do, sooner.
BOTH = """
import runpy, sys, pytest
cut = sys.argv.index("--")
assert pytest.main(sys.argv[1:cut]) == 0
sys.argv = sys.argv[cut + 1 :]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_the_files_of_the_document_are_an_upsampler(copy: Path, data_dir: Path) -> None:
    commands = [
        line for language, _, lines in blocks(TEXT) for line in lines if "sub_pixel" in line and language == "sh"
    ]
    tests, training = (shlex.split(command) for command in commands)
    assert (tests[:3], training[0]) == (["python", "-m", "pytest"], "python")
    small = [word for word in TINY if not word.startswith("backbone=")]
    words = [*tests[3:], "-p", "no:cacheprovider", "--", *training[1:], *small]
    done = subprocess.run(
        [sys.executable, "-c", BOTH, *words, f"paths.data_dir={data_dir}", f"hydra.run.dir={copy / 'run'}"],
        cwd=copy, env=environment(PYTHONPATH=f"{copy / 'src'}:{copy}"), capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "5 passed" in done.stdout, done.stdout  # its own, and the contract with each head
    assert "test of encoding-sub_pixel-resnet18 on scenes" in done.stdout
    assert (copy / "run/checkpoints/best.ckpt").is_file()


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".py")])
def test_they_are_as_the_linter_wants_them(name: str, copy: Path) -> None:
    for words in (["format", "--check"], ["check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "--no-cache", name],
            cwd=copy, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_where_an_upsampler_is_named_is_where_the_page_says() -> None:
    """The last upsampler that came in stands in each of the places, and each of them exists."""
    [places] = re.findall(r"^An upsampler that is to stay(.+)\Z", TEXT, flags=re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"[\w/]+\.(?:py|yaml|md)", places))
    assert len(named) == 7
    for name in named:
        path = next(p for p in (ROOT / name, ROOT / "src/fastfcn" / name) if p.is_file())
        assert "dysample" in path.read_text(encoding="utf-8"), name


def test_the_citation_has_what_the_format_asks_for() -> None:
    """The required keys and fixed values of CFF 1.2.0's schema."""
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cff)
    known = {
        "cff-version",
        "message",
        "type",
        "title",
        "abstract",
        "authors",
        "version",
        "license",
        "keywords",
        "references",
    }
    assert set(cff) <= known  # no key that the schema does not have
    assert (cff["cff-version"], cff["type"], cff["license"]) == ("1.2.0", "software", "MIT")
    for work in (cff, *cff["references"]):
        assert all("name" in author or {"family-names", "given-names"} == set(author) for author in work["authors"])
    for reference in cff["references"]:
        assert {"type", "title", "authors"} <= set(reference)
        assert all({"type", "value"} <= set(entry) for entry in reference["identifiers"])
        assert {entry["type"] for entry in reference["identifiers"]} <= {"doi", "url", "swh", "other"}
    assert all(isinstance(word, str) for word in cff["keywords"])


def test_one_version_everywhere() -> None:
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"[{version}]" in changes or f"to become {version}" in changes


def test_the_changelog_has_its_form() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# Changelog"
    releases = [line for line in lines if line.startswith("## ")]
    assert releases[0] == "## [Unreleased]"
    assert all(re.fullmatch(r"## \[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", line) for line in releases[1:])
    kinds = {line.removeprefix("### ") for line in lines if line.startswith("### ")}
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
