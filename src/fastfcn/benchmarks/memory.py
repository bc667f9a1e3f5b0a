"""Peak memory of one call, by the measure that the device offers."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

# The profiler's library tells on stderr that it starts and stops, unless this stands before it is loaded.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from torch.profiler import ProfilerActivity, profile

from fastfcn import heap

#: How each figure was found, for the reports.
METHODS = {
    "tensors": "most bytes that torch's allocator held at once during one call above what it held before it "
    "(CPU: allocations recorded by torch.profiler, oneDNN's scratch memory not among them; CUDA: max_memory_allocated)",
    "resident": "growth of the process's resident set to its high-water mark during one call (Linux, VmHWM after "
    "clear_refs); holds what other runtimes and scratch memory take, but what was free within the heap before hides "
    "in it",
}


class Peak(NamedTuple):
    """Of one call, MiB; None where it cannot be told.

    Attributes:
        tensors: see `METHODS`.
        resident: see `METHODS`; None on a GPU.
    """

    tensors: float | None
    resident: float | None


def peak_memory(call: Callable[[], object], *, device: torch.device, torch_allocates: bool = True) -> Peak:
    """Make a call three times at most, and tell the peak of what it allocates.

    Args:
        call: a function without arguments, warmed up.
        device: where it computes.
        torch_allocates: False for another runtime, whose memory torch's allocator knows nothing of.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        held = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return Peak((torch.cuda.max_memory_allocated(device) - held) / 2**20, None)
    resident = _resident_growth(call)
    return Peak(_allocated(call) if torch_allocates else None, resident)


def _allocated(call: Callable[[], object]) -> float:
    """Peak of torch's allocations on the CPU above the beginning, MiB."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        result = call()
    del result
    assert profiler.profiler is not None
    results = profiler.profiler.kineto_results
    assert results is not None
    changes = [event for event in results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20


def _resident_growth(call: Callable[[], object]) -> float | None:
    """How far the kernel saw the resident set of this process grow, MiB; None where it tells nothing."""
    heap.trim()  # growth would hide in free pages
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the old high-water mark
        before = _status("VmRSS")
    except OSError:
        return None
    call()
    after = _status("VmHWM")
    return None if before is None or after is None else max(after - before, 0) / 1024


def _status(key: str) -> int | None:
    """A figure of /proc/self/status in kB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    return None


#: Part of the free memory that may be planned with: of one process that took nearly all of it, the system made an end.
USABLE = 0.75


def free(device: torch.device) -> int | None:
    """Bytes of a device, or of the host, that can be taken now; None where the system does not tell."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _available()


def _available() -> int | None:
    """Bytes that can be taken without swapping."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(":")
            if key == "MemAvailable":
                return int(value.split()[0]) * 1024
    except OSError:
        pass  # not Linux
    return None
