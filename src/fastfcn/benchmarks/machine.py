"""On what, and under which settings, a benchmark ran: what belongs beside every figure."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from fastfcn import provenance
from fastfcn.benchmarks.memory import METHODS
from fastfcn.errors import UserError

#: Distributions of the extra ``export``, whose versions belong beside exported arms.
RUNTIMES = ("onnx", "onnxscript", "onnxruntime", "openvino")


def conditions(device: torch.device) -> dict[str, Any]:
    """Hardware, versions, code, clocks and settings, as they are now."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else provenance.cpu_model(),
        "device_type": device.type,
        "threads": torch.get_num_threads(),
        "clocks": gpu_clocks(device) if cuda else {"cpu_mhz": cpu_clocks()},
        "settings": {
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        },
        "runtimes": {name: _version(name) for name in RUNTIMES},
        "memory_methods": METHODS,
        "provenance": provenance.collect(),
    }


def choose_device(name: str) -> torch.device:
    """The device that ``auto``, ``cpu`` or ``cuda`` asks for.

    Raises:
        UserError: There is no such device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"device={name}: choose auto, cpu or cuda.")
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise UserError("device=cuda, but torch finds no GPU here: choose device=cpu or auto.")
    return torch.device("cuda", 0) if found and name != "cpu" else torch.device("cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Whether the chip computes in bfloat16 by itself; elsewhere it is emulated and slow."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def cpu_clocks() -> list[float] | None:
    """Clock of each core in MHz, as Linux tells it; None where it does not."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")] or None


def gpu_clocks(device: torch.device) -> dict[str, str] | None:
    """Clocks and power limit of a GPU by nvidia-smi; None where there is none."""
    keys = ("clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit", "driver_version")
    command = ["nvidia-smi", f"--query-gpu={','.join(keys)}", "--format=csv,noheader", f"--id={device.index or 0}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(zip(keys, (value.strip() for value in done.stdout.split(",")), strict=False))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
