"""A configuration file with its comments: they are the documentation, and the reference is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from fastfcn.errors import UserError

#: What tells Hydra how to build an object, and a reader nothing.
SILENT = ("_partial_", "_convert_")


class Key(NamedTuple):
    """One value that can be set.

    Attributes:
        name: with the keys above it, ``dataset.root``.
        default: as it is written in the file; of an object the class, of a mapping nothing.
        comment: what the file says of it.
        kind: ``value``, ``object`` (it has a ``_target_``) or ``mapping``.
    """

    name: str
    default: str
    comment: str
    kind: str


class Choice(NamedTuple):
    """One entry of a defaults list.

    Attributes:
        group: folder of the options; empty where the entry names a file beside this one.
        option: the file that is chosen, ``null`` for none.
        comment: what the file says of it.
        override: it changes what another file has chosen.
    """

    group: str
    option: str
    comment: str
    override: bool


class ConfigFile(NamedTuple):
    """What a file of conf/ says.

    Attributes:
        about: the lines of its head, without ``#`` and without Hydra's ``@package``.
        at_root: its keys stand at the root of the configuration, not below the name of its group.
        target: the class or function that it configures, or nothing.
        choices: its defaults list.
        keys: in the file's order, those of mappings behind the mapping's own.
        closing: comment lines behind the last key.
    """

    about: tuple[str, ...]
    at_root: bool
    target: str
    choices: tuple[Choice, ...]
    keys: tuple[Key, ...]
    closing: str


def read(path: Path) -> ConfigFile:
    """Read a YAML file and what its comments say of each key.

    A comment belongs to the key of its line, and so do the comment lines below it that stand further right than the
    next key. A comment line at a key's own column belongs to the key that follows.

    Raises:
        UserError: it is no YAML mapping.
    """
    text = path.read_text(encoding="utf-8")
    try:
        root = yaml.compose(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}.") from error
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path} holds no mapping: write key: value.")
    lines = text.splitlines()
    comments = [_comment(line) for line in lines]
    head = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    about = [line.removeprefix("#").removeprefix(" ") for line in lines[:head]]
    reader = _Reader(lines, comments, head)
    pairs = [] if root is None else root.value
    plain = {key.value: value for key, value in pairs}
    target = plain.get("_target_")
    return ConfigFile(
        about=tuple(line for line in about if not line.startswith("@package")),
        at_root="@package _global_" in about,
        target=target.value if target is not None else "",
        choices=tuple(_choices(plain["defaults"], reader)) if "defaults" in plain else (),
        keys=tuple(_keys(root, "", reader)) if root is not None else (),
        closing=reader.closing(),
    )


class _Reader:
    """The comments of a file, each handed to the key that it belongs to."""

    def __init__(self, lines: list[str], comments: list[tuple[int, str] | None], head: int) -> None:
        self.lines, self.comments, self.head = lines, comments, head

    def _alone(self, index: int) -> bool:
        return self.lines[index].lstrip().startswith("#")

    def of(self, node: yaml.Node) -> str:
        """What is said of the key (or the entry of a list) that begins at a node."""
        row, column = node.start_mark.line, node.start_mark.column
        before: list[str] = []
        above = row - 1
        while above >= self.head and self._alone(above) and self._column(above) == column:
            before.insert(0, self._text(above))
            above -= 1
        beside = [self._text(row)] if self.comments[row] else []
        below = row + 1
        while beside and below < len(self.lines) and self._alone(below) and self._column(below) > self._next(below):
            beside.append(self._text(below))
            below += 1
        if before and beside and before[-1].endswith("."):
            beside[0] = beside[0][0].upper() + beside[0][1:]
        return " ".join([*before, *beside])

    def within(self, node: yaml.Node) -> str:
        """What is said of the entries of a list that takes several lines."""
        rows = range(node.start_mark.line, node.end_mark.line)
        return "; ".join(self._text(row) for row in rows if self.comments[row] and not self._alone(row))

    def closing(self) -> str:
        """Comment lines that no key follows."""
        said: list[str] = []
        for index in range(len(self.lines) - 1, self.head - 1, -1):
            if not self._alone(index) or self._column(index) > 0:
                break
            said.insert(0, self._text(index))
        return " ".join(said)

    def source(self, node: yaml.Node) -> str:
        """A value as it stands in the file, on one line."""
        first, last = node.start_mark, node.end_mark
        if first.line == last.line:
            text = self.lines[first.line][first.column : last.column]
        else:
            text = yaml.safe_dump(_plain(node), default_flow_style=True, width=10_000, sort_keys=False)
        return str(text).strip()

    def _column(self, index: int) -> int:
        comment = self.comments[index]
        return -1 if comment is None else comment[0]

    def _text(self, index: int) -> str:
        comment = self.comments[index]
        return "" if comment is None else comment[1]

    def _next(self, index: int) -> int:
        """Column of the first key from a line on: a comment at it belongs to that key."""
        for line in self.lines[index:]:
            if line.strip() and not line.lstrip().startswith("#"):
                return len(line) - len(line.lstrip())
        return 0


def _comment(line: str) -> tuple[int, str] | None:
    """Column and text of a line's comment; a ``#`` within quotes is none."""
    quote = ""
    for column, sign in enumerate(line):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'" and (column == 0 or line[column - 1] in " [{,:"):
            quote = sign
        elif sign == "#" and (column == 0 or line[column - 1] in " \t"):
            return column, line[column + 1 :].strip()
    return None


def _choices(node: yaml.Node, reader: _Reader) -> Iterator[Choice]:
    for entry in node.value:
        if isinstance(entry, yaml.ScalarNode):
            if entry.value != "_self_":
                yield Choice("", entry.value, reader.of(entry), override=False)
            continue
        [(key, value)] = entry.value
        words = key.value.split()
        group = words[-1].split("@")[0].lstrip("/")
        yield Choice(group, value.value, reader.of(key), override="override" in words)


def _keys(node: yaml.MappingNode, above: str, reader: _Reader) -> Iterator[Key]:
    for key, value in node.value:
        if key.value in ("_target_", *SILENT) or (not above and key.value == "defaults"):
            continue
        name = f"{above}{key.value}"
        if not isinstance(value, yaml.MappingNode) or value.flow_style:
            several = value.start_mark.line > key.start_mark.line
            said = [reader.of(key), reader.within(value) if several else ""]
            yield Key(name, reader.source(value), "; ".join(text for text in said if text), "value")
            continue
        target = next((pair for pair in value.value if pair[0].value == "_target_"), None)
        if target is None:
            yield Key(name, "", reader.of(key), "mapping")
        else:
            said = [reader.of(key), reader.of(target[0])]
            yield Key(name, target[1].value, "; ".join(text for text in said if text), "object")
        yield from _keys(value, f"{name}.", reader)


def _plain(node: yaml.Node) -> object:
    """A node as Python's own types, its scalars as they are written."""
    if isinstance(node, yaml.MappingNode):
        return {key.value: _plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(value) for value in node.value]
    return yaml.safe_load(node.value) if node.value else None
