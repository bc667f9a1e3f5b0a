"""How a benchmark times: warmed up until it is steady, the device waited for, the arms taking turns in one run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch

from fastfcn.errors import UserError

Call = Callable[[], object]

#: What a process is set to for a while.
Setting = Callable[[], AbstractContextManager[object]]

#: A median of fewer calls says nothing.
LEAST = 3

#: Calls by which an arm settles where what the process is set to has changed, which are not measured: into a setting,
#: and back to none.
SETTLING, SETTLING_BACK = 3, 1

#: Calls whose median is compared with that of as many before, to see whether a time still falls.
WINDOW = 3


class Timing(NamedTuple):
    """Of one arm, milliseconds a call.

    Attributes:
        median: of all calls that were measured.
        p10: 10th percentile.
        p90: 90th percentile.
        repeats: calls that were measured.
        warmup: calls before, that were not.
        steady: whether the time had stopped falling when the warm-up ended; False where its limit ended it.
    """

    median: float
    p10: float
    p90: float
    repeats: int
    warmup: int
    steady: bool


class Clock(Protocol):
    """Tells how long a call takes, the work of the device included."""

    def milliseconds(self, call: Call) -> float:
        """Make the call once."""


class HostClock:
    """The processor's own time: a call that returns has done its work."""

    def milliseconds(self, call: Call) -> float:
        """Make the call once."""
        start = time.perf_counter()
        call()
        return 1000 * (time.perf_counter() - start)


class CudaClock:
    """Events in the GPU's own stream, before and behind the work; the device is waited for on both sides.

    The first event is recorded on an idle device, so the time holds the launches as well as the work.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def milliseconds(self, call: Call) -> float:
        """Make the call once."""
        with torch.cuda.device(self._device):
            before, behind = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            before.record()
            call()
            behind.record()
            torch.cuda.synchronize()
            return float(before.elapsed_time(behind))


def clock_of(device: torch.device) -> Clock:
    """The clock that a device is timed by."""
    return CudaClock(device) if device.type == "cuda" else HostClock()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How often and how long.

    Attributes:
        repeats: measured calls of an arm that are enough.
        seconds: of measured calls of an arm that are enough; what comes first ends it, but three calls there are.
        warmup_seconds: the longest that an arm is warmed up; a call that is under way is ended.
        tolerance: an arm is steady where the median of its last three calls is not below that of the three before by
            more than this part.

    Raises:
        UserError: a number makes no sense.
    """

    repeats: int = 100
    seconds: float = 10.0
    warmup_seconds: float = 5.0
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        if self.repeats < LEAST:
            raise UserError(f"repeats={self.repeats}: choose at least {LEAST}, a median of fewer calls says nothing.")
        for name in ("seconds", "warmup_seconds", "tolerance"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name}={getattr(self, name)}: choose a number above 0.")

    def calls(self, milliseconds: float) -> int:
        """How many calls of an arm are measured that takes so long."""
        enough = int(1000 * self.seconds / max(milliseconds, 1e-6)) + 1
        return max(LEAST, min(self.repeats, enough))


def measure(
    arms: Mapping[str, Call], plan: Plan, clock: Clock, *, within: Mapping[str, Setting] | None = None
) -> dict[str, Timing]:
    """Time several functions side by side.

    Each arm is warmed up by itself until it is steady. Then they take turns, A B C, A B C, so that a machine that grows
    slower or busier meanwhile hits all of them alike. There are as many rounds as the slowest arm needs; in each round
    a faster arm is called as often in a row as brings it to its own number by the last round.

    Args:
        arms: Functions without arguments by name; they decide on precision and gradients themselves.
        plan: How often and how long.
        clock: Tells the time of a call.
        within: What the process is set to while an arm has its turn, by the arm's name. Arms of one setting that follow
            one another share it; the first `SETTLING` calls in it are not measured, nor are the first `SETTLING_BACK`
            out of it.
    """
    with _Settings(within or {}) as settings:
        warm = {}
        for name, call in arms.items():
            settings.enter(name, call)
            warm[name] = _warm_up(call, plan, clock)
        wanted = {name: plan.calls(calls[-1]) for name, (calls, _) in warm.items()}
        rounds = min(wanted.values(), default=0)
        times: dict[str, list[float]] = {name: [] for name in arms}
        for turn in range(rounds):
            for name, call in arms.items():
                settings.enter(name, call)
                due = -(-wanted[name] * (turn + 1) // rounds)  # rounded up: the last round brings all that is wanted
                while len(times[name]) < due:
                    times[name].append(clock.milliseconds(call))
    return {name: _statistics(times[name], len(calls), steady) for name, (calls, steady) in warm.items()}


class _Settings:
    """The setting that the process is in.

    Args:
        settings: By the names of the arms that want one.
    """

    def __init__(self, settings: Mapping[str, Setting]) -> None:
        self._settings = settings
        self._current: Setting | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> _Settings:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def enter(self, name: str, call: Call) -> None:
        """Go into an arm's setting, or out of another's, where the process is not there yet, and settle."""
        wanted = self._settings.get(name)
        if wanted is self._current:
            return
        self._leave()
        if wanted is not None:
            self._open.enter_context(wanted())
            self._current = wanted
        for _ in range(SETTLING_BACK if wanted is None else SETTLING):
            call()

    def _leave(self) -> None:
        self._open.close()
        self._current = None


def _warm_up(call: Call, plan: Plan, clock: Clock) -> tuple[list[float], bool]:
    """Times of the calls of a warm-up, and whether it became steady before its time was over."""
    times = [clock.milliseconds(call)]
    while sum(times) < 1000 * plan.warmup_seconds:
        times.append(clock.milliseconds(call))
        if len(times) >= 2 * WINDOW:
            last, before = (float(np.median(part)) for part in (times[-WINDOW:], times[-2 * WINDOW : -WINDOW]))
            if last >= before * (1 - plan.tolerance):
                return times, True
    return times, False


def _statistics(milliseconds: list[float], warmup: int, steady: bool) -> Timing:
    p10, median, p90 = (float(value) for value in np.percentile(milliseconds, [10, 50, 90]))
    return Timing(median, p10, p90, len(milliseconds), warmup, steady)
