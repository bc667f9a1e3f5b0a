"""Checkpoints of mmsegmentation's FastFCN (its configs/fastfcn): names, options, the order of channels.

The layout is that of versions 0.18 to 1.2: ResNetV1c, the JPU neck, and a PSP, ASPP or Enc head. Three things differ
from the paper's code besides the names. The backbone keeps the strides of its last two stages and dilates them all the
same; JPU concatenates c3, c4, c5 and ASPP puts the pooled branch first; and bilinear resizing is without align_corners.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastfcn.errors import UserError
from fastfcn.mmseg_names import CITYSCAPES, COMMON, HEADS, KNOWN_BY, OPTIONS
from fastfcn.official_names import DEPTHS, TARGETS, Renames, renamed
from fastfcn.types import DataFacts


class Found(NamedTuple):
    """What a file tells of its model.

    Attributes:
        config: What rebuilds the model, as a checkpoint of this project holds it.
        renames: Of all entries, mmsegmentation's and ours.
        num_classes: Of the logits.
    """

    config: dict[str, Any]
    renames: Renames
    num_classes: int


def is_one(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is of a segmentor of mmsegmentation."""
    return any(name.startswith("decode_head.") for name in state)


def infer(state: Mapping[str, Tensor], meta: object, *, path: Path) -> Found:
    """Tell the model from names and shapes, and see that what they do not tell is as published.

    Args:
        state: Of the file.
        meta: The file's `meta`, where there is one; it holds the configuration as text.
        path: For the messages.

    Raises:
        UserError: It is none of mmsegmentation's FastFCN, or one whose options this project does not have.
    """
    head = next((head for head, name in KNOWN_BY.items() if name in state), None)
    if lateral := next((name for name in state if name.startswith("decode_head.lateral_convs.")), None):
        raise UserError(
            f"{path} has lateral connections ({lateral}), which this project does not have: use a checkpoint without."
        )
    for name, what in {
        "neck.conv_layers.0.0.conv.weight": "the JPU neck",
        "backbone.stem.0.weight": "the ResNetV1c backbone",
        KNOWN_BY.get(head or "", " or ".join(KNOWN_BY.values())): "the Enc, PSP or ASPP head",
        "decode_head.conv_seg.weight": "the classifier",
    }.items():
        if name not in state:
            raise UserError(f"{path} is no FastFCN of mmsegmentation: it has no entry {name}, of {what}.")
    assert head is not None
    _check_options(meta, head, path=path)
    blocks = len({name.split(".")[2] for name in state if name.startswith("backbone.layer3.")})
    if blocks not in DEPTHS:
        raise UserError(
            f"{path} has {blocks} blocks in backbone.layer3, which no ResNet of depth "
            f"{', '.join(map(str, DEPTHS.values()))} has."
        )
    aux = any(name.startswith("auxiliary_head.") for name in state)
    config = {
        "_target_": "fastfcn.models.fastfcn.FastFCN",
        "_convert_": "all",
        "backbone": {
            "_target_": TARGETS["resnet"],
            "depth": DEPTHS[blocks],
            "stem": "resnet_c",
            "output_stride": 32,
            "dilate": True,
            "weights": None,
        },
        "upsample": {
            "_target_": TARGETS["jpu"],
            "_partial_": True,
            "width": _side(state, "neck.conv_layers.0.0.conv.weight", 4, path=path),
            "align_corners": False,
        },
        "head": {"_target_": TARGETS[head], "_partial_": True, **_head_options(head, state, path=path)},
        "aux_head": {"_target_": TARGETS["fcn"], "_partial_": True, "level": "c4"} if aux else None,
        "align_corners": False,
    }
    classes = _side(state, "decode_head.conv_seg.weight", 4, path=path)
    return Found(config, (*COMMON, *HEADS[head]), classes)


def weights_of(state: Mapping[str, Tensor], found: Found, *, path: Path) -> dict[str, Tensor]:
    """The entries under this project's names, their channels still in mmsegmentation's order."""
    return {renamed(name, found.renames, path=path): value for name, value in state.items()}


