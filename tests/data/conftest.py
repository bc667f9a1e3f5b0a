from pathlib import Path

import pytest

from tests.data.tiny import tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path / "tiny")
