import time

import pytest

from fastfcn.errors import UserError
from fastfcn.timing import latency


def test_arms_take_turns_and_warm_up_is_not_counted() -> None:
    calls: list[str] = []
    arms = {name: (lambda name=name: calls.append(name)) for name in "ABC"}
    result = latency(arms, warmup=2, repeats=3)
    assert calls == list("ABC") * 5
    assert all(stats.repeats == 3 for stats in result.values())


def test_times_are_milliseconds() -> None:
    result = latency({"slow": lambda: time.sleep(0.02), "fast": lambda: None}, warmup=0, repeats=5)
    assert 20 <= result["slow"].p10 <= result["slow"].median <= result["slow"].p90 < 2000
    assert result["fast"].median < 20


def test_slow_first_calls_do_not_count() -> None:
    pauses = iter([0.2, 0.0, 0.0, 0.0])
    result = latency({"compiled": lambda: time.sleep(next(pauses))}, warmup=1, repeats=3)
    assert result["compiled"].p90 < 150


@pytest.mark.parametrize(("warmup", "repeats"), [(-1, 3), (0, 0)])
def test_nonsense_is_refused(warmup: int, repeats: int) -> None:
    with pytest.raises(UserError, match="repeats"):
        latency({}, warmup=warmup, repeats=repeats)
