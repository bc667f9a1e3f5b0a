"""The names of mmsegmentation's FastFCN beside this project's, and what it is when no weight tells."""

from __future__ import annotations

from collections.abc import Mapping

from fastfcn.official_names import Renames
from fastfcn.types import DataFacts


def _conv(theirs: str, ours: str) -> Renames:
    """A convolution with its norm."""
    return ((f"{theirs}conv.", f"{ours}0."), (f"{theirs}bn.", f"{ours}1."))


def _arm(index: int) -> Renames:
    theirs, ours = f"neck.dilation_layers.{index}.0.", f"upsample.arms.{index}."
    return (
        (f"{theirs}depthwise_conv.conv.", f"{ours}0.depthwise."),
        (f"{theirs}depthwise_conv.bn.", f"{ours}0.norm."),
        (f"{theirs}pointwise_conv.conv.", f"{ours}0.pointwise."),
        (f"{theirs}pointwise_conv.bn.", f"{ours}1."),
    )


COMMON: Renames = (
    ("backbone.stem.7.", "backbone.bn1."),
    ("backbone.stem.", "backbone.conv1."),
    ("backbone.", "backbone."),
    *(pair for i in range(3) for pair in _conv(f"neck.conv_layers.{i}.0.", f"upsample.embed{i + 3}.")),
    *(pair for i in range(4) for pair in _arm(i)),
    *_conv("auxiliary_head.convs.0.", "aux_head.block."),
    ("auxiliary_head.conv_seg.", "aux_head.classify.1."),
    ("decode_head.conv_seg.", "head.classify.1."),
)
HEADS: Mapping[str, Renames] = {
    "encoding": (
        *_conv("decode_head.bottleneck.", "head.squeeze."),
        *_conv("decode_head.enc_module.encoding_project.", "head.context.project."),
        ("decode_head.enc_module.encoding.0.", "head.context.encoding."),
        ("decode_head.enc_module.encoding.1.", "head.context.norm."),
        ("decode_head.enc_module.fc.0.", "head.context.gate."),
        ("decode_head.se_layer.", "head.context.presence."),
    ),
    "psp": (
        *(pair for i in range(4) for pair in _conv(f"decode_head.psp_modules.{i}.1.", f"head.branches.{i}.")),
        *_conv("decode_head.bottleneck.", "head.block."),
    ),
    "aspp": (
        *_conv("decode_head.image_pool.1.", "head.branches.4.project."),
        *(pair for i in range(4) for pair in _conv(f"decode_head.aspp_modules.{i}.", f"head.branches.{i}.")),
        *_conv("decode_head.bottleneck.", "head.block."),
    ),
}

#: By which a head is known.
KNOWN_BY = {
    "encoding": "decode_head.enc_module.encoding.0.codewords",
    "psp": "decode_head.psp_modules.0.1.conv.weight",
    "aspp": "decode_head.aspp_modules.0.conv.weight",
}

#: What no weight tells: the value of the published configurations, and what mmsegmentation takes where none is given.
OPTIONS: Mapping[str, tuple[object, object]] = {
    "backbone.strides": ((1, 2, 2, 2), (1, 2, 2, 2)),
    "backbone.dilations": ((1, 1, 2, 4), (1, 1, 1, 1)),
    "backbone.contract_dilation": (True, False),
    "backbone.style": ("pytorch", "pytorch"),
    "backbone.multi_grid": (None, None),
    "neck.dilations": ((1, 2, 4, 8), (1, 2, 4, 8)),
    "neck.align_corners": (False, False),
    "decode_head.align_corners": (False, False),
    "decode_head.pool_scales": ((1, 2, 3, 6), (1, 2, 3, 6)),  # of PSPHead
    "decode_head.dilations": ((1, 12, 24, 36), (1, 12, 24, 36)),  # of ASPPHead
    "auxiliary_head.in_index": (1, -1),
}

CITYSCAPES = DataFacts(
    "cityscapes",
    (
        *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
        *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    ),
    (
        *((128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153)),
        *((250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60)),
        *((255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32)),
    ),
)
