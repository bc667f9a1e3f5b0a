"""Small data sets in the formats of the real ones: archives as they are downloaded, and trees as they are prepared."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as coco
from scipy.io import savemat

from fastfcn.data.pascal_context import CATEGORY_IDS, PALETTE

ADE_COUNTS = {"train": 6, "val": 3, "test": 2}
PASCAL_COUNTS = {"train": 5, "val": 4}

#: A category of the 459 that is none of the sixty.
OTHER = 100

_ADE_FOLDERS = {"train": "training", "val": "validation"}
UInt8Array = npt.NDArray[np.uint8]


def ade20k_files(counts: Mapping[str, int] = ADE_COUNTS) -> dict[str, bytes]:
    """Paths and contents of ADE20K's two archives, of noise; folders end in a slash."""
    rng = np.random.default_rng(0)
    top = "ADEChallengeData2016/"
    files = {top: b"", f"{top}objectInfo150.txt": b"Idx\tRatio\tTrain\tVal\tStuff\tName\n"}
    files[f"{top}sceneCategories.txt"] = b"ADE_train_00000001 airport_terminal\n"
    for split, folder in _ADE_FOLDERS.items():
        for number in range(1, counts[split] + 1):
            stem = f"ADE_{split}_{number:08d}"
            height, width = rng.integers(40, 60, 2)
            files[f"{top}images/{folder}/{stem}.jpg"] = jpeg(rng, height, width)
            mask = rng.integers(0, 151, (height, width), dtype=np.uint8)
            files[f"{top}annotations/{folder}/{stem}.png"] = png(Image.fromarray(mask))
    names = [f"ADE_test_{number:08d}.jpg" for number in range(1, counts["test"] + 1)]
    files |= {"release_test/": b"", "release_test/list.txt": "".join(f"{name}\n" for name in names).encode()}
    files |= {f"release_test/testing/{name}": jpeg(rng, 40, 50) for name in names}
    return files


def make_ade20k_archives(folder: Path, *, counts: Mapping[str, int] = ADE_COUNTS) -> dict[str, str]:
    """Write the two zip files; gives the SHA-1 of each by its name."""
    files = ade20k_files(counts)
    archives = {"ADEChallengeData2016.zip": "ADEChallengeData2016/", "release_test.zip": "release_test/"}
    for archive, top in archives.items():
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(folder / archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, data in files.items():
                if name.startswith(top):
                    zipped.writestr(zipfile.ZipInfo(name), data)
    return sha1_of(folder, *archives)


def make_ade20k_tree(root: Path, *, counts: Mapping[str, int] = ADE_COUNTS) -> Path:
    """ADE20K as `prepare.py` leaves it, but for the fingerprint."""
    return write_files(root, ade20k_files(counts))


def pascal_stems(counts: Mapping[str, int] = PASCAL_COUNTS) -> dict[str, list[str]]:
    """The images of each split, named as VOC names them."""
    names = [f"2008_{number:06d}" for number in range(1, sum(counts.values()) + 1)]
    return {"train": names[: counts["train"]], "val": names[counts["train"] :]}


def pascal_regions(index: int) -> tuple[tuple[int, int], list[tuple[int, UInt8Array]]]:
    """Size of an image and its annotations: overlapping boxes and one disc, categories of the sixty and one other."""
    rng = np.random.default_rng(index)
    height, width = (int(side) for side in rng.integers(40, 60, 2))
    y, x = np.mgrid[:height, :width]
    shapes = []
    for category in (*rng.choice(CATEGORY_IDS[1:], 4, replace=False).tolist(), OTHER):
        top, left = rng.integers(0, 30, 2)
        shapes.append((category, (y >= top) & (y < top + 20) & (x >= left) & (x < left + 25)))
    shapes.append((CATEGORY_IDS[-1], (y - height / 2) ** 2 + (x - width / 2) ** 2 < 64))
    return (height, width), [(category, shape.astype(np.uint8)) for category, shape in shapes]


def pascal_ids(index: int) -> npt.NDArray[np.uint16]:
    """The 459-class ids of an image: each annotation over those before it."""
    size, regions = pascal_regions(index)
    ids = np.zeros(size, dtype=np.uint16)
    for category, shape in regions:
        ids[shape == 1] = category
    return ids


def pascal_classes(index: int) -> UInt8Array:
    """The classes 0 to 59 of an image."""
    ids = pascal_ids(index)
    return np.array([CATEGORY_IDS.index(i) if i in CATEGORY_IDS else 0 for i in ids.flat], np.uint8).reshape(ids.shape)


def voc_files(counts: Mapping[str, int] = PASCAL_COUNTS) -> dict[str, bytes]:
    """Paths and contents of VOCtrainval_03-May-2010.tar, of noise, with what Pascal Context has no use for."""
    top = "VOCdevkit/VOC2010/"
    splits = pascal_stems(counts)
    files = {f"{top}Annotations/{stem}.xml": b"<annotation/>" for stem in splits["train"]}
    for split, stems in {**splits, "trainval": splits["train"] + splits["val"]}.items():
        files[f"{top}ImageSets/Main/{split}.txt"] = "".join(f"{stem}\n" for stem in stems).encode()
        files[f"{top}ImageSets/Main/aeroplane_{split}.txt"] = b""
    for index, stem in enumerate(splits["train"] + splits["val"]):
        files[f"{top}JPEGImages/{stem}.jpg"] = jpeg(np.random.default_rng(index), *pascal_regions(index)[0])
    files[f"{top}JPEGImages/2009_999999.jpg"] = jpeg(np.random.default_rng(0), 40, 40)  # in neither list
    return files


def make_voc_archive(folder: Path, *, counts: Mapping[str, int] = PASCAL_COUNTS) -> dict[str, str]:
    """Write the tar file; gives its SHA-1 by its name."""
    name = "VOCtrainval_03-May-2010.tar"
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / name, "w") as tar:
        for path, data in voc_files(counts).items():
            _add(tar, path, data)
    return sha1_of(folder, name)


