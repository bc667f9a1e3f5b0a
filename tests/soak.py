"""Kills a training at random moments, again and again, and shows that it comes to the end of one left in peace.

    python -m tests.soak minutes=30 kills=20

First a training of about that length runs undisturbed. Then the same one is started over and over, with 0 or 2 workers
by chance, and ended after a time drawn by chance by SIGKILL, SIGTERM or SIGINT: while it imports, trains, validates,
writes a checkpoint or tests. When it has come to its end before there were as many kills, it begins once more in
another directory. What each round leaves is compared with the undisturbed run to the last bit: checkpoints, the rows of
the logs, the results, and what every batch held.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.kills import differences, left
from tests.scripts import ROOT, SRC, TINY, environment

#: Options and their defaults.
OPTIONS = {"minutes": "30", "kills": "20", "epochs": "0", "seed": "0", "dir": "outputs/soak"}

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)

#: How a run may end that a signal has met: before it listens, as the system has it.
CODES = {signal.SIGKILL: {-9}, signal.SIGTERM: {143, -15}, signal.SIGINT: {130, -2, 1}}

#: Seconds after which a run that was told to end is taken to hang.
GRACE = 120.0

TRAINING = (
    *(item for item in TINY if not item.startswith(("trainer.max_epochs", "data.dataset.counts"))),
    "data.dataset.counts={train:44,val:8,test:4}",
    "trainer.accumulate_grad_batches=2",
    "trainer.log_every_n_steps=1",
    "callbacks.last.every_n_steps=2",
    "resume=auto",
)


def start(run_dir: Path, data_dir: Path, epochs: int, *more: str) -> subprocess.Popen[bytes]:
    """Start the training, what it prints in a file."""
    run_dir.mkdir(parents=True, exist_ok=True)
    trace = f"+callbacks.trace={{_target_: tests.kills.Trace, path: '{run_dir}/trace'}}"
    places = (f"trainer.max_epochs={epochs}", f"paths.data_dir={data_dir}", f"hydra.run.dir={run_dir}", trace)
    with (run_dir / "output.log").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-u", str(SRC / "train.py"), *TRAINING, *places, *more],
            cwd=ROOT, env=environment(PYTHONPATH=str(ROOT)), stdout=output, stderr=output,
        )  # fmt: skip


def undisturbed(run_dir: Path, data_dir: Path, epochs: int) -> float:
    """Run it to its end; gives the seconds that it took."""
    begun = time.monotonic()
    if start(run_dir, data_dir, epochs).wait() != 0:
        sys.exit(f"the undisturbed run has failed, see {run_dir / 'output.log'}")
    return time.monotonic() - begun


class Soak:
    """The rounds of a soak.

    Args:
        place: where all of it lies; emptied.
        minutes: about how long the undisturbed run, and so each round, takes.
        kills: at least so many.
        epochs: of the training; 0: by the minutes.
        seed: of the moments and signals.
    """

    def __init__(self, place: Path, *, minutes: float, kills: int, epochs: int, seed: int) -> None:
        shutil.rmtree(place, ignore_errors=True)
        self.place, self.data_dir, self.wanted = place, place / "data", kills
        self.random = random.Random(seed)
        if not epochs:
            undisturbed(place / "trial", self.data_dir, 1)
            seconds = undisturbed(place / "trial2", self.data_dir, 3)
            first, third = (
                json.loads((place / name / "results.json").read_text())["train_seconds"] for name in ("trial", "trial2")
            )
            epochs = max(2, round((60 * minutes - seconds + third) / max((third - first) / 2, 0.1)))
        self.epochs = epochs
        self.peace = place / "undisturbed"
        self.seconds = undisturbed(self.peace, self.data_dir, epochs)
        self.kills: Counter[str] = Counter()
        print(f"undisturbed: {epochs} epochs in {self.seconds:.0f} s", flush=True)

    def run(self) -> bool:
        """Run rounds until there were enough kills; whether each came to the undisturbed end."""
        equal, rounds = True, 0
        while rounds == 0 or (self.kills.total() < self.wanted and equal):
            rounds += 1
            run_dir = self.place / f"round{rounds}"
            tries = self._round(run_dir)
            found = self._compare(run_dir)
            equal = equal and not found
            verdict = "equal to the last bit" if not found else f"differs: {', '.join(found[:5])}"
            print(f"round {rounds}: {tries} tries, {verdict}", flush=True)
        told = ", ".join(f"{count} {name}" for name, count in sorted(self.kills.items()))
        print(
            f"{self.kills.total()} kills ({told}) in {rounds} rounds: {'equal' if equal else 'NOT EQUAL'}", flush=True
        )
        return equal

    def _round(self, run_dir: Path) -> int:
        tries = 0
        while True:
            tries += 1
            process = start(run_dir, self.data_dir, self.epochs, f"data.num_workers={self.random.choice((0, 2))}")
            enough = self.kills.total() >= self.wanted
            # On average a little less than what would bring it to its end with the last of the kills.
            delay = None if enough else self.random.uniform(0, 1.6 * self.seconds / (self.wanted + 1)) + 1
            try:
                code = process.wait(delay)
            except subprocess.TimeoutExpired:
                self._kill(process, tries)
                continue
            if code != 0:
                sys.exit(f"try {tries} has failed by itself (exit code {code}), see {run_dir / 'output.log'}")
            return tries

    def _kill(self, process: subprocess.Popen[bytes], number: int) -> None:
        # Each in turn, so that a few kills have them all.
        sign = SIGNALS[self.kills.total() % len(SIGNALS)]
        process.send_signal(sign)
        self.kills[sign.name] += 1
        begun = time.monotonic()
        try:
            code = process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            sys.exit(f"try {number} did not end within {GRACE:.0f} s of {sign.name}")
        print(f"try {number}: {sign.name}, exit code {code} after {time.monotonic() - begun:.1f} s", flush=True)
        if code not in CODES[sign] | {0}:  # 0: it was about to end by itself
            sys.exit(f"try {number} ended with {code} by {sign.name}")

    def _compare(self, run_dir: Path) -> list[str]:
        found = differences(left(self.peace), left(run_dir), places=(self.peace, run_dir))
        seen, expected = ((place / "trace.0").read_text().splitlines() for place in (run_dir, self.peace))
        # A line may be cut where the process was killed within it.
        whole = {line for line in seen if len(line.split()) == 4}
        if not set(expected) <= whole:
            found.append("the images of some batches")
        return found


def main(arguments: list[str]) -> int:
    """Run a soak by ``key=value`` arguments; gives the exit code."""
    given = dict(argument.partition("=")[::2] for argument in arguments)
    if unknown := given.keys() - OPTIONS.keys():
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; options are {', '.join(OPTIONS)}")
    options = {**OPTIONS, **given}
    # Of a shell's background job SIGINT is ignored, and in what it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    soak = Soak(
        Path(options["dir"]).resolve(),
        minutes=float(options["minutes"]),
        kills=int(options["kills"]),
        epochs=int(options["epochs"]),
        seed=int(options["seed"]),
    )
    return 0 if soak.run() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
