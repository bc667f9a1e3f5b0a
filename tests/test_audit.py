"""`make audit` says what was found, and does not take silence for safety."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripts import ROOT

ANSWERS = {
    "nothing": (0, "No known vulnerabilities found", 0, "No known vulnerabilities found"),
    "found": (1, "Found 1 known vulnerability in 1 package\nrequests 2.1 CVE-1", 1, "CVE-1"),
    "unknown": (1, "ERROR:pip_audit._cli:absl-py: Dependency not found on PyPI", 2, "cannot be asked from here"),
    "no network": (1, "Traceback\nrequests.exceptions.ConnectionError: refused", 2, "cannot be asked from here"),
    "no tool": (2, "error: Failed to fetch: dns error", 2, "nothing is known of the packages"),
}


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("answer", ANSWERS)
def test_audit(tmp_path: Path, answer: str) -> None:
    code, text, expected, words = ANSWERS[answer]
    tool = tmp_path / "python"
    tool.write_text(f"#!{sys.executable}\nimport sys\nprint({text!r}, file=sys.stderr)\nsys.exit({code})\n")
    tool.chmod(0o755)
    (tmp_path / ".ready").touch()
    command = ["make", "audit", f"PY={tool}", f"READY={tmp_path / '.ready'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode != 0) == (expected != 0)  # make has 2 for every failure
    assert words in done.stdout + done.stderr
    assert "\t" not in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
