"""Prepare ADE20K: the scene parsing challenge's two archives, extracted and counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fastfcn.data.ade20k import CHALLENGE, RELEASE_TEST
from fastfcn.data.pairing import read_lines
from fastfcn.errors import UserError
from fastfcn.preparation import archives, download, fingerprint, steps

NAME = "ade20k"

#: What each source holds: its folder at the top.
FOLDERS = {"images": CHALLENGE, "test": RELEASE_TEST}

#: What the labelled splits are called on disk.
ON_DISK = {"train": "training", "val": "validation"}


def prepare(
    *,
    root: str | Path,
    sources: Mapping[str, steps.SourceEntry],
    counts: Mapping[str, int],
    downloads: str | Path,
    mirrors: Sequence[str] = (),
    retries: int = 5,
    timeout: float = 30.0,
    dry_run: bool = False,
) -> None:
    """Fetch, extract and count ADE20K; what is there already is kept, and a prepared data set is left alone.

    Args:
        root: Folder of the data set.
        sources: `images` (ADEChallengeData2016.zip) and `test` (release_test.zip; None: without it), each with file,
            url and sha1.
        counts: Expected images of `train`, `val` and `test`.
        downloads: Folder of the archives.
        mirrors: Other addresses to fetch from.
        retries: How often a broken connection is taken up again.
        timeout: Seconds without an answer after which a connection counts as broken.
        dry_run: Print what would be done, and do nothing.

    Raises:
        UserError: A file cannot be fetched, is damaged or incomplete, or the disk is full.
    """
    root, downloads = Path(root).expanduser(), Path(downloads).expanduser()
    wanted = {key: steps.source(sources, key) for key in FOLDERS if key == "images" or sources.get(key) is not None}
    expected = {split: counts[split] for split in ("train", "val", *(["test"] if "test" in wanted else []))}
    if dry_run:
        _preview(root, wanted, expected, downloads)
        return
    with steps.locked(root):
        known = fingerprint.read(root)
        if known is not None and fault(root, expected) is None:
            print(steps.nothing_to_do(root, known))
            return
        missing = {key: source for key, source in wanted.items() if not (root / FOLDERS[key]).exists()}
        fetched = download.fetch(
            list(missing.values()), downloads, mirrors=mirrors, retries=retries, timeout=timeout
        )  # fmt: skip
        for key, archive in zip(missing, fetched, strict=True):
            archives.extract(archive, root / FOLDERS[key])
        if (wrong := fault(root, expected)) is not None:
            raise UserError(wrong)
        prepared = fingerprint.write(
            root,
            dataset=NAME,
            counts=expected,
            sources=steps.checksums(wanted.values(), downloads),
            images=[path for key in wanted for path in (root / FOLDERS[key]).rglob("*.jpg")],
            labels=[*(root / CHALLENGE / "annotations").rglob("*.png"), *(root / RELEASE_TEST).glob("list.txt")],
        )
    print(steps.done(root, prepared, sources=wanted.values(), downloads=downloads))


def fault(root: Path, counts: Mapping[str, int]) -> str | None:
    """What is wrong with an extracted ADE20K, in one sentence; None if all is there.

    Args:
        root: Folder of the data set.
        counts: Expected images of each split.
    """
    for split, expected in counts.items():
        folder = root / (RELEASE_TEST if split == "test" else CHALLENGE)
        remedy = f"delete {folder} and run the command again, or correct prepare.counts.{split}"
        if split == "test":
            images = steps.stems(folder / "testing", ".jpg")
            lists = folder / "list.txt"
            partners = {Path(line.strip()).stem for line in read_lines(lists)} if lists.is_file() else set()
            place, partner = folder / "testing", f"line in {lists}"
        else:
            place = folder / "images" / ON_DISK[split]
            images = steps.stems(place, ".jpg")
            partners = steps.stems(folder / "annotations" / ON_DISK[split], ".png")
            partner = f"mask in {folder / 'annotations' / ON_DISK[split]}"
        if len(images) != expected:
            return f"{place} holds {len(images):,} images, but {expected:,} are expected: {remedy}."
        if lonely := images - partners:
            return f"{place / min(lonely)}.jpg has no {partner} ({len(lonely)} images have none): {remedy}."
    return None


def _preview(root: Path, wanted: Mapping[str, download.Source], counts: Mapping[str, int], downloads: Path) -> None:
    needs = [
        steps.Need(source, root / FOLDERS[key], not (root / FOLDERS[key]).exists()) for key, source in wanted.items()
    ]
    then = [f"extract {need.source.file} to {need.target}" for need in needs if need.needed]
    if fingerprint.read(root) is not None and fault(root, counts) is None:
        then = []
    else:
        then += [f"count {steps.in_words(counts)} and pair them with their masks", f"write {root / 'prepared.json'}"]
    steps.preview(NAME, root, needs=needs, downloads=downloads, then=then)
