"""What the preparation of every data set has in common: its lock, the sources, the counts, the preview."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from fastfcn import whole_files
from fastfcn.errors import UserError
from fastfcn.preparation import disk
from fastfcn.preparation.download import Source, checksum, state
from fastfcn.preparation.fingerprint import Prepared

#: A source as the configuration gives it: file, url and sha1; None: it is not wanted.
SourceEntry = Mapping[str, str | None] | None


class Need(NamedTuple):
    """A file of the preview.

    Attributes:
        source: The file.
        target: Where its content goes.
        needed: False where its content is there already.
    """

    source: Source
    target: Path
    needed: bool


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold a data set's folder, so that two preparations do not meet in it; the folder is made.

    Raises:
        UserError: Another process holds it, or it cannot be made.
    """
    lock = FileLock(root / ".lock", timeout=0)
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise UserError(f"Another process prepares {root} at this moment: wait until it has ended.") from error
    except OSError as error:  # a file of this name, no rights, a disk that is full or read-only
        raise UserError(
            f"{error.filename or root} cannot be used ({error.strerror}): make it a folder that can be written to, or "
            "set data.dataset.root."
        ) from error
    try:
        yield
    finally:
        lock.release()


def source(sources: Mapping[str, SourceEntry], key: str) -> Source:
    """One of the sources of the configuration.

    Raises:
        UserError: It is not given, or not with file and address.
    """
    entry = sources.get(key)
    if entry is None:
        raise UserError(f"prepare.sources.{key} is not given: it needs file, url and sha1 (null: none is known).")
    file, url, sha1 = (entry.get(name) for name in ("file", "url", "sha1"))
    if not file or not url or Path(file).name != file:
        wrong = "file" if not file or Path(file).name != file else "url"
        raise UserError(f"prepare.sources.{key}.{wrong}={entry.get(wrong)}: give the file's name and its address.")
    return Source(file=file, url=url, sha1=sha1)


def checksums(sources: Iterable[Source], downloads: Path) -> dict[str, str | None]:
    """SHA-1 of the files that are here, by name; of what was extracted by hand nothing is known."""
    found = [(source.file, state(source, downloads)) for source in sources]
    return {file: checksum(here.path) for file, here in found if here.status == "complete"}


def stems(folder: Path, suffix: str) -> set[str]:
    """Names without suffix of the files of one kind in a folder; none where there is no folder."""
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        names = [Path(entry.name) for entry in entries]
    return {name.stem for name in names if name.suffix == suffix and not name.name.startswith(".")}


def _in_numbers(prepared: Prepared) -> str:
    return f"{in_words(prepared.counts)} (fingerprint {prepared.fingerprint[:12]}...)"


def write_text(path: Path, text: str) -> None:
    """Write a file at once: whoever reads it sees all of it or none."""
    with disk.writing(path, kept="what was done before is kept"):
        whole_files.write_text(path, text)


def in_words(counts: Mapping[str, int]) -> str:
    """`20,210 train, 2,000 val, 3,352 test images`."""
    return ", ".join(f"{count:,} {split}" for split, count in counts.items()) + " images"


def nothing_to_do(root: Path, prepared: Prepared) -> str:
    """What a preparation says that has nothing to do."""
    return f"{prepared.dataset} is prepared in {root}: {_in_numbers(prepared)}; nothing to do."


def done(root: Path, prepared: Prepared, *, sources: Iterable[Source], downloads: Path) -> str:
    """The last words of a preparation: what is there, and what comes next."""
    lines = [f"{prepared.dataset} is ready in {root}: {_in_numbers(prepared)}."]
    if files := [source.file for source in sources if (downloads / source.file).is_file()]:
        lines.append(f"Not needed any more in {downloads}, you may delete: {', '.join(files)}.")
    lines.append(f"Train on it: python src/train.py experiment={prepared.dataset}/encnet_jpu_r50")
    return "\n".join(lines)


def preview(name: str, root: Path, *, needs: Sequence[Need], downloads: Path, then: Sequence[str]) -> None:
    """Print what a preparation would do; looks at this machine only and changes nothing.

    Args:
        name: The data set.
        root: Its folder.
        needs: The files that it is made of.
        downloads: Folder of the files as they are fetched.
        then: What would be done with them.
    """
    print(f"What `python src/prepare.py data={name}` would do (prepare.dry_run=true changes nothing):\n")
    width = max((len(need.source.file) for need in needs), default=0) + 2
    print(f"{'file':{width}}{'state':14}{'size here':14}goes to")
    for file, target, needed in needs:
        found = state(file, downloads)
        status = str(found.status) if needed else "not needed"
        print(f"{file.file:{width}}{status:14}{_size(found.bytes):14}{target}")
        print(f"{'':{width}}address {file.url}")
        print(f"{'':{width}}SHA-1   {file.sha1 or 'none published'}")
    print("" if then else f"\nNothing is to be done: {name} is prepared in {root}.")
    for number, step in enumerate(then, start=1):
        print(f"{number}. {step}")
    for folder in dict.fromkeys((downloads, root)):
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        print(f"Free space for {folder}: {_size(shutil.disk_usage(there).free)}.")


def _size(count: float) -> str:
    """Bytes in words."""
    if not count:
        return "-"
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
