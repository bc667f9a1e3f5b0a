"""What a folder of predictions says of itself: by which model and how they were made, and which are there whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import filelock

from fastfcn.errors import UserError
from fastfcn.hub.pulling import local_file
from fastfcn.types import DataFacts
from fastfcn.whole_files import PARTIAL, check_folder, write_text

#: Says how the predictions were made; and, a line each, what is done.
RECORD_FILE, DONE_FILE = "predictions.json", "done.jsonl"

_LOCK = ".lock"
_VERSION = 1


def identity(model: str, facts: DataFacts, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What predictions depend on beside their images, in plain values.

    Args:
        model: Its file or its address on the hub; the SHA-256 of the file counts and not the name.
        facts: Of its classes.
        settings: Of the Segmenter.
    """
    file = local_file(model)
    digest = _sha256(file)
    if (weights := file.with_suffix(".bin")).is_file() and file.suffix == ".xml":  # OpenVINO's lie beside
        digest = f"{digest} {_sha256(weights)}"
    content = {
        "version": _VERSION,
        "model": {"path": str(model), "sha256": digest},
        "settings": dict(settings),
        "classes": list(facts.class_names),
        "palette": [list(colour) for colour in facts.palette],
    }
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_hash(of: Mapping[str, Any]) -> str:
    """Six letters and digits that stand for a model and its settings."""
    return hashlib.sha256(json.dumps(_counted(of), sort_keys=True).encode()).hexdigest()[:6]


def _counted(content: Mapping[str, Any]) -> dict[str, Any]:
    """All of it but the model's path."""
    return {**content, "model": content["model"]["sha256"]}


class Record:
    """The record of a folder, held open by one process; see `opened`.

    Args:
        folder: Of the predictions.
        about: What they depend on.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder = folder
        self._about = dict(about)
        self._done: dict[str, dict[str, Any]] = {}

    @property
    def names(self) -> set[str]:
        """The inputs of which predictions are there."""
        return set(self._done)

    def begin(self, *, overwrite: bool) -> Self:
        """Take up what is there, or begin anew.

        Raises:
            UserError: The folder holds predictions that were made otherwise, or other files.
        """
        path = self.folder / RECORD_FILE
        others = [each.name for each in self.folder.iterdir() if each.name != _LOCK]
        if others and not overwrite and not path.is_file():
            raise UserError(
                f"out={self.folder} holds other files ({min(others)}): choose a new folder, or overwrite=true."
            )
        if path.is_file() and not overwrite:
            if differs := _difference(_read(path), self._about):
                raise UserError(
                    f"out={self.folder} holds predictions that were made otherwise ({differs}): choose another folder, "
                    "or overwrite=true."
                )
            self._done = dict(_lines(self.folder / DONE_FILE))
        else:
            (self.folder / DONE_FILE).unlink(missing_ok=True)
        for left in self.folder.rglob(f".*{PARTIAL}*"):  # by a process that was killed
            left.unlink(missing_ok=True)
        write_text(path, json.dumps(self._about, indent=2) + "\n")
        write_text(self.folder / DONE_FILE, "".join(f"{json.dumps(line)}\n" for line in self._done.values()))
        return self

    def has(self, name: str, source: Path, kinds: Mapping[str, str]) -> bool:
        """Whether predictions of an input are there, of the file as it is now.

        Args:
            name: Of the input.
            source: Its file.
            kinds: What is wanted: the path below the folder by kind, a file or a folder of files.
        """
        line = self._done.get(name)
        if line is None or line.get("source") != _state(source):
            return False
        known = line.get("outputs", {})
        return all(known.get(kind) == path and (self.folder / path).exists() for kind, path in kinds.items())

    def add(self, name: str, source: Path | None, kinds: Mapping[str, str], **more: Any) -> None:
        """Note that predictions of an input are written whole; see `has`."""
        before = self._done.get(name, {})
        state = None if source is None else _state(source)
        outputs = {**(before.get("outputs", {}) if before.get("source") == state else {}), **kinds}
        line = {"input": name, "file": str(source), "source": state, "outputs": outputs, **more}
        self._done[name] = line
        with (self.folder / DONE_FILE).open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(line)}\n")


@contextmanager
def opened(folder: Path, about: Mapping[str, Any], *, overwrite: bool) -> Iterator[Record]:
    """The record of a folder, which is made where it does not exist; no other process may write there meanwhile.

    Raises:
        UserError: The folder cannot be written to, another process writes there, or what is there was made otherwise.
    """
    check_folder(folder, key="out")
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / _LOCK)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout as error:
        raise UserError(f"out={folder}: another process writes predictions there: wait for it.") from error
    record = Record(folder, about)
    try:
        yield record.begin(overwrite=overwrite)
    finally:
        if missing and not record.names:
            _clear(folder)
        lock.release()
        (folder / _LOCK).unlink(missing_ok=True)
        for path in missing:
            with suppress(OSError):  # there is something in it
                path.rmdir()


def _clear(folder: Path) -> None:
    """Take back what was begun in a new folder where nothing was written."""
    for path in sorted(folder.rglob("*"), reverse=True):
        with suppress(OSError):
            path.rmdir()
    if {path.name for path in folder.iterdir()} <= {RECORD_FILE, DONE_FILE, _LOCK}:
        for name in (RECORD_FILE, DONE_FILE):
            (folder / name).unlink(missing_ok=True)


def _state(source: Path) -> list[int]:
    """What changes when a file does: its size in bytes and the time of its last change."""
    found = source.stat()
    return [found.st_size, found.st_mtime_ns]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _counted(content)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise UserError(f"{path} is damaged: choose another folder by out=..., or overwrite=true.") from error
    found: dict[str, Any] = content
    return found


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is done; a line that a killed process has left unfinished is none."""
    if not path.is_file():
        return
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
            yield str(line["input"]), line
        except (ValueError, TypeError, KeyError):
            continue


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first thing that is another, in words; nothing where all is the same."""
    old, new = _counted(before), _counted(now)
    if old.get("model") != new["model"]:
        return f"by the model {before['model'].get('path')}, now {now['model']['path']}"
    was, now_is = (_flat(content.get("settings", {})) for content in (old, new))
    for key in {**was, **now_is}:
        if was.get(key) != now_is.get(key):
            return f"{key}={was.get(key)}, now {now_is.get(key)}"
    return "" if old == new else "with other classes, or by another version of the program"


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings by their keys with dots."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": each for inner, each in _flat(value).items()}
        else:
            flat[key] = value
    return flat
