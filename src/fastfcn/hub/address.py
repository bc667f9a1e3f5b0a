"""Where a model lies on the hub: ``hf://user/name``, or ``hf://user/name@revision``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from fastfcn.errors import UserError

#: What an address begins with; a `Path` makes one slash of two.
PREFIX = "hf://"

#: What a repository holds: weights with the facts of their model; what is said of them; the card, under the name that
#: the hub shows.
WEIGHTS_FILE, CONFIG_FILE, CARD_FILE = "model.safetensors", "config.json", "README.md"

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"


class Address(NamedTuple):
    """A repository at a revision.

    Attributes:
        repo: ``user/name``.
        revision: A branch, a tag or a commit; None: what the main branch has now.
    """

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        """As it is typed."""
        return f"{PREFIX}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def is_address(path: str | Path) -> bool:
    """Whether something that stands for a file lies on the hub."""
    return re.match(r"hf:/", str(path)) is not None


def parse(text: str | Path) -> Address:
    """Read an address.

    Raises:
        UserError: It is none.
    """
    rest = re.sub(r"^hf:/{1,2}", "", str(text))
    repo, at, revision = rest.partition("@")
    if (at and not revision) or not is_repo(repo):
        raise UserError(f"{text} is no address of a model: give hf://user/name, or hf://user/name@revision.")
    return Address(repo, revision or None)


def is_repo(text: str) -> bool:
    """Whether a text is ``user/name``."""
    return re.fullmatch(f"{_NAME}/{_NAME}", text) is not None and not re.search(r"--|\.\.", text)
