"""The files that are made of a segmentation, each written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fastfcn.errors import UserError
from fastfcn.prediction.legend import Legend, below
from fastfcn.prediction.segmentation import IN_TWO_BYTES, Segmentation, png_bytes, shares_of
from fastfcn.types import DataFacts
from fastfcn.whole_files import replacing

#: How the name of each kind of file ends.
SUFFIXES = {"mask": ".png", "ids": ".png", "overlay": ".png", "probabilities": ".npz", "video": ".mp4"}

#: What is made of images, and of videos and cameras, where nothing is said.
OF_IMAGES, OF_VIDEOS = ("mask", "overlay"), ("video",)


def check_kinds(kinds: Sequence[str] | None, facts: DataFacts | None = None) -> None:
    """Refuse kinds of files that do not exist, or that the classes do not fit.

    Raises:
        UserError: Which.
    """
    if kinds is None:
        return
    if not kinds:
        raise UserError(f"output=[] writes nothing: name some of {', '.join(SUFFIXES)}.")
    for kind in kinds:
        if kind not in SUFFIXES:
            raise UserError(f"output=[{kind}]: choose some of {', '.join(SUFFIXES)}.")
    if facts is not None and "ids" in kinds and facts.num_classes > IN_TWO_BYTES:
        raise UserError(f"output=[ids]: {facts.num_classes} classes do not fit into the 16 bits of a PNG.")


def content(found: Segmentation, kind: str, *, alpha: float) -> bytes:
    """The bytes of a file of a kind.

    Args:
        found: What was segmented; with its probabilities where the kind is these.
        kind: `mask`: class ids with the classes' colours as palette; `ids`: class ids as grey values; `overlay`: the
            colours over the image, and a legend below; `probabilities`: NumPy's npz with `probabilities` (C, H, W)
            float16 and `classes`, their names.
        alpha: Share of the colours in the overlay.
    """
    if kind == "mask":
        return found.palette_png()
    if kind == "ids":
        return found.ids_png()
    if kind == "overlay":
        shares = shares_of(found.ids)
        legend = Legend(found.facts, found.ids.shape[1], labels=list(shares))
        return png_bytes(Image.fromarray(below(found.overlay(alpha), legend.draw(shares))))
    assert kind == "probabilities", f"{kind} is made of several images"
    assert found.probabilities is not None, "they were asked for"
    stream = io.BytesIO()
    names = np.array(found.facts.class_names)
    np.savez(stream, probabilities=found.probabilities.astype(np.float16), classes=names)
    return stream.getvalue()


def write(data: bytes, path: Path) -> None:
    """Write a file; whoever looks sees the old one or the new one, never half of one.

    Raises:
        UserError: It cannot be written.
    """
    try:
        with replacing(path) as partial:
            partial.write_bytes(data)
    except OSError as error:
        raise not_written(path, error) from error


def not_written(path: Path, error: OSError) -> UserError:
    """The sentence for a file that cannot be written."""
    return UserError(
        f"{path} cannot be written ({error.strerror or error}): see that there is room and that its folder may be "
        "written to, then run the command again; what is done stays."
    )