def make_pascal_json(folder: Path, *, counts: Mapping[str, int] = PASCAL_COUNTS) -> dict[str, str]:
    """Write `trainval_merged.json`; gives its SHA-1 by its name. One image is of a phase that does not count."""
    images: list[dict[str, Any]] = []
    regions: list[dict[str, Any]] = []
    phases = {stem: split for split, stems in pascal_stems(counts).items() for stem in stems}
    for index, (stem, phase) in enumerate({**phases, "x": "test"}.items()):
        (height, width), shapes = pascal_regions(index)
        number = int(stem.replace("_", "")) if "_" in stem else 1
        images.append(
            {"image_id": number, "file_name": f"{stem}.jpg", "phase": phase, "width": width, "height": height}
        )
        for category, shape in shapes:
            code = coco.encode(np.asfortranarray(shape))
            code = {"size": list(map(int, code["size"])), "counts": code["counts"].decode()}
            regions.append({"image_id": number, "category_id": category, "segmentation": code, "id": len(regions)})
    folder.mkdir(parents=True, exist_ok=True)
    content = {"info": {}, "images": images, "annos_segmentation": regions, "annos_boundary": []}
    (folder / "trainval_merged.json").write_text(json.dumps(content))
    return sha1_of(folder, "trainval_merged.json")


def pascal_mats(counts: Mapping[str, int] = PASCAL_COUNTS) -> dict[str, bytes]:
    """`trainval/<stem>.mat` and their contents, the label maps of 459-class ids."""
    files = {}
    for index, stem in enumerate(_in_order(counts)):
        file = io.BytesIO()
        savemat(file, {"LabelMap": pascal_ids(index)}, do_compression=True)
        files[f"trainval/{stem}.mat"] = file.getvalue()
    return files


def pascal_pngs(ids: int, *, palette: bool, counts: Mapping[str, int] = PASCAL_COUNTS) -> dict[str, bytes]:
    """`<stem>.png` and their contents: of classes (ids 60) or of 459-class ids, in 16 bits."""
    files = {}
    for index, stem in enumerate(_in_order(counts)):
        picture = Image.fromarray(pascal_classes(index) if ids == 60 else pascal_ids(index))
        if palette:
            picture.putpalette([channel for color in PALETTE for channel in color])
        files[f"masks/{stem}.png"] = png(picture)
    return files


def _in_order(counts: Mapping[str, int]) -> list[str]:
    return [stem for stems in pascal_stems(counts).values() for stem in stems]


def make_tar(path: Path, files: Mapping[str, bytes]) -> dict[str, str]:
    """Write a tar file, compressed as its name says; gives its SHA-1 by its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") if path.suffix == ".gz" else tarfile.open(path, "w") as tar:
        for name, data in files.items():
            _add(tar, name, data)
    return sha1_of(path.parent, path.name)


def make_pascal_archives(folder: Path, *, counts: Mapping[str, int] = PASCAL_COUNTS) -> dict[str, str]:
    """Write images, JSON and `.mat` archive; gives the SHA-1 of each by its name."""
    return {
        **make_voc_archive(folder, counts=counts),
        **make_pascal_json(folder, counts=counts),
        **make_tar(folder / "trainval.tar.gz", pascal_mats(counts)),
    }


def make_pascal_tree(root: Path, *, counts: Mapping[str, int] = PASCAL_COUNTS) -> Path:
    """Pascal Context as `prepare.py` leaves it, but for the fingerprint."""
    lists = {
        f"{split}.txt": "".join(f"{stem}\n" for stem in stems).encode() for split, stems in pascal_stems(counts).items()
    }
    images = {path: data for path, data in voc_files(counts).items() if "Annotations" not in path}
    return write_files(root, {**images, **pascal_pngs(60, palette=True, counts=counts), **lists})


def sha1_of(folder: Path, *names: str) -> dict[str, str]:
    """Checksums of files by their names."""
    return {name: hashlib.sha1((folder / name).read_bytes(), usedforsecurity=False).hexdigest() for name in names}


def files_under(root: Path) -> dict[str, bytes]:
    """All files below a folder by relative path, to compare two trees."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in _entries(root) if path.is_file()}


def times_under(root: Path) -> dict[Path, int]:
    """When all files and folders below a folder were changed, to see that nothing was."""
    return {path: path.stat().st_mtime_ns for path in _entries(root)}


def _entries(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.name != ".lock")


def jpeg(rng: np.random.Generator, height: int, width: int) -> bytes:
    """A JPEG file of noise."""
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file, format="JPEG")
    return file.getvalue()


def png(picture: Image.Image) -> bytes:
    """A PNG file."""
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def write_files(root: Path, files: Mapping[str, bytes]) -> Path:
    """Write files below a folder; names that end in a slash are left out."""
    for name, data in files.items():
        if not name.endswith("/"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
    return root
