"""The commands that the documentation shows: in fenced and indented blocks, and between backticks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from fastfcn.checkpoint import config_dir

ROOT = Path(__file__).resolve().parents[1]
#: Pages whose commands are looked at. Those of docs/results tell how figures were made, with the code of then.
PAGES = sorted({ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data/README.md", *(ROOT / "docs").glob("*.md")})
RECORDS = sorted((ROOT / "docs/results").glob("*.md"))
STARTS = re.compile(r"(python|make|pip|torchrun|srun) ")
#: What a command may need, told beside it or in the sentence before its block.
NEEDS = re.compile(r"needs? (?:the )?(data|a GPU|a cluster|the network|network)")


class Command(NamedTuple):
    """A command of a block.

    Attributes:
        page: path of the file within the repository.
        text: the command, without comments.
        needs: what it is marked with; empty where nothing.
    """

    page: str
    text: str
    needs: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


def blocks(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Code blocks of a page: language, the line of text before the block, lines.

    An indented block is one too; its language is empty.
    """
    before, language, fence = "", "", False
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("```"):
            if fence:
                yield language, before, lines
            fence, language, lines = not fence, line.removeprefix("```").strip(), []
        elif fence:
            lines.append(line)
        elif line.startswith("    "):
            lines.append(line.removeprefix("    "))
        elif line.strip() or lines:
            if lines:
                yield "", before, lines
                lines = []
            before = line.strip() or before


def commands(path: Path) -> list[Command]:
    """Commands of a page's blocks; a line that ends with a backslash goes on in the next."""
    found = []
    for language, before, lines in blocks(path.read_text(encoding="utf-8")):
        if language in ("python", "yaml"):
            continue
        for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
            text, _, comment = line.strip().partition(" #")
            if STARTS.match(f"{text} "):
                mark = NEEDS.search(comment) or NEEDS.search(before)
                found.append(Command(path.relative_to(ROOT).as_posix(), text.strip(), mark[1] if mark else ""))
    return found


def inline(path: Path) -> list[str]:
    """Commands between backticks that call a script."""
    return sorted(set(re.findall(r"`(python src/[^`\n]+)`", path.read_text(encoding="utf-8"))))


def composed(text: str) -> str:
    """Compose what a command that calls a script would run with; ``???`` stands for what must be given and is not."""
    words = shlex.split(text)
    script = next(word for word in words if word.startswith("src/"))
    given = words[words.index(script) + 1 :]
    if "--cfg" in given:
        given = [word for word in given if word not in ("--cfg", "job")]
    # The script itself writes out what a file of a run stands for (tests/test_replay.py).
    replays = ["debug=replay", "replay=step.json"] if any("debug.replay=" in word for word in given) else []
    # A sweep's list: its first value stands for all; test_config composes every option. What Hydra's sweep functions
    # give (interval, range) is known to the sweep alone (tests/search/test_space.py).
    overrides = [
        word if "[" in word else word.split(",")[0]
        for word in given
        if "=" in word and "(" not in word and "debug.replay=" not in word
    ]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose(Path(script).stem, overrides=[*overrides, *replays])
    return OmegaConf.to_yaml(config)
