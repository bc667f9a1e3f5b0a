from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch

from fastfcn.benchmarks.protocol import Call, HostClock, Plan, clock_of, measure
from fastfcn.benchmarks.rates import measure_rates
from fastfcn.errors import UserError


class FakeClock:
    """Each call tells by itself how many milliseconds it took."""

    def milliseconds(self, call: Call) -> float:
        taken = call()
        assert isinstance(taken, int | float)
        return float(taken)


def script(name: str, calls: list[str], times: Iterator[float] | float) -> Call:
    def call() -> float:
        calls.append(name)
        return times if isinstance(times, float) else next(times)

    return call


def test_equal_arms_take_turns_after_their_warm_ups() -> None:
    calls: list[str] = []
    arms = {name: script(name, calls, 10.0) for name in "AB"}
    found = measure(arms, Plan(repeats=4, seconds=100.0, warmup_seconds=1.0), FakeClock())
    assert calls == list("AAAAAA") + list("BBBBBB") + list("AB") * 4
    assert all(timing.repeats == 4 and timing.warmup == 6 and timing.steady for timing in found.values())


def test_the_seconds_end_a_slow_arm_and_the_repeats_a_fast_one_within_the_same_rounds() -> None:
    calls: list[str] = []
    arms = {"slow": script("s", calls, 1000.0), "fast": script("f", calls, 10.0)}
    found = measure(arms, Plan(repeats=100, seconds=4.0, warmup_seconds=0.05), FakeClock())
    assert found["slow"].repeats == 5
    assert found["fast"].repeats == 100
    measured = "".join(calls)[found["slow"].warmup + found["fast"].warmup :]
    assert measured == ("s" + "f" * 20) * 5


def test_three_calls_there_are_however_long_one_takes() -> None:
    found = measure({"": script("", [], 60_000.0)}, Plan(repeats=100, seconds=1.0), FakeClock())[""]
    assert (found.repeats, found.warmup, found.steady) == (3, 1, False)


def test_arms_of_one_setting_share_it_and_settle_in_it_unmeasured() -> None:
    calls: list[str] = []

    @contextlib.contextmanager
    def setting() -> Iterator[None]:
        calls.append("<")
        yield
        calls.append(">")

    arms = {name: script(name, calls, 10.0) for name in "ABC"}
    plan = Plan(repeats=3, seconds=100.0, warmup_seconds=0.005)
    found = measure(arms, plan, FakeClock(), within={"B": setting, "C": setting})
    assert "".join(calls) == "A<BBBBC>" + "AA<BBBBC>" * 3
    assert found["B"].repeats == found["C"].repeats == 3


def test_a_setting_is_left_where_an_arm_fails() -> None:
    left = []

    @contextlib.contextmanager
    def setting() -> Iterator[None]:
        try:
            yield
        finally:
            left.append(True)

    def fails() -> object:
        raise MemoryError

    with pytest.raises(MemoryError):
        measure({"A": fails}, Plan(), FakeClock(), within={"A": setting})
    assert left == [True]


def test_the_warm_up_goes_on_until_the_time_no_longer_falls() -> None:
    falling = iter([100.0, 90.0, 80.0, 70.0, 60.0, 50.0, 40.0, *[30.0] * 100])
    found = measure({"": script("", [], falling)}, Plan(repeats=5, seconds=100.0, warmup_seconds=60.0), FakeClock())[""]
    assert found.steady
    assert found.warmup > 7
    assert found.median == found.p10 == found.p90 == 30.0


def test_the_limit_of_the_warm_up_is_told() -> None:
    falling = iter([1000.0 / (index + 1) for index in range(1000)])
    plan = Plan(repeats=3, seconds=100.0, warmup_seconds=1.5)
    assert not measure({"": script("", [], falling)}, plan, FakeClock())[""].steady


def test_percentiles() -> None:
    times = iter([50.0] * 6 + [float(value) for value in range(101)])
    found = measure({"": script("", [], times)}, Plan(repeats=101, seconds=100.0), FakeClock())[""]
    assert (found.p10, found.median, found.p90) == (10.0, 50.0, 90.0)


@pytest.mark.parametrize(
    ("key", "value"), [("repeats", 2), ("seconds", 0.0), ("warmup_seconds", -1.0), ("tolerance", 0.0)]
)
def test_nonsense_is_refused(key: str, value: float) -> None:
    with pytest.raises(UserError, match=key):
        Plan(**{key: value})  # type: ignore[arg-type]


def test_the_host_clock_tells_milliseconds() -> None:
    import time

    assert 20 <= HostClock().milliseconds(lambda: time.sleep(0.02)) < 2000
    assert isinstance(clock_of(torch.device("cpu")), HostClock)


def test_rates_are_positive_and_of_the_precisions_asked_for() -> None:
    plan = Plan(repeats=3, seconds=0.05, warmup_seconds=0.01)
    rates = measure_rates(["float32", "float32"], device=torch.device("cpu"), clock=HostClock(), plan=plan, side=64)
    assert list(rates.flops_per_second) == ["float32"]
    assert rates.flops_per_second["float32"] > 1e6
    assert rates.bytes_per_second > 1e6
    assert 1e-9 < rates.launch_seconds < 1e-2
