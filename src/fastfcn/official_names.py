"""The names of the original code's checkpoints beside this project's, and what they tell of the model.

The tables are the whole difference between the two namings, so that weights travel both ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from fastfcn.errors import UserError

#: Pairs of prefixes, official and ours; the first that fits is taken.
Renames = tuple[tuple[str, str], ...]


def _separable(official: str, ours: str) -> Renames:
    return (
        (f"{official}0.conv1.", f"{ours}0.depthwise."),
        (f"{official}0.bn.", f"{ours}0.norm."),
        (f"{official}0.pointwise.", f"{ours}0.pointwise."),
        (f"{official}1.", f"{ours}1."),
    )


def _joint(official: str, ours: str) -> Renames:
    arms = (_separable(f"{official}dilation{i}.", f"{ours}arms.{i - 1}.") for i in (1, 2, 3))
    return (
        (f"{official}conv_l.", f"{ours}embed_low."),
        (f"{official}conv_h.", f"{ours}embed_high."),
        *(pair for arm in arms for pair in arm),
    )


COMMON: Renames = (
    ("pretrained.", "backbone."),
    ("auxlayer.conv5.0.", "aux_head.block.0."),
    ("auxlayer.conv5.1.", "aux_head.block.1."),
    ("auxlayer.conv5.4.", "aux_head.classify.1."),
)
HEADS: Mapping[str, Renames] = {
    "encoding": (
        ("head.conv5.", "head.squeeze."),
        ("head.encmodule.encoding.0.", "head.context.project.0."),
        ("head.encmodule.encoding.1.", "head.context.project.1."),
        ("head.encmodule.encoding.3.", "head.context.encoding."),
        ("head.encmodule.encoding.4.", "head.context.norm."),
        ("head.encmodule.fc.0.", "head.context.gate."),
        ("head.encmodule.selayer.", "head.context.presence."),
        ("head.conv6.1.", "head.classify.1."),
    ),
    "psp": (
        *((f"head.conv5.0.conv{i}.", f"head.branches.{i - 1}.") for i in (1, 2, 3, 4)),
        ("head.conv5.1.", "head.block.0."),
        ("head.conv5.2.", "head.block.1."),
        ("head.conv5.5.", "head.classify.1."),
    ),
    "aspp": (
        *((f"head.aspp.b{i}.", f"head.branches.{i}.") for i in (0, 1, 2, 3)),
        ("head.aspp.b4.gap.1.", "head.branches.4.project.0."),
        ("head.aspp.b4.gap.2.", "head.branches.4.project.1."),
        ("head.aspp.project.", "head.project."),
        ("head.block.4.", "head.classify.1."),
        ("head.block.", "head.block."),
    ),
}
UPSAMPLERS: Mapping[str, Renames] = {
    "none": (),
    "jpu": (
        *((f"jpu.conv{i}.", f"upsample.embed{i}.") for i in (3, 4, 5)),
        *(pair for i in (1, 2, 3, 4) for pair in _separable(f"jpu.dilation{i}.", f"upsample.arms.{i - 1}.")),
    ),
    "jpu_x": (*_joint("jpu.jum_1.", "upsample.upsample4."), *_joint("jpu.jum_2.", "upsample.upsample5.")),
}

#: An entry that only the classifier at the end of each head has: its rows are the classes.
CLASSIFIERS = {"encoding": "head.conv6.1.weight", "psp": "head.conv5.5.weight", "aspp": "head.block.4.weight"}

#: Blocks of the third stage, by which the depths differ.
DEPTHS = {6: 50, 23: 101, 36: 152}

#: The ImageNet classifier, which the original keeps in its state dict and never uses.
IMAGENET = {"pretrained.fc.weight": (1000, 2048), "pretrained.fc.bias": (1000,)}

TARGETS = {
    "none": "fastfcn.models.upsamplers.none.NoUpsample",
    "jpu": "fastfcn.models.upsamplers.jpu.JPU",
    "jpu_x": "fastfcn.models.upsamplers.jpu_x.JPUX",
    "encoding": "fastfcn.models.heads.encoding.EncodingHead",
    "psp": "fastfcn.models.heads.psp.PSPHead",
    "aspp": "fastfcn.models.heads.aspp.ASPPHead",
    "fcn": "fastfcn.models.heads.fcn.FCNHead",
    "resnet": "fastfcn.models.backbones.resnet.ResNet",
}


class Architecture(NamedTuple):
    """What a state dict tells of its model.

    Attributes:
        head: `encoding`, `psp` or `aspp`.
        upsample: `none`, `jpu` or `jpu_x`.
        depth: Of the ResNet, which has a deep stem.
        num_classes: Of the logits.
        aux: Whether there is an auxiliary head.
        options: Of the head and of the upsampler, where their shapes tell.
    """

    head: str
    upsample: str
    depth: int
    num_classes: int
    aux: bool
    options: tuple[dict[str, Any], dict[str, Any]]

    @property
    def renames(self) -> Renames:
        """Of all entries."""
        return (*COMMON, *HEADS[self.head], *UPSAMPLERS[self.upsample])

    def standard(self) -> Architecture:
        """The same with the original code's own options, which no file of it has otherwise."""
        head = {"kernel_size": 3 if self.upsample == "none" else 1, "presence": self.options[0].get("presence")}
        return self._replace(options=(head if self.head == "encoding" else {}, {}))

    def config(self) -> dict[str, Any]:
        """What rebuilds the model, as a checkpoint of this project holds it."""
        head, upsample = self.options
        aux = {"_target_": TARGETS["fcn"], "_partial_": True, "level": "c4"} if self.aux else None
        return {
            "_target_": "fastfcn.models.fastfcn.FastFCN",
            "_convert_": "all",
            "backbone": {
                "_target_": TARGETS["resnet"],
                "depth": self.depth,
                "stem": "deep",
                "output_stride": 8 if self.upsample == "none" else 32,
                "weights": None,
            },
            "upsample": {"_target_": TARGETS[self.upsample], "_partial_": True, **upsample},
            "head": {"_target_": TARGETS[self.head], "_partial_": True, **head},
            "aux_head": aux,
        }


