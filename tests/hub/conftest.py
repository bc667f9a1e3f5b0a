"""A hub of one's own: a server on the loopback, an empty cache, no token but those of the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.hub.stand_in import Hub, stand_in


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pulled files are kept; the client reads it once, when it is imported."""
    place = tmp_path / "cache"
    for name, value in {
        "HF_HUB_CACHE": str(place),
        "HF_TOKEN_PATH": str(tmp_path / "no_token"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    return place


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The server, which HF_ENDPOINT names."""
    with stand_in() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running
