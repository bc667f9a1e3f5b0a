"""Where a run comes from: code, versions, machine and configuration, written beside its results."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

#: Distributions whose version can change a result, or how it is shown.
PACKAGES = (
    "fastfcn-lightning",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "albumentations",
    "opencv-python-headless",
    "numpy",
    "pillow",
    "timm",
    "wandb",
)


def collect(*, source: Path | None = None) -> dict[str, Any]:
    """Gathers code version, package versions, hardware and command line; memory in GiB.

    Args:
        source: A file of the code whose git state is told; this one by default.
    """
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.orig_argv),
        "git": git_state(source or Path(__file__)),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "hardware": _hardware(),
    }


def git_state(source: Path) -> dict[str, Any]:
    """Commit, branch and dirty flag of the repository that tracks a file.

    Every value is None where no repository does: the package may be installed below a foreign one (an environment
    inside a project, say), whose commit would tell nothing. Files that git does not know yet count as dirty.
    """
    nothing = {"commit": None, "branch": None, "dirty": None}
    if _git(source, "ls-files", "--error-unmatch", source.name) is None:
        return nothing
    status = _git(source, "status", "--porcelain")
    return {
        "commit": _git(source, "rev-parse", "--verify", "HEAD"),
        "branch": _git(source, "symbolic-ref", "--short", "--quiet", "HEAD"),  # None where HEAD is detached
        "dirty": None if status is None else bool(status),
    }


def write(run_dir: Path, *, config_yaml: str, overrides: Sequence[str]) -> None:
    """Writes ``config.yaml``, ``overrides.yaml`` and ``provenance.json``; to be called by one process of a run.

    Args:
        run_dir: Made if missing.
        config_yaml: The resolved configuration.
        overrides: What the command line changed, one ``key=value`` each.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    # A JSON string is a YAML string, quoted where it must be.
    listed = "".join(f"- {json.dumps(override, ensure_ascii=False)}\n" for override in overrides) or "[]\n"
    for name, text in {
        "config.yaml": config_yaml,
        "overrides.yaml": listed,
        "provenance.json": json.dumps(collect(), indent=2) + "\n",
    }.items():
        (run_dir / name).write_text(text, encoding="utf-8")


def overrides(run_dir: Path) -> list[str]:
    """What `write` has kept of the command line; nothing where there is no such file."""
    path = run_dir / "overrides.yaml"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line.removeprefix("- ")) for line in lines if line.startswith("- ")]


def _git(source: Path, *arguments: str) -> str | None:
    """Output of a git command in the directory of a file, or None where it fails or there is no git."""
    # Inside a git hook these variables point to the repository of the hook, whatever the directory.
    environment = {k: v for k, v in os.environ.items() if k not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"  # `status` must not write to a repository that others use
    try:
        done = subprocess.run(
            ["git", "-C", str(source.parent), *arguments],
            capture_output=True,
            text=True,
            env=environment,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def version_of(name: str) -> str | None:
    """Of an installed distribution; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _hardware() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "gpus": [{"name": gpu.name, "memory_gib": round(gpu.total_memory / 2**30, 1)} for gpu in gpus],
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if gpus else None,
    }


def cpu_model() -> str:
    """The processor's name, as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
