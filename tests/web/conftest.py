from __future__ import annotations

from pathlib import Path

import pytest

from tests.web.tiny import two_checkpoints


@pytest.fixture(scope="session")
def two(first_version: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two checkpoints whose models give different answers."""
    return two_checkpoints(first_version, tmp_path_factory.mktemp("two"))
