"""Prepare Pascal Context: VOC2010's images, and masks made once from labels in one of three forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from fastfcn.data.pairing import read_lines
from fastfcn.data.pascal_context import IMAGE_DIR, MASK_DIR
from fastfcn.errors import UserError
from fastfcn.preparation import archives, download, fingerprint, pascal_masks, steps
from fastfcn.preparation.download import Source
from fastfcn.preparation.fingerprint import Prepared
from fastfcn.preparation.pascal_labels import KINDS, MASK_IDS, JsonLabels, Labels, StoredLabels

NAME = "pascal_context"

#: VOC2010's folder under the root, and in its archive.
DEVKIT = "VOCdevkit"


def prepare(
    *,
    root: str | Path,
    sources: Mapping[str, steps.SourceEntry],
    counts: Mapping[str, int],
    downloads: str | Path,
    labels: str = "auto",
    mat: str | None = None,
    png: str | None = None,
    png_ids: int = 60,
    processes: int | None = None,
    mirrors: Sequence[str] = (),
    retries: int = 5,
    timeout: float = 30.0,
    dry_run: bool = False,
) -> None:
    """Fetch, extract, convert and count Pascal Context; what is there is kept, a prepared data set is left alone.

    Args:
        root: Folder of the data set.
        sources: `images` (VOC2010), `json` and `mat` (labels), each with file, url and sha1.
        counts: Expected images of `train` and `val`.
        downloads: Folder of the files that are fetched.
        labels: Form of the labels: `json`, `mat`, `png`, or `auto`: what is on this machine, else the JSON.
        mat: Folder or archive of `<image>.mat`; None: the source of this name.
        png: Folder or archive of `<image>.png`.
        png_ids: Values of these: 60 (classes 0 to 59) or 459 (ids of the 459 categories).
        processes: Processes that convert masks; None: the cores, and no more than it is worth.
        mirrors: Other addresses to fetch from.
        retries: How often a broken connection is taken up again.
        timeout: Seconds without an answer after which a connection counts as broken.
        dry_run: Print what would be done, and do nothing.

    Raises:
        UserError: A file cannot be fetched, is damaged or incomplete, labels do not fit, or the disk is full.
    """
    root, downloads = Path(root).expanduser(), Path(downloads).expanduser()
    files = {key: steps.source(sources, key) for key in ("images", "json", "mat")}
    named = {key: path and str(Path(path).expanduser()) for key, path in {"mat": mat, "png": png}.items()}
    kind = _kind(labels, named, files, downloads)
    if png_ids not in MASK_IDS:
        raise UserError(f"prepare.png_ids={png_ids}: choose 60 (classes 0 to 59) or 459 (ids of the 459 categories).")
    if dry_run:
        _preview(root, files, kind, named, counts, downloads)
        return
    with steps.locked(root):
        pascal_masks.refuse_others(root, labels)
        known = fingerprint.read(root)
        if known is not None and pascal_masks.fault(root, counts) is None:
            print(steps.nothing_to_do(root, known))
            return
        convert = pascal_masks.are_missing(root)
        wanted = [key for key in ("images", kind) if _is_fetched(key, root, named, convert)]
        fetched = download.fetch(
            [files[key] for key in wanted], downloads, mirrors=mirrors, retries=retries, timeout=timeout
        )
        paths = dict(zip(wanted, fetched, strict=True))
        if "images" in paths:
            archives.extract(paths["images"], root / DEVKIT, keep=_is_kept)
        if convert:
            opened = _open(kind, Path(named.get(kind) or paths[kind]), png_ids)
            pascal_masks.make(root, opened, counts, processes=processes)
        if (wrong := pascal_masks.fault(root, counts)) is not None:
            raise UserError(wrong)
        prepared = _write_fingerprint(root, counts, steps.checksums([files["images"]], downloads))
    print(steps.done(root, prepared, sources=files.values(), downloads=downloads))


def _kind(labels: str, named: Mapping[str, str | None], files: Mapping[str, Source], downloads: Path) -> str:
    """The form of the labels to take: `json`, `mat` or `png`."""
    if labels not in ("auto", *KINDS):
        raise UserError(f"prepare.labels={labels}: choose auto, {', '.join(KINDS)}.")
    if labels == "png" and named["png"] is None:
        raise UserError("prepare.labels=png needs prepare.png=...: the folder or archive of your masks.")
    for key, path in named.items():
        if path is not None and not Path(path).exists():
            raise UserError(f"prepare.{key}={path} does not exist: name a folder or an archive.")
    if labels != "auto":
        return labels
    here = [key for key in ("mat", "png") if named[key] is not None]
    here += [key for key in ("json", "mat") if download.state(files[key], downloads).status == "complete"]
    return here[0] if here else "json"


def _is_fetched(key: str, root: Path, named: Mapping[str, str | None], convert: bool) -> bool:
    """Whether a source is needed and not there."""
    if key == "images":
        if (root / DEVKIT).exists() and not (root / IMAGE_DIR).exists():
            raise UserError(
                f"{root / DEVKIT} is there, but without VOC2010/JPEGImages: complete it, or move it away to have it "
                "extracted from the archive."
            )
        return not (root / IMAGE_DIR).exists()
    return convert and named.get(key) is None


def _is_kept(name: str) -> bool:
    """Whether Pascal Context has a use for a member of VOC2010's archive."""
    path = PurePosixPath(name)
    return path.is_relative_to(IMAGE_DIR) or name in pascal_masks.VOC_LISTS.values()


def _open(kind: str, path: Path, png_ids: int) -> Labels:
    print(f"Reading the labels in {path}.", flush=True)
    if kind == "json":
        return JsonLabels(path)
    return StoredLabels(path, "mat") if kind == "mat" else StoredLabels(path, "png", ids=png_ids)


def _write_fingerprint(root: Path, counts: Mapping[str, int], sources: Mapping[str, str | None]) -> Prepared:
    """Over the images and masks of the splits, and their lists."""
    origin = pascal_masks.made_from(root)
    assert origin is not None, "masks were made or found to be made"
    lists = [root / f"{split}.txt" for split in pascal_masks.SPLITS]
    stems = [stem for path in lists for stem in read_lines(path)]
    return fingerprint.write(
        root,
        dataset=NAME,
        counts=counts,
        sources={**sources, origin.file: origin.sha1},
        images=[root / IMAGE_DIR / f"{stem}.jpg" for stem in stems],
        labels=[*lists, *(root / MASK_DIR / f"{stem}.png" for stem in stems)],
    )


def _preview(
    root: Path, files: Mapping[str, Source], kind: str, named: Mapping[str, str | None], counts: Mapping[str, int],
    downloads: Path,
) -> None:  # fmt: skip
    convert = pascal_masks.are_missing(root)
    targets = {"images": root / DEVKIT, kind: root / MASK_DIR}
    keys = [key for key in targets if key in files and named.get(key) is None]
    needs = [steps.Need(files[key], targets[key], _is_fetched(key, root, named, convert)) for key in keys]
    then = [f"extract the images of {files['images'].file} to {root / DEVKIT}"] if needs[0].needed else []
    if convert:
        origin = named.get(kind) or files[kind].file
        then.append(f"convert the labels of {origin} to masks in {root / MASK_DIR}, and write the lists of the splits")
    if fingerprint.read(root) is None or pascal_masks.fault(root, counts) is not None:
        then += [f"count {steps.in_words(counts)} and pair them with their masks", f"write {root / 'prepared.json'}"]
    steps.preview(NAME, root, needs=needs, downloads=downloads, then=then)
