"""The paper's Tables 1 to 4 as data, and which of their figures a row stands beside.

Wu et al. 2019, arXiv 1903.11816. Percent, and images per second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fastfcn.report.rows import Row, Section


class Quality(NamedTuple):
    """Percent; None where the paper gives none."""

    pix_acc: float | None
    miou: float


#: Table 1 (section 4.2): Pascal Context val, 59 classes, ResNet-50, one scale. By head and upsampler.
TABLE_1: Mapping[tuple[str, str], Quality] = {
    ("encoding", "none"): Quality(78.39, 49.91),
    ("encoding", "bilinear"): Quality(76.10, 46.47),
    ("encoding", "fpn"): Quality(78.16, 49.59),
    ("encoding", "jpu"): Quality(78.98, 51.05),
    ("aspp", "none"): Quality(78.27, 49.19),
    ("aspp", "jpu"): Quality(78.79, 50.07),
    ("psp", "none"): Quality(78.60, 50.58),
    ("psp", "jpu"): Quality(78.91, 50.89),
}

#: Table 2 (section 4.2): frames per second on a Titan Xp, 512 x 512, mean of 100. By depth, head, upsampler.
TABLE_2: Mapping[tuple[int, str, str], float] = {
    (50, "encoding", "none"): 18.77,
    (50, "encoding", "bilinear"): 45.67,
    (50, "encoding", "fpn"): 37.87,
    (50, "encoding", "jpu"): 37.56,
    (50, "aspp", "none"): 15.99,
    (50, "aspp", "jpu"): 20.67,
    (50, "psp", "none"): 18.08,
    (50, "psp", "jpu"): 28.48,
    (101, "encoding", "none"): 10.51,
    (101, "encoding", "bilinear"): 35.20,
    (101, "encoding", "fpn"): 32.40,
    (101, "encoding", "jpu"): 32.02,
    (101, "aspp", "none"): 10.46,
    (101, "aspp", "jpu"): 18.08,
    (101, "psp", "none"): 11.36,
    (101, "psp", "jpu"): 23.87,
}

#: Table 3 (section 4.3): Pascal Context val, several scales with mirror images, 60 classes. By method and backbone.
TABLE_3: Mapping[tuple[str, str], float] = {
    ("FCN-8s", ""): 37.8,
    ("CRF-RNN", ""): 39.3,
    ("ParseNet", ""): 40.4,
    ("BoxSup", ""): 40.5,
    ("HO-CRF", ""): 41.3,
    ("Piecewise", ""): 43.3,
    ("VeryDeep", ""): 44.5,
    ("DeepLabV2", "ResNet-101 + COCO"): 45.7,
    ("RefineNet", "ResNet-152"): 47.3,
    ("EncNet", "ResNet-101"): 51.7,
    ("DUpsampling", "Xception-71"): 52.5,
    ("EncNet+JPU", "ResNet-50"): 51.2,
    ("EncNet+JPU", "ResNet-101"): 53.1,
}

#: The text of section 4.3 gives Table 3's two rows of JPU on 59 classes too. By depth.
TABLE_3_ON_59: Mapping[int, float] = {50: 52.10, 101: 54.03}

#: Table 4 (section 4.3): ADE20K val, several scales with mirror images. By method and backbone.
TABLE_4: Mapping[tuple[str, str], Quality] = {
    ("FCN", ""): Quality(71.32, 29.39),
    ("SegNet", ""): Quality(71.00, 21.64),
    ("DilatedNet", ""): Quality(73.55, 32.31),
    ("CascadeNet", ""): Quality(74.52, 34.90),
    ("RefineNet", "ResNet-152"): Quality(None, 40.7),
    ("PSPNet", "ResNet-101"): Quality(81.39, 43.29),
    ("PSPNet", "ResNet-269"): Quality(81.69, 44.94),
    ("EncNet", "ResNet-50"): Quality(79.73, 41.11),
    ("EncNet", "ResNet-101"): Quality(81.69, 44.65),
    ("Ours", "ResNet-50"): Quality(80.39, 42.75),
    ("Ours", "ResNet-101"): Quality(80.99, 44.34),
}

#: What Tables 3 and 4 call the methods whose models are options here. By head and upsampler.
_METHODS_3 = {("encoding", "none"): "EncNet", ("encoding", "jpu"): "EncNet+JPU"}
_METHODS_4 = {("encoding", "none"): "EncNet", ("encoding", "jpu"): "Ours", ("psp", "none"): "PSPNet"}

#: Epochs of the paper's trainings (section 4.1 and 4.3), by data set.
EPOCHS = {"pascal_context": 80, "ade20k": 120}

#: Table 1's protocol: windows over each image at one scale. Tables 3 and 4: over six scales, with mirror images.
_ONE_SCALE, _SEVERAL_SCALES = "slide", "multiscale"


class Beside(NamedTuple):
    """The paper's figures beside the rows of a section.

    Attributes:
        title: of which table, and how measured.
        short: data set, and backbone where there is one.
        comparable: whether data set, protocol and, of some row, the backbone are the paper's. Then rows of another
            backbone have no figure; where it is False every row has one, for scale.
        figures: one per row; None where the paper has none.
    """

    title: str
    short: str
    comparable: bool
    figures: list[Quality | None]


def depth(backbone: str) -> int | None:
    """50 or 101 for the paper's two backbones, with either stem; None for any other."""
    return {"resnet50": 50, "resnet50s": 50, "resnet101": 101, "resnet101s": 101}.get(backbone)


