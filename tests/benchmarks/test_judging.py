from __future__ import annotations

import numpy as np
import pytest

from fastfcn.benchmarks.fits import fit
from fastfcn.benchmarks.judging import fastest, lightest, same, table
from fastfcn.benchmarks.measuring import Measured, not_measured
from fastfcn.benchmarks.memory import Peak
from fastfcn.benchmarks.operators import Shares
from fastfcn.benchmarks.protocol import Timing
from fastfcn.benchmarks.rates import Rates
from fastfcn.exporting.comparison import Agreement

RATES = Rates({"float32": 1e9, "bfloat16": 2e9}, 1e9, 1e-6)


def arm(
    name: str, milliseconds: float, *, precision: str = "float32", tensors: float = 100.0, fine: bool = True
) -> Measured:
    return Measured(
        name=name,
        precision=precision,
        timing=Timing(milliseconds, milliseconds, milliseconds, 10, 3, True),
        peak=Peak(tensors, None),
        gflops=0.01,
        gigabytes=0.002,
        shares=Shares(0.008, 0.001, 7),
        launches=7e-6,
        agreement=Agreement(1e-7 if fine else 1.0, 1.0 if fine else 0.9, fine),
        items=2,
        rates=RATES,
        facts={},
    )


def test_rates_and_shares_follow_from_the_median() -> None:
    measured = arm("", 20.0)
    assert measured.per_second == pytest.approx(100)
    assert measured.flop_share == pytest.approx(0.5)
    assert measured.byte_share == pytest.approx(0.1)
    assert measured.roofline_share == pytest.approx(0.45)
    assert measured.bound == "arithmetic"
    kept = measured.as_dict()
    assert kept["gflops_per_second"] == pytest.approx(0.5)
    assert kept["roofline"]["share"] == pytest.approx(0.45)
    assert kept["peak_memory_mib"] == {"tensors": 100.0, "resident": None}


def test_the_fastest_arm_of_the_precision_counts_if_it_agrees() -> None:
    found = [
        arm("plain", 100.0),
        arm("a", 50.0),
        arm("b", 40.0),
        arm("wrong", 1.0, fine=False),
        arm("low", 10.0, precision="bfloat16"),
    ]
    target = fastest("speed", 2.2, found, "float32")
    assert (target.measured, target.by, target.met) == (2.5, "b", True)
    low = fastest("speed", 20.0, found, "bfloat16")
    assert (low.measured, low.by, low.met) == (10.0, "low", False)
    assert fastest("speed", 1.0, [found[0], found[3]], "float32").by == "wrong agrees too little"


def test_what_was_not_measured_is_told_with_the_reason() -> None:
    target = fastest("speed", 2.0, [arm("plain", 100.0), not_measured("a", "no compiler")], "float32")
    assert target.met is None
    assert target.by == "a: not measured: no compiler"
    assert "not measured" in table([target])


def test_memory_and_sameness_are_better_when_less() -> None:
    found = [arm("plain", 1.0, tensors=300.0), arm("a", 1.0, tensors=90.0), arm("b", 1.0, tensors=200.0)]
    target = lightest("memory", 1 / 3, found)
    assert target.measured == pytest.approx(0.3)
    assert (target.by, target.met) == ("a", True)
    assert same("difference", 1e-6, found).met
    assert same("difference", 1e-9, found).met is False
    assert lightest("memory", 1.0, [not_measured("plain", "too large"), found[1]]).by == "not measured: too large"


def test_the_table_shows_target_and_measured() -> None:
    text = table([fastest("speed", 2.2, [arm("plain", 100.0), arm("a", 40.0)], "float32")])
    assert "at least 2.20" in text
    assert "2.50" in text
    assert "yes" in text


def test_a_line_is_found_again() -> None:
    x = np.array([1e4, 4e4, 1e5, 1e6])
    line = fit(x.tolist(), (0.01 + 2e-6 * x).tolist())
    assert line is not None
    assert line.constant == pytest.approx(0.01, rel=1e-6)
    assert line.slope == pytest.approx(2e-6, rel=1e-6)
    assert line.worst < 1e-9
    assert 0 < line.exponent < 1
    power = fit(x.tolist(), (x**1.5).tolist())
    assert power is not None
    assert power.exponent == pytest.approx(1.5)
    assert "exponent 1.50" in str(power)


def test_two_points_are_no_fit() -> None:
    assert fit([1, 2], [1, 2]) is None
    assert fit([1, 1, 1], [1, 2, 3]) is None
