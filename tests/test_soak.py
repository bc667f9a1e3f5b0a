"""The soak in short: each signal once, at a random moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import soak

pytestmark = pytest.mark.slow


def test_three_kills(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main([f"dir={tmp_path / 'soak'}", "kills=3", "epochs=5", "seed=1"]) == 0
    out = capsys.readouterr().out
    assert "3 kills (1 SIGINT, 1 SIGKILL, 1 SIGTERM)" in out
    assert out.rstrip().endswith("equal")


def test_options() -> None:
    with pytest.raises(SystemExit, match="unknown: minuts"):
        soak.main(["minuts=3"])
