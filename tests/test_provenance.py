import json
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fastfcn import provenance


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A committed file in a repository of its own."""
    git(tmp_path, "init", "--quiet", "--initial-branch", "trunk")
    (tmp_path / "code.py").write_text("x = 1\n")
    (tmp_path / ".gitignore").write_text("outputs/\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path / "code.py"


def test_clean_repository(source: Path) -> None:
    head = git(source.parent, "rev-parse", "HEAD")
    assert provenance.git_state(source) == {"commit": head, "branch": "trunk", "dirty": False}


def test_changed_and_untracked_files_are_dirty_but_ignored_ones_are_not(source: Path) -> None:
    (source.parent / "outputs").mkdir()
    (source.parent / "outputs" / "x.txt").write_text("")
    assert provenance.git_state(source)["dirty"] is False
    (source.parent / "new.py").write_text("")
    assert provenance.git_state(source)["dirty"] is True
    (source.parent / "new.py").unlink()
    source.write_text("x = 2\n")
    assert provenance.git_state(source)["dirty"] is True


def test_detached_head_has_no_branch(source: Path) -> None:
    git(source.parent, "checkout", "--quiet", "--detach")
    state = provenance.git_state(source)
    assert state["branch"] is None
    assert state["commit"] is not None


def test_foreign_repository_tells_nothing(source: Path) -> None:
    installed = source.parent / "outputs" / "code.py"
    installed.parent.mkdir()
    installed.write_text("")
    assert provenance.git_state(installed) == {"commit": None, "branch": None, "dirty": None}


def test_state_is_that_of_the_source_inside_a_git_hook(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    assert provenance.git_state(source)["branch"] == "trunk"


def test_no_git_is_no_error(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert provenance.git_state(source)["commit"] is None


def test_write_leaves_three_files_that_can_be_read(tmp_path: Path) -> None:
    overrides = ["head=encoding", 'data.names=["a: b"]', "x='yes'", "+note=\u00e4"]
    run = tmp_path / "run"
    provenance.write(run, config_yaml="a: 1\n", overrides=overrides)
    assert OmegaConf.load(run / "config.yaml") == {"a": 1}
    assert OmegaConf.to_container(OmegaConf.load(run / "overrides.yaml")) == overrides
    collected = json.loads((run / "provenance.json").read_text())
    assert collected["packages"]["torch"]
    assert collected["hardware"]["cores"] >= 1
    assert collected["hardware"]["cpu"]
    assert "pytest" in collected["command"]


def test_no_overrides_are_an_empty_list(tmp_path: Path) -> None:
    provenance.write(tmp_path, config_yaml="", overrides=[])
    assert OmegaConf.to_container(OmegaConf.load(tmp_path / "overrides.yaml")) == []
