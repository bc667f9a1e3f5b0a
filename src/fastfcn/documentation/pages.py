"""What the site is made of: the Markdown of docs/ and a few files beside it, with links that hold within the site."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fastfcn.documentation import reference
from fastfcn.errors import UserError

#: Files of the repository that are pages as well, by the name that they have there.
BESIDE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "data/README.md": "data.md"}
PICTURES = (".png", ".svg", ".jpg")
LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)")
#: Fenced code and code between backticks: no link is one in them.
CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.DOTALL | re.MULTILINE)


def sources(root: Path) -> dict[str, str]:
    """Pages of the repository.

    Args:
        root: the repository.

    Returns:
        Names within the site by paths within the repository, both with ``/``.
    """
    pages = {path.relative_to(root).as_posix() for path in (root / "docs").rglob("*.md")}
    return {page: page.removeprefix("docs/") for page in sorted(pages)} | BESIDE


def collect(root: Path) -> dict[str, str]:
    """Read all pages and put their links right.

    A link to another page or picture leads there within the site, one to conf/ to the reference. One to a file of the
    repository that is no page keeps its text alone.

    Args:
        root: the repository.

    Returns:
        Markdown by the name within the site.

    Raises:
        UserError: a link leads to a file that is not there.
    """
    own = sources(root)
    known = own | reference.sources(root / "conf")
    return {
        name: _put_right((root / path).read_text(encoding="utf-8"), path, root, known) for path, name in own.items()
    }


def others(root: Path) -> Iterator[tuple[Path, str]]:
    """Pictures, style sheet and script of docs/, with their names within the site."""
    for path in sorted((root / "docs").rglob("*")):
        if path.suffix in (*PICTURES, ".css", ".js"):
            yield path, path.relative_to(root / "docs").as_posix()


def _put_right(text: str, path: str, root: Path, known: dict[str, str]) -> str:
    # A link's text may hold code, so links are looked for in the whole text, and those that begin within code left out.
    code = [match.span() for match in CODE.finditer(text)]

    def moved(match: re.Match[str]) -> str:
        if any(first < match.start() < last for first, last in code):
            return match[0]
        return _moved(match, path, root, known)

    return LINK.sub(moved, text)


def _moved(match: re.Match[str], path: str, root: Path, known: dict[str, str]) -> str:
    target, _, anchor = match["target"].partition("#")
    if not target or re.match(r"[a-z]+:", target):
        return match[0]
    wanted = os.path.normpath(PurePosixPath(path).parent / target).replace(os.sep, "/")
    if not (root / wanted).exists():
        raise UserError(f"{path} links to {target}, which is not there: mend the link.")
    inside = known.get(wanted)
    if inside is None and wanted.startswith("docs/") and wanted.endswith(PICTURES):
        inside = wanted.removeprefix("docs/")
    if inside is None:
        return match["text"]
    relative = os.path.relpath(inside, PurePosixPath(known[path]).parent).replace(os.sep, "/")
    return f"{match['image']}[{match['text']}]({relative}{'#' if anchor else ''}{anchor})"
