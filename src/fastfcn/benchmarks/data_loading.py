"""How many training images a core prepares in a second, beside the pipeline of the official code."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from fastfcn import provenance
from fastfcn.benchmarks import material
from fastfcn.benchmarks.bench import Bench
from fastfcn.benchmarks.original import Albumentations, Original
from fastfcn.data.augment import TrainTransform
from fastfcn.data.batches import BatchLoader, TransformedDataset, normalise
from fastfcn.data.decoding import read_image, read_mask
from fastfcn.data.files import FileDataset
from fastfcn.data.samplers import TrainSampler
from fastfcn.errors import UserError
from fastfcn.timing import latency

#: The arms by their names in the report; ratios are against the first.
ORIGINAL = "original: PIL, whole picture"
ALBUMENTATIONS = "albumentations, whole picture"
OURS = "ours: bytes for the device"
OURS_NORMALISED = "ours, normalised on the CPU too"
DECODING = "decoding alone"


def run(
    *,
    bench: Bench | None = None,
    images: int = 64,
    base_size: int = 520,
    crop_size: int = 480,
    batch_size: int = 16,
    warmup: int = 1,
    repeats: int = 9,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Measure the arms side by side on one core, print the table, write it as JSON.

    Every arm is a torch DataLoader without worker processes that goes once through the same files, which lie in the
    page cache after the first round. OpenMP and OpenCV are held to one thread.

    Args:
        bench: Its `open_split` gives the data set of a split, whose files are read; without one pictures of VOC's size
            are written. Its `out` is the folder of data.json where `out` is None.
        images: How many images a round goes through.
        base_size: Short side in pixels at scale 1.
        crop_size: Side of the crop in pixels.
        batch_size: Images in a batch.
        warmup: Rounds that are not measured.
        repeats: Rounds that are measured; the table tells the medians.
        out: The JSON file.

    Returns:
        What the JSON file holds.

    Raises:
        UserError: The data set is not made of files, or has too few of them.
    """
    open_split = bench.open_split if bench else None
    if out is None and bench is not None and bench.out is not None:
        out = bench.out / "data.json"
    if images < batch_size:
        raise UserError(f"task.images={images} is less than a batch (task.batch_size={batch_size}): raise it.")
    with tempfile.TemporaryDirectory() as folder, one_thread():
        dataset = _first(open_split("train"), images) if open_split else material.write(Path(folder), count=images)
        arms = _arms(dataset, base_size=base_size, crop_size=crop_size, batch_size=batch_size)
        times = latency(arms, warmup=warmup, repeats=repeats)
        used = len(dataset) // batch_size * batch_size
        rates = {name: 1000 * used / time.median for name, time in times.items()}
        result = {
            "what": "training images per second on one core, loader without worker processes",
            "data": dataset.facts.name if open_split else f"drawn, {material.WIDTH} x {material.HEIGHT}",
            "files": _sizes(dataset),
            "protocol": {
                "images": used, "base_size": base_size, "crop_size": crop_size, "batch_size": batch_size,
                "warmup": warmup, "repeats": repeats, "threads": 1,
            },
            "images_per_second": {name: round(rate, 1) for name, rate in rates.items()},
            "ratio_to_original": {name: round(rate / rates[ORIGINAL], 2) for name, rate in rates.items()},
            "milliseconds_per_image": {
                name: {"median": time.median / used, "p10": time.p10 / used, "p90": time.p90 / used}
                for name, time in times.items()
            },
            "provenance": provenance.collect(),
        }  # fmt: skip
    _show(result)
    if out is not None:
        path = Path(out)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(f"figures: {path}")
    return result


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold torch and OpenCV to one thread, as a worker process of a loader is."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _first(dataset: Any, images: int) -> FileDataset:
    """The first images of a data set of files."""
    if not isinstance(dataset, FileDataset):
        raise UserError("task=data measures on files: choose data=pascal_context, ade20k or folder, or no data at all.")
    if len(dataset) < images:
        raise UserError(f"task.images={images} is more than the {len(dataset)} images of the train split: lower it.")
    dataset.samples = dataset.samples[:images]
    return dataset


def _arms(dataset: FileDataset, *, base_size: int, crop_size: int, batch_size: int) -> dict[str, Callable[[], object]]:
    original = Original(dataset, base_size=base_size, crop_size=crop_size)
    theirs = Albumentations(dataset, base_size=base_size, crop_size=crop_size)
    transform = TrainTransform(base_size=base_size, crop_size=crop_size)
    sampler = TrainSampler(len(dataset), batch_size=batch_size, seed=0)
    ours = BatchLoader(
        TransformedDataset(dataset, transform=transform),
        split="train", skipped={}, max_skipped=0, batch_size=batch_size, sampler=sampler,
    )  # fmt: skip
    epoch = iter(range(1 << 30))

    def through(loader: Iterable[Any]) -> None:
        for _ in loader:
            pass

    def ours_once(*, normalised: bool) -> None:
        sampler.set_epoch(next(epoch))  # other draws each round
        through(map(normalise, ours) if normalised else ours)

    def decode() -> None:
        for sample in dataset.samples:
            read_image(sample.image, exif=dataset.exif)
            if sample.mask is not None:
                read_mask(sample.mask)

    return {
        ORIGINAL: lambda: through(DataLoader(original, batch_size=batch_size, shuffle=True, drop_last=True)),
        ALBUMENTATIONS: lambda: through(DataLoader(theirs, batch_size=batch_size, shuffle=True, drop_last=True)),
        OURS: lambda: ours_once(normalised=False),
        OURS_NORMALISED: lambda: ours_once(normalised=True),
        DECODING: decode,
    }


def _sizes(dataset: FileDataset) -> dict[str, float]:
    """Mean sizes of the files in kB."""
    masks = [sample.mask for sample in dataset.samples if sample.mask is not None]
    images = [sample.image for sample in dataset.samples]
    return {
        kind: round(float(np.mean([path.stat().st_size for path in paths])) / 1000, 1)
        for kind, paths in {"image_kb": images, "mask_kb": masks}.items()
    }


def _show(result: dict[str, Any]) -> None:
    files = result["files"]
    table = Table(title=f"Training images on one core: {result['data']}, {files['image_kb']} kB each")
    for heading in ("pipeline", "images/s", "ratio", "ms/image", "p10 to p90"):
        table.add_column(heading, justify="left" if heading == "pipeline" else "right")
    for name, rate in result["images_per_second"].items():
        time = result["milliseconds_per_image"][name]
        ratio = result["ratio_to_original"][name]
        spread = f"{time['p10']:.2f} to {time['p90']:.2f}"
        table.add_row(name, f"{rate:.0f}", f"{ratio:.2f}", f"{time['median']:.2f}", spread)
    Console().print(table)
