"""Files to take home: masks of class ids and overlays, of the last few comparisons."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import deque
from pathlib import Path

from PIL import Image

from fastfcn.prediction.segmentation import IN_A_BYTE, png_bytes
from fastfcn.web.answers import Comparison
from fastfcn.web.uploads import shortened

#: Of how many comparisons the files are kept.
KEPT = 32


class Downloads:
    """Writes the files of comparisons, and removes those of older ones.

    Args:
        folder: where to; the caller's to remove.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: deque[Path] = deque()
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, comparison: Comparison, *, name: str, strength: float = 0.6) -> list[str]:
        """Write mask and overlay of the left model, then of the right one.

        A mask is a PNG whose pixel values are the class ids: with the classes' colours as its palette where these are
        at most 256, else of 16 bits.

        Args:
            comparison: two models' answers.
            name: of the image's file.
            strength: of the colours over the image, 0 to 1.

        Returns:
            The paths of the four files.
        """
        place = Path(tempfile.mkdtemp(dir=self._folder))
        self._kept.append(place)
        while len(self._kept) > KEPT:
            shutil.rmtree(self._kept.popleft(), ignore_errors=True)
        stem = _plain(Path(shortened(name)).stem) or "image"
        paths = []
        for side, answer in zip(("left", "right"), comparison.answers, strict=True):
            start = place / f"{stem}_{side}_{_plain(answer.short)}"
            mask, over = start.with_name(f"{start.name}_mask.png"), start.with_name(f"{start.name}_overlay.png")
            few = answer.found.facts.num_classes <= IN_A_BYTE
            mask.write_bytes(answer.found.palette_png() if few else answer.found.ids_png())
            over.write_bytes(png_bytes(Image.fromarray(answer.found.overlay(strength))))
            paths += [str(mask), str(over)]
        return paths


def _plain(text: str) -> str:
    """Text as a part of a file's name on any system."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("._")[:40]
