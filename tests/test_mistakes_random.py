"""Wrong values at random: whatever a key of the configuration is given, it trains, or is refused in one sentence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.scripts import TINY, call
from tests.test_config import composed

#: How many are tried; `FASTFCN_EXAMPLES=500 pytest tests/test_mistakes_random.py` looks further, by other draws.
EXAMPLES = os.environ.get("FASTFCN_EXAMPLES")

#: Of a plain key, as typed on the command line: of other types, below, beyond and beside the range.
VALUES = (
    "null", "abc", "true", "''", "0", "-1", "3", "1.5", "-0.5", "nan", "inf", "-inf", "1e30", "1000000000000",
    "-1000000000000", "[]", "[1]", "[a,b]", "[-1,nan]", "{}", "{a:1}", "'5'", "/proc/none", "../up",
)  # fmt: skip

#: Where any value is valid that costs minutes (a compiler), or that other tests try with processes of their own.
COSTLY = ("compile", "optimize", "inference.optimize")


def leaves(config: object, prefix: str = "") -> Iterator[str]:
    """The keys of all plain values and lists."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix


CONFIG: Mapping[str, Any] = composed("train", [*TINY, "inference=slide", "speed=table2", "speed.image_size=[64,64]"])
KEYS = [
    key for key in leaves(CONFIG) if not key.startswith(("hydra", "model.backbone", "model.upsample", "model.head."))
]


def test_there_are_keys() -> None:
    assert len(KEYS) > 100
    assert {"optim.lr", "data.scale", "trainer.devices", "callbacks.best.monitor", "seed"} <= set(KEYS)


@settings(
    max_examples=int(EXAMPLES or 10),
    derandomize=EXAMPLES is None,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(key=st.sampled_from([key for key in KEYS if not key.startswith(COSTLY)]), value=st.sampled_from(VALUES))
def test_any_value_trains_or_is_refused_in_one_sentence(
    key: str, value: str, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = (*TINY, "debug=fast", "inference=slide", "speed=table2", "speed.image_size=[64,64]", "speed.repeats=1")
    places = (f"paths.data_dir={data_dir}", "hydra.run.dir=run")
    done = call("train.py", *overrides, *places, f"++{key}={value}")  # raises what would be a traceback
    if done.code == 0:
        return
    sentence = done.sentence()
    assert done.code == 2
    begun = Path("run/config.yaml").exists()
    assert begun or not Path("run").exists(), sentence
    shutil.rmtree("run", ignore_errors=True)