def beside(section: Section) -> Beside:
    """The paper's figures for a section: comparable where data, protocol and backbone match, else for scale."""
    config = section.rows[0].runs[0].config
    whole = config.get("trainer", {}).get("limit_test_batches") is None
    classes = config["data"].get("dataset", {}).get("classes")
    several = section.protocol == _SEVERAL_SCALES
    if section.data == "ade20k":
        title, short, look_up = "Table 4, ADE20K val, several scales", "ADE20K", _table_4
        alike = several
    elif section.data == "pascal_context" and several and classes == 60:
        title, short, look_up = "Table 3, Pascal Context val, 60 classes, several scales", "Pascal Context", _table_3
        alike = True
    elif section.data == "pascal_context" and several:
        title, short = "section 4.3, Pascal Context val, 59 classes, several scales", "Pascal Context"
        look_up, alike = _table_3_on_59, True
    else:
        title, short = "Table 1, Pascal Context val, ResNet-50, one scale", "Pascal Context, R50"
        look_up = _table_1
        alike = section.data == "pascal_context" and section.protocol == _ONE_SCALE and classes == 59
    figures = [look_up(row, depth(row.backbone)) for row in section.rows]
    if alike and whole and any(figures):
        return Beside(title, short, True, figures)
    return Beside(
        title, short, False, [look_up(row, depth(row.backbone) or 50) or look_up(row, 50) for row in section.rows]
    )


def fps(row: Row) -> tuple[float, int] | None:
    """Table 2's frames per second of a row's model, and the depth of the backbone that they were measured with.

    A backbone that the paper has not is shown beside ResNet-50's, for scale.
    """
    of = depth(row.backbone) or 50
    found = TABLE_2.get((of, row.head, row.upsample))
    return None if found is None else (found, of)


def _table_1(row: Row, of: int | None) -> Quality | None:
    return TABLE_1.get((row.head, row.upsample)) if of == 50 else None


def _table_3(row: Row, of: int | None) -> Quality | None:
    found = TABLE_3.get((_METHODS_3.get((row.head, row.upsample), ""), f"ResNet-{of}"))
    return None if found is None else Quality(None, found)


def _table_3_on_59(row: Row, of: int | None) -> Quality | None:
    found = TABLE_3_ON_59.get(of or 0) if (row.head, row.upsample) == ("encoding", "jpu") else None
    return None if found is None else Quality(None, found)


def _table_4(row: Row, of: int | None) -> Quality | None:
    return TABLE_4.get((_METHODS_4.get((row.head, row.upsample), ""), f"ResNet-{of}"))
