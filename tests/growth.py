"""Whether a training's memory on the host grows with its steps.

    python -m tests.growth steps=1000 workers=2

A training of a tiny model by train.py, with all its callbacks and logs, a validation and a checkpoint every 100 steps.
Every 10 steps the resident set of the process and the proportional set of its worker processes are read (Linux). The
first two fifths of the steps are left out: caches fill, and workers come to write to pages that they shared. What grows
is told by a straight line through the rest, and by the difference of the medians of its first and last quarter. Exit
code 1 where both are more than ``limit`` MiB per 1,000 steps: readings tremble by some 20 MiB, which makes 4 in 1,000
steps of the line; a batch that is kept at each step makes 50.
"""

from __future__ import annotations

import csv
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
from typing_extensions import override

from tests.scripts import ROOT, SRC, TINY, environment

#: Options and their defaults.
OPTIONS = {"steps": "1000", "workers": "2", "limit": "16", "dir": "outputs/growth"}

#: Steps between two readings, and of an epoch.
EVERY, EPOCH = 10, 100

TRAINING = (
    *(item for item in TINY if not item.startswith(("trainer.max_epochs", "data.dataset.counts"))),
    f"data.dataset.counts={{train:{4 * EPOCH},val:8,test:4}}",
    "trainer.log_every_n_steps=1",
)


class Readings(pl.Callback):
    """Writes step, MiB of this process and MiB of its workers to a CSV file, as the training goes.

    Args:
        path: of the file.
        every: steps between two readings.
    """

    def __init__(self, *, path: str, every: int = EVERY) -> None:
        self.path, self.every = Path(path), every

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every == 0:
            row = (trainer.global_step, resident(), sum(map(proportional, children())))
            with self.path.open("a", newline="") as file:
                csv.writer(file).writerow(row)


def resident() -> float:
    """Pages of this process in memory, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def proportional(pid: int) -> float:
    """Pages of a process in memory, those that it shares by its share, MiB; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def children() -> list[int]:
    """The processes that this one has started."""
    threads = Path("/proc/self/task").iterdir()
    return [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]


class Growth(NamedTuple):
    """How memory grew, MiB per 1,000 steps.

    Attributes:
        line: by least squares.
        quarters: between the medians of the first and the last quarter.
    """

    line: float
    quarters: float


def growth(steps: Sequence[float], sizes: Sequence[float]) -> Growth:
    """How sizes (MiB) grew behind the first two fifths of the steps."""
    kept = [(x, y) for x, y in zip(steps, sizes, strict=True) if x > 2 * steps[-1] / 5]
    xs, ys = [x for x, _ in kept], [y for _, y in kept]
    quarter = max(1, len(kept) // 4)
    apart = statistics.median(xs[-quarter:]) - statistics.median(xs[:quarter])
    more = statistics.median(ys[-quarter:]) - statistics.median(ys[:quarter])
    return Growth(1000 * statistics.linear_regression(xs, ys).slope, 1000 * more / apart)


def main(arguments: list[str]) -> int:
    """Train and judge by ``key=value`` arguments; gives the exit code."""
    given = dict(argument.partition("=")[::2] for argument in arguments)
    if unknown := given.keys() - OPTIONS.keys():
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; options are {', '.join(OPTIONS)}")
    options = {**OPTIONS, **given}
    place, limit = Path(options["dir"]).resolve(), float(options["limit"])
    place.mkdir(parents=True, exist_ok=True)
    path = place / "memory.csv"
    path.unlink(missing_ok=True)
    readings = f"+callbacks.readings={{_target_: tests.growth.Readings, path: '{path}'}}"
    epochs = max(1, round(int(options["steps"]) / EPOCH))
    command = [
        sys.executable, str(SRC / "train.py"), *TRAINING, f"trainer.max_epochs={epochs}", f"hydra.run.dir={place}/run",
        f"data.num_workers={options['workers']}", readings, f"paths.data_dir={place}/data",
    ]  # fmt: skip
    with (place / "output.log").open("wb") as output:
        done = subprocess.run(
            command, cwd=ROOT, env=environment(PYTHONPATH=f"{SRC}:{ROOT}"), stdout=output, stderr=output, check=False
        )
    if done.returncode:
        sys.exit(f"the training has failed, see {place / 'output.log'}")
    with path.open(newline="") as file:
        rows = [tuple(map(float, row)) for row in csv.reader(file)]
    return judge(rows, limit)


def judge(rows: Sequence[tuple[float, ...]], limit: float) -> int:
    """Print what (step, MiB, MiB of the workers) tell; 1 where either grows by more than the limit."""
    steps, code = [row[0] for row in rows], 0
    for name, sizes in (("process", [row[1] for row in rows]), ("workers", [row[2] for row in rows])):
        found = growth(steps, sizes)
        grows = min(found) > limit
        code = code or int(grows)
        print(
            f"{name}: {sizes[0]:.0f} MiB at step {steps[0]:.0f}, {sizes[-1]:.0f} at step {steps[-1]:.0f}; behind the "
            f"first two fifths {found.line:+.1f} MiB per 1,000 steps by a line, {found.quarters:+.1f} by quarters"
            f"{': it GROWS' if grows else ''}"
        )
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
