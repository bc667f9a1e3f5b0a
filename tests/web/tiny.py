"""Two tiny models with different answers, from the checkpoint of the first version: nothing is trained for them."""

from __future__ import annotations

from pathlib import Path

import torch


def two_checkpoints(first: Path, folder: Path) -> list[Path]:
    """The checkpoint, and one whose classifier was turned by two classes, each in a run directory of its own."""
    content = torch.load(first, weights_only=True)
    paths = []
    for name, turn in (("plain", 0), ("turned", 2)):
        path = folder / name / "checkpoints/best.ckpt"
        path.parent.mkdir(parents=True)
        weights = {key: value.roll(turn, 0) if _of_classes(key) else value for key, value in _weights(content).items()}
        torch.save({**content, "state_dict": weights}, path)
        paths.append(path)
    return paths


def _weights(content: dict[str, dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return content["state_dict"]


def _of_classes(key: str) -> bool:
    return key.startswith("model.head.classify.")
