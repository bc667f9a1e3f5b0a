"""What is known of data sets that models are trained on: where they come from, and what their owners allow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class DataSet(NamedTuple):
    """A data set.

    Attributes:
        title: As it is called.
        tag: Among the card's data sets.
        home: Its page; None for the one that is drawn here.
        licence: What its owners allow, in words.
        weights_licence: Licence of weights trained on it where nothing stands against one; None: its user says.
    """

    title: str
    tag: str
    home: str | None
    licence: str
    weights_licence: str | None = None


KNOWN: Mapping[str, DataSet] = {
    "scenes": DataSet(
        "Scenes", "scenes", None, "drawn by the program of this project, which is under the MIT licence", "mit"
    ),
    "ade20k": DataSet(
        "ADE20K (scene parsing challenge 2016)",
        "ade20k",
        "https://groups.csail.mit.edu/vision/datasets/ADE20K/",
        "annotations under BSD 3-Clause; the images belong to their owners, for non-commercial research and education",
    ),
    "pascal_context": DataSet(
        "Pascal Context",
        "pascal-context",
        "https://cs.stanford.edu/~roozbeh/pascal-context/",
        "images of PASCAL VOC 2010 under Flickr's terms of use; the annotations' authors state no licence",
    ),
    "cityscapes": DataSet(
        "Cityscapes", "cityscapes", "https://www.cityscapes-dataset.com/", "for non-commercial use, by its own terms"
    ),
}