def infer(state: Mapping[str, Tensor], *, path: Path) -> Architecture:
    """Tell the architecture from names and shapes.

    Raises:
        UserError: It is none that the original code makes and this project has.
    """
    if lateral := next((name for name in state if name.startswith(("head.connect.", "head.fusion."))), None):
        raise UserError(
            f"{path} has lateral connections ({lateral}), which this project does not have: use a checkpoint without."
        )
    head = next((head for head, name in CLASSIFIERS.items() if name in state), None)
    if head is None or "pretrained.conv1.0.weight" not in state:
        missing = "pretrained.conv1.0.weight" if head else " or ".join(CLASSIFIERS.values())
        raise UserError(
            f"{path} is no EncNet, PSP or DeepLab of the original code: it has no entry {missing} (its first is "
            f"{next(iter(state), 'missing')})."
        )
    upsample = "jpu" if "jpu.conv5.0.weight" in state else "jpu_x" if "jpu.jum_2.conv_l.0.weight" in state else "none"
    blocks = len({name.split(".")[2] for name in state if name.startswith("pretrained.layer3.")})
    if blocks not in DEPTHS:
        raise UserError(
            f"{path} has {blocks} blocks in pretrained.layer3, which no ResNet of depth "
            f"{', '.join(map(str, DEPTHS.values()))} has."
        )
    options: dict[str, Any] = {}
    wide = {"jpu": "jpu.conv5.0.weight", "jpu_x": "jpu.jum_2.conv_l.0.weight"}
    told = [(CLASSIFIERS[head], 4), *((wide[key], 4) for key in wide if key == upsample)]
    if head == "encoding":
        told += [("head.conv5.0.weight", 4), ("head.encmodule.encoding.3.codewords", 2)]
    for name, dimensions in told:
        if name not in state or state[name].ndim != dimensions:
            raise UserError(
                f"{path} has no entry {name} of {dimensions} dimensions: it is damaged, or of another model."
            )
    if head == "encoding":
        squeeze, codewords = state["head.conv5.0.weight"], state["head.encmodule.encoding.3.codewords"]
        options = {
            "kernel_size": squeeze.shape[-1],
            "width": squeeze.shape[0],
            "num_codewords": codewords.shape[0],
            "presence": "head.encmodule.selayer.weight" in state,
        }
    width = {"width": state[wide[upsample]].shape[0]} if upsample in wide else {}
    aux = any(name.startswith("auxlayer.") for name in state)
    return Architecture(head, upsample, DEPTHS[blocks], len(state[CLASSIFIERS[head]]), aux, (options, width))


def renamed(name: str, renames: Renames, *, path: Path) -> str:
    """An entry's name in the other naming.

    Raises:
        UserError: It has none.
    """
    for old, new in renames:
        if name.startswith(old):
            return new + name.removeprefix(old)
    raise UserError(f"{path} has the entry {name}, which its model has no place for.")
