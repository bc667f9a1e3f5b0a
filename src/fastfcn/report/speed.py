"""How fast each row's model predicts, by the runs or by a measurement of the report's, and what its trainings cost."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import NamedTuple

from fastfcn.report.costs import Costs
from fastfcn.report.rows import Row, Section
from fastfcn.report.runs import Run

#: Of a CPU's speed that was measured with `fastfcn.heap`.
KEPT = ", freed memory kept"


class Speed(NamedTuple):
    """Of one row's model, one image at a time.

    Attributes:
        fps: images per second.
        milliseconds: median, 10th and 90th percentile.
        memory_gib: peak memory of the GPU; None on a CPU.
        where: device, size of the image and precision: speeds compare where these are the same.
    """

    fps: float
    milliseconds: tuple[float, float, float]
    memory_gib: float | None
    where: str


class Expense(NamedTuple):
    """What a row's trainings cost.

    Attributes:
        gpu_hours: training time times processes, all seeds together, where the device is a GPU.
        cpu_hours: the same where it is a CPU: hours of processes, whatever the number of their threads.
        memory_gib: the largest peak of a GPU's memory.
        devices: names.
    """

    gpu_hours: float | None
    cpu_hours: float | None
    memory_gib: float | None
    devices: tuple[str, ...]


def of_runs(row: Row) -> Speed | None:
    """What a row's own runs measured; of several runs on one device the median."""
    measured = [run.results["speed"] for run in row.runs if run.results.get("speed")]
    if not measured:
        return None
    places = [_where(speed) for speed in measured]
    alike = [speed for speed, place in zip(measured, places, strict=True) if place == places[0]]
    p50, p10, p90 = (median(float(speed[key]) for speed in alike) for key in ("median_ms", "p10_ms", "p90_ms"))
    memory = [float(speed["peak_memory_gib"]) for speed in alike if speed.get("peak_memory_gib") is not None]
    return Speed(median(float(speed["fps"]) for speed in alike), (p50, p10, p90), max(memory, default=None), places[0])


def told_by_runs(section: Section, others: Sequence[Section]) -> list[Speed | None]:
    """What is known without measuring: of each row's own runs, or of runs of speed alone with the same model."""
    alone = {
        (row.head, row.upsample, row.backbone): row
        for other in others
        if other.protocol is None
        for row in other.rows
        if not row.settings
    }
    found: list[Speed | None] = []
    for row in section.rows:
        own = of_runs(row)
        twin = alone.get((row.head, row.upsample, row.backbone))
        found.append(own if own is not None or twin is None else of_runs(twin))
    return found


def comparable(speeds: Sequence[Speed | None]) -> bool:
    """Whether every row has a speed, all measured in the same way."""
    return None not in speeds and len({speed.where for speed in speeds if speed is not None}) == 1


def of_costs(costs: Costs, where: str) -> Speed | None:
    """What the report measured."""
    if costs.latency is None:
        return None
    taken = costs.latency
    return Speed(1000 / taken.median, (taken.median, taken.p10, taken.p90), costs.memory_gib, where)


def hours(run: Run) -> tuple[float | None, float | None]:
    """GPU hours and CPU process hours of a training; the one that does not apply, or is not known, is None."""
    seconds = run.results.get("train_seconds")
    if seconds is None or not run.test:
        return None, None
    spent = float(seconds) * processes(run) / 3600
    return (spent, None) if on_gpu(run) else (None, spent)


def expense(row: Row) -> Expense:
    """The trainings of a row, all its seeds together."""
    gpu, cpu = zip(*(hours(run) for run in row.runs), strict=True)
    memory = [float(peak) for run in row.runs if (peak := run.results.get("peak_memory_gib")) is not None]
    return Expense(
        _sum(gpu), _sum(cpu), max(memory, default=None), tuple(dict.fromkeys(device(run) for run in row.runs))
    )


def training_minutes(row: Row) -> float | None:
    """Mean wall-clock time of a training."""
    known = [float(run.results["train_seconds"]) for run in row.runs if run.results.get("train_seconds") is not None]
    return fmean(known) / 60 if known else None


def processes(run: Run) -> int:
    """World size of the training; older runs tell it by their configuration."""
    trainer = run.config.get("trainer", {})
    devices, nodes = trainer.get("devices", 1), trainer.get("num_nodes", 1)
    configured = devices * nodes if isinstance(devices, int) and isinstance(nodes, int) else 1
    return int(run.results.get("processes") or max(configured, 1))


def on_gpu(run: Run) -> bool:
    """Whether the training ran on a GPU: by its device, else by what the machine had and the trainer was told."""
    if run.results.get("peak_memory_gib") is not None:
        return True
    gpus = [gpu.get("name") for gpu in (run.provenance.get("hardware") or {}).get("gpus", [])]
    if "device" in run.results:
        return run.results["device"] in gpus
    return bool(gpus) and run.config.get("trainer", {}).get("accelerator") != "cpu"


def device(run: Run) -> str:
    """Name of what the training ran on."""
    hardware = run.provenance.get("hardware") or {}
    gpus = [str(gpu.get("name")) for gpu in hardware.get("gpus", [])]
    known = gpus[0] if on_gpu(run) and gpus else hardware.get("cpu")
    return str(run.results.get("device") or known or "not recorded")


def _where(speed: dict[str, object]) -> str:
    size = speed.get("image_size")
    pixels = " x ".join(map(str, size)) + " pixels" if isinstance(size, list) else "unknown size"
    memory = speed.get("peak_memory_gib")
    threads = f"{speed['threads']} threads" if memory is None and speed.get("threads") else None
    parts = (speed.get("device"), threads, pixels, speed.get("precision"))
    return ", ".join(str(part) for part in parts if part) + (KEPT if memory is None and speed.get("kept_heap") else "")


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
