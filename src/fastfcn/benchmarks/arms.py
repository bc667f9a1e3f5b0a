"""What a benchmark compares: its arms, and whether they give the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fastfcn import heap
from fastfcn.benchmarks.protocol import Call
from fastfcn.errors import UserError
from fastfcn.exporting.comparison import Agreement

#: The row of ours without `Arm.kept_heap`.
HEAP_NOT_KEPT = "ours, heap not kept"


def in_both_ways(arms: Iterable[Arm]) -> list[Arm]:
    """Put two for the one called ours, where freed memory can be kept: as the C library frees, and as the scripts."""
    found = []
    for arm in arms:
        if arm.name == "ours" and heap.possible():
            found += [replace(arm, name=HEAP_NOT_KEPT), replace(arm, kept_heap=True)]
        else:
            found.append(arm)
    return found


class Unavailable(Exception):  # noqa: N818
    """An arm cannot be made here; the sentence says why, and what would help. Its row is told as not measured."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One contestant.

    Attributes:
        name: in the tables.
        call: what is timed.
        precision: of its matrix products, a name of `rates.PRECISIONS`.
        eager: the same computation in eager torch, whose operators are counted, where they do not show in `call`
            itself: a compiled model, a graph, another runtime.
        check: gives how the output compares with the reference's, before anything is timed; None where nothing is
            compared.
        items: images (or windows, or whatever is told per second) of a call.
        torch_allocates: False where another runtime holds the memory.
        kept_heap: True where freed memory stays with the process while the arm has its turn (`fastfcn.heap`).
        facts: further plain values for its record, told beside its figures.
    """

    name: str
    call: Call
    precision: str = "float32"
    eager: Call | None = None
    check: Callable[[], Agreement] | None = None
    items: int = 1
    torch_allocates: bool = True
    kept_heap: bool = False
    facts: dict[str, object] = field(default_factory=dict)


def compiling(call: Call, times: int) -> None:
    """Make a call so often that it has compiled.

    Raises:
        Unavailable: It does not compile on this machine.
    """
    from torch._dynamo.exc import TorchDynamoException

    try:
        for _ in range(times):
            call()
    except TorchDynamoException as error:  # no compiler, or one that fails
        reason = " ".join(str(error).splitlines()[:1]) or type(error).__name__
        raise Unavailable(f"torch.compile fails here ({reason})") from error
    except UserError as error:  # the same, told by fastfcn.optimize
        raise Unavailable(str(error)) from error


def compare_values(ours: Tensor, reference: Tensor, *, tolerance: float) -> Agreement:
    """Compare any tensors of one shape."""
    ours, reference = ours.detach().double().cpu(), reference.detach().double().cpu()
    error = float((ours - reference).abs().max() / reference.abs().max().clamp(min=1e-300))
    return Agreement(error, None, error <= tolerance)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context of mixed precision; of float32 and TF32, one that changes nothing."""
    low = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)
    return torch.autocast(device.type, dtype=low or torch.bfloat16, enabled=low is not None)
