"""The report's last section: which code, machine, seeds and commands the runs come from."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fastfcn.provenance import collect
from fastfcn.report import tables
from fastfcn.report.contents import Part
from fastfcn.report.runs import Run

_UNKNOWN = "not recorded"


def origin(part: Part, *, out: Path) -> list[str]:
    """Blocks of Markdown: a table of the runs, code, hardware and versions, commands and overrides."""
    runs, names = [run for row in part.rows for run in row.runs], part.run_names
    columns = [
        tables.Column("run", tuple(names), text=True),
        tables.Column("seed", tuple(str(run.seed) for run in runs)),
        tables.Column("epochs", tuple(str(run.results.get("epochs", "-")) for run in runs)),
        tables.Column("steps", tuple(str(run.results.get("steps", "-")) for run in runs)),
        tables.Column("training time", tuple(_training_time(run) for run in runs)),
        tables.Column("started", tuple(run.provenance.get("started", _UNKNOWN) for run in runs), text=True),
        tables.Column("directory", tuple(f"`{_relative(run.directory, out)}`" for run in runs), text=True),
    ]
    facts: dict[str, Callable[[Mapping[str, Any]], str]] = {"Code": code, "Hardware": hardware, "Versions": versions}
    lines = []
    for title, tell in facts.items():
        told: dict[str, list[str]] = {}
        for name, run in zip(names, runs, strict=True):
            told.setdefault(tell(run.provenance), []).append(name)
        if len(told) == 1:
            lines.append(f"- {title}: {next(iter(told))}.")
        else:
            lines += [
                f"- {title} of {', '.join(f'`{name}`' for name in which)}: {each}." for each, which in told.items()
            ]
    commands = dict.fromkeys(run.provenance.get("command", _UNKNOWN) for run in runs)
    blocks = [tables.markdown(columns), "\n".join(lines), "Commands:", fenced(list(commands))]
    if len(commands) == len(runs):
        return blocks
    # One command started several runs: what each added to it is told too.
    width = max(map(len, names))
    overrides = [f"{name:<{width}}  {shlex.join(run.overrides)}" for name, run in zip(names, runs, strict=True)]
    return [*blocks, "Overrides of each run:", fenced([line.rstrip() for line in overrides])]


def code(provenance: Mapping[str, Any]) -> str:
    """The commit, and whether the files were those of the commit."""
    git = provenance.get("git", {})
    if not git.get("commit"):
        return "of no recorded commit"
    states = {True: "dirty (with changes that were not committed)", False: "clean", None: "not known whether dirty"}
    return f"commit `{git['commit'][:12]}`, {states[git.get('dirty')]}"


def hardware(provenance: Mapping[str, Any]) -> str:
    """Processor, its cores and torch's threads, memory, GPUs."""
    machine = provenance.get("hardware")
    if not machine:
        return _UNKNOWN
    gpus = ", ".join(gpu["name"] for gpu in machine["gpus"]) or "no GPU"
    cores, threads = counted(machine["cores"], "core"), counted(machine["threads"], "thread")
    return f"{machine['cpu']}, {cores}, {threads}, {machine['memory_gib']} GiB, {gpus}"


def versions(provenance: Mapping[str, Any]) -> str:
    """Python and the packages that can change a result."""
    packages = provenance.get("packages", {})
    found = [f"{name} {version}" for name, version in packages.items() if version]
    return ", ".join([f"Python {provenance['python']}", *found]) if "python" in provenance else _UNKNOWN


def device_name(device: torch.device) -> str:
    """What the latency was measured on: the GPU's model, or the processor's and the number of threads."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} (GPU)"
    machine = collect()["hardware"]
    return f"{machine['cpu']} (CPU, {counted(torch.get_num_threads(), 'thread')}, {counted(machine['cores'], 'core')})"


def counted(number: int, noun: str) -> str:
    """A number with its noun: ``1 core``, ``2 cores``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _training_time(run: Run) -> str:
    seconds = run.results.get("train_seconds")
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    resumed = " since resume" if run.config.get("resume") else ""
    return f"{minutes} min {rest:02d} s{resumed}"


def _relative(directory: Path, out: Path) -> str:
    """The run directory as seen from the report; whole where it lies elsewhere."""
    relative = Path(os.path.relpath(directory.resolve(), out.resolve()))
    return str(directory if relative.parts[:1] == ("..",) else relative)


def fenced(lines: Sequence[str]) -> str:
    """Lines as a block of code."""
    return "\n".join(["```text", *lines, "```"])