def reordered(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries in this project's order of channels; their shapes must fit.

    JPU's arms read c5, c4, c3 here and c3, c4, c5 there; behind ASPP's branches the pooled one stands last here and
    first there. A depthwise convolution and its norm keep channels apart, so both orders compute the same.
    """
    done = dict(weights)
    for name, value in weights.items():
        part = name.split(".")[2:]  # of upsample.arms.1.0.depthwise.weight what stands behind the arms
        if name.startswith("upsample.arms.") and part[1] == "0" and value.ndim:
            dim = 1 if part[2] == "pointwise" else 0
            done[name] = torch.cat(value.chunk(3, dim)[::-1], dim)
    if "head.branches.4.project.0.weight" in weights:
        pooled, *others = weights["head.block.0.weight"].chunk(5, 1)
        done["head.block.0.weight"] = torch.cat([*others, pooled], 1)
    return done


def facts_in(meta: object, num_classes: int) -> DataFacts | None:
    """What the file tells of its data set besides the number of classes; None where that must do.

    Names and colours as the file has them, but for ADE20K, which this project has under names of its own.
    """
    told = meta if isinstance(meta, Mapping) else {}
    newer = told.get("dataset_meta")
    newer = newer if isinstance(newer, Mapping) else {}
    names, colours = told.get("CLASSES", newer.get("classes")), told.get("PALETTE", newer.get("palette"))
    if not isinstance(names, list | tuple) or len(names) != num_classes:
        return CITYSCAPES if num_classes == CITYSCAPES.num_classes else None
    names = tuple(str(name).strip() for name in names)
    if names == CITYSCAPES.class_names:
        return CITYSCAPES
    if num_classes == 150 and (names[0], names[-1]) == ("wall", "flag"):
        return None
    if not isinstance(colours, list | tuple) or not all(_is_colour(colour) for colour in colours):
        return None
    palette = tuple((int(r), int(g), int(b)) for r, g, b in colours)
    return DataFacts("mmsegmentation", names, palette) if len(palette) == num_classes else None


def _is_colour(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(isinstance(part, int) for part in value)


def _head_options(head: str, state: Mapping[str, Tensor], *, path: Path) -> dict[str, Any]:
    if head == "encoding":
        return {
            "kernel_size": 3,
            "width": _side(state, "decode_head.bottleneck.conv.weight", 4, path=path),
            "num_codewords": _side(state, KNOWN_BY["encoding"], 2, path=path),
            "presence": "decode_head.se_layer.weight" in state,
        }
    if head == "aspp":
        return {"width": _side(state, KNOWN_BY["aspp"], 4, path=path), "project": False}
    return {"align_corners": False}


def _side(state: Mapping[str, Tensor], name: str, dimensions: int, *, path: Path) -> int:
    """The first side of an entry."""
    if name not in state or state[name].ndim != dimensions:
        raise UserError(f"{path} has no entry {name} of {dimensions} dimensions: it is damaged, or of another model.")
    return int(state[name].shape[0])


def _check_options(meta: object, head: str, *, path: Path) -> None:
    """Refuse a file whose configuration differs from the published ones in what the weights do not tell.

    A file without a configuration, such as a bare state dict, is taken for one of the published.
    """
    told = meta if isinstance(meta, Mapping) else {}
    text = told.get("config", told.get("cfg"))
    if not isinstance(text, str):
        return
    model = _model_in(text)
    if model is None:
        raise UserError(f"{path} has a configuration of which `model = dict(...)` cannot be read: it is damaged.")
    for key, (published, default) in OPTIONS.items():
        part, name = key.split(".")
        if (name == "pool_scales" and head != "psp") or (key == "decode_head.dilations" and head != "aspp"):
            continue
        options = model.get(part)
        if not isinstance(options, Mapping):
            continue
        value = options.get(name, default)
        value = tuple(value) if isinstance(value, list) else value
        if value != published:
            raise UserError(
                f"{path}: its configuration has {key}={value}, and the FastFCN of mmsegmentation that this project "
                f"rebuilds has {published}: its weights would give something else here."
            )


def _model_in(text: str) -> Mapping[str, Any] | None:
    """`model` of a configuration's text; nothing of the text is run, and what is no plain value is None."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == "model" for to in node.targets):
            value = _value(node.value)
            return value if isinstance(value, Mapping) else None
    return None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        return {word.arg: _value(word.value) for word in node.keywords if word.arg is not None}
    if isinstance(node, ast.Dict):
        keys = (key.value if isinstance(key, ast.Constant) else None for key in node.keys)
        return {key: _value(value) for key, value in zip(keys, node.values, strict=True) if key is not None}
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return None
