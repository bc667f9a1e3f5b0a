"""ResNet backbones: torchvision's with the 7x7 stem, and the deep-stem variant of the official code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Literal

import torchvision
from torch import Tensor, nn

from fastfcn.errors import UserError
from fastfcn.models.backbones.weights import load_backbone, resolve
from fastfcn.types import Pyramid

#: Channels of the three convolutions of a deep stem: the official code's, and ResNet-C's (He et al., "Bag of Tricks for
#: Image Classification", CVPR 2019), whose output is as wide as the 7x7 stem's.
DEEP_STEMS = {"deep": (64, 64, 128), "resnet_c": (32, 32, 64)}


class ResNet(nn.Module):
    """ResNet 18 to 152 without its classifier; entries are named as torchvision names them.

    Args:
        depth: 18, 34, 50, 101 or 152.
        stem: ``7x7`` as torchvision's, or ``deep``: three 3x3 convolutions (64 with stride 2, 64, 128), as the official
            code and the paper's measurements have it; or ``resnet_c``, the same with 32, 32, 64, as mmsegmentation's
            ResNetV1c. The last two have depth 50, 101 or 152.
        output_stride: 32, or 8 for the dilated backbone (section 3.1): the last two stages lose their stride, stage 4
            gets dilation 2 and stage 5 dilation 4, each with its first block at the dilation of the stage before.
        dilate: give the last two stages these dilations at output stride 32 as well, where they keep their strides, as
            mmsegmentation's FastFCN has it.
        weights: None or "none", a torchvision weights name (``IMAGENET1K_V1``, ``DEFAULT``), or a file.

    Attributes:
        out_channels: of c2 to c5.

    Raises:
        UserError: an option that does not exist, or weights that do not fit.
    """

    def __init__(
        self,
        *,
        depth: int,
        stem: Literal["7x7", "deep", "resnet_c"] = "7x7",
        output_stride: int = 32,
        dilate: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if depth not in (18, 34, 50, 101, 152):
            raise UserError(f"backbone.depth={depth}: choose 18, 34, 50, 101 or 152.")
        if stem not in ("7x7", *DEEP_STEMS) or (stem != "7x7" and depth < 50):
            raise UserError(
                f"backbone.stem={stem} at depth {depth}: choose 7x7, or resnet_c or deep with depth 50, 101 or 152."
            )
        if output_stride not in (8, 32):
            raise UserError(f"output_stride={output_stride}: choose 8 (dilated) or 32.")
        net = torchvision.models.get_model(f"resnet{depth}", weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        if stem in DEEP_STEMS:
            self._deepen_stem(*DEEP_STEMS[stem])
        if dilate or output_stride == 8:
            dilated(self.layer3, first=1, rest=2, keep_stride=output_stride == 32)
            dilated(self.layer4, first=2, rest=4, keep_stride=output_stride == 32)
        expansion = 1 if depth < 50 else 4
        self.output_stride = output_stride
        self.out_channels = (64 * expansion, 128 * expansion, 256 * expansion, 512 * expansion)
        state = resolve(weights, lambda name: self._torchvision_weights(depth, stem, name))
        if state is not None:
            load_backbone(self, state, source=str(weights))

    def forward(self, image: Tensor) -> Pyramid:
        """(B, 3, H, W) -> c2 to c5 at strides 4, 8, 16, 32, or 4, 8, 8, 8 when dilated."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        c2 = self.layer1(x)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        c5 = self.layer4(c4)
        return Pyramid(c2, c3, c4, c5)

    def stage(self, level: str) -> nn.Module:
        """The module that makes a level, c2 to c5, out of the one before."""
        return self.get_submodule(f"layer{int(level[1]) - 1}")

    def _deepen_stem(self, first: int, second: int, third: int) -> None:
        """Replace the 7x7 stem, and what reads it, by a deep one under the official code's names."""
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
            nn.Conv2d(first, second, 3, padding=1, bias=False),
            nn.BatchNorm2d(second),
            nn.ReLU(inplace=True),
            nn.Conv2d(second, third, 3, padding=1, bias=False),
        )
        self.bn1 = nn.BatchNorm2d(third)
        block = self.layer1[0]
        block.conv1 = nn.Conv2d(third, 64, 1, bias=False)
        block.downsample[0] = nn.Conv2d(third, 256, 1, bias=False)
        for module in (self.conv1[0], self.conv1[3], self.conv1[6], block.conv1, block.downsample[0]):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _torchvision_weights(depth: int, stem: str, name: str) -> Mapping[str, Tensor]:
        names = [weights.name for weights in torchvision.models.get_model_weights(f"resnet{depth}")]
        if stem in DEEP_STEMS:
            raise UserError(f"backbone.weights={name}: torchvision has none with a deep stem; give a file, or none.")
        if name not in [*names, "DEFAULT"]:
            raise UserError(f"backbone.weights={name}: resnet{depth} has {', '.join(names)}; or give a file, or none.")
        weights = torchvision.models.get_model_weights(f"resnet{depth}")[name]
        try:
            state: Mapping[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True)
        except (OSError, RuntimeError) as error:  # no network, or another file than the expected one
            file = PurePosixPath(weights.url).name
            raise UserError(
                f"backbone.weights={name} could not be downloaded ({error}): fetch {weights.url} on a machine with a "
                f"network and run the command again with backbone.weights=/path/to/{file}, or backbone.weights=none."
            ) from error
        return state


def dilated(stage: nn.Module, *, first: int, rest: int, keep_stride: bool = False) -> None:
    """Trade a stage's stride for dilation (equation 2), for basic and bottleneck blocks alike.

    The stage then computes what it computed before at the old positions, and the positions in between.

    Args:
        stage: the residual blocks of a stage, changed in place.
        first: dilation of the convolution that had the stride, the dilation of the stage before.
        rest: dilation of the 3x3 convolutions behind it.
        keep_stride: dilate only; the stage then computes something else.
    """
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            if module.kernel_size == (3, 3):
                dilation = first if module.stride == (2, 2) else rest
                module.dilation = module.padding = (dilation, dilation)
            if not keep_stride:
                module.stride = (1, 1)
