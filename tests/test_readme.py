"""The README says what is true: its commands compose, its options are those of conf/, its files and targets exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from fastfcn.checkpoint import config_dir

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"`(python src/[^`]+)`", README)))


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 8


@pytest.mark.parametrize("command", COMMANDS)
def test_command_composes(command: str) -> None:
    _, script, *words = shlex.split(command)
    assert (ROOT / script).is_file()
    # A multirun's list: its first value stands for all; test_config composes every option.
    overrides = [word if "[" in word else word.split(",")[0] for word in words if not word.startswith("-")]
    # The script itself writes out what a file of a run stands for (tests/test_replay.py).
    replays = ["debug=replay", "replay=step.json"] if any("debug.replay=" in word for word in words) else []
    overrides = [*(word for word in overrides if "debug.replay=" not in word), *replays]
    name = Path(script).stem
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose(name, overrides=overrides)
    assert "???" not in OmegaConf.to_yaml(config), f"{command} leaves a mandatory value out"


def test_tables_of_options_are_the_files_of_conf() -> None:
    rows = dict(re.findall(r"^\| `(\w+)`(?: \([^|]*\))? \| (.+) \|$", README, flags=re.MULTILINE))
    assert set(rows) == {
        "backbone",
        "upsample",
        "head",
        "data",
        "loss",
        "inference",
        "optimize",
        "sweep",
        "trainer",
        "logger",
    }
    for group, cell in rows.items():
        options = {path.stem for path in (config_dir() / group).glob("*.yaml")}
        assert set(re.findall(r"`([a-z0-9_]+)`", cell)) == options, group


def test_links_and_targets_exist() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^ {4}|`)make ([a-z-]+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
