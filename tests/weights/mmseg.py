"""mmsegmentation's FastFCN once more, from what its sources say: the same names, its own forward.

It shares no line with src/: what the project makes of a file is compared with what this makes of it. The widths may be
small, which the names and the order of channels do not depend on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: As a published file holds it, in its `meta`.
CONFIG = """
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    pretrained='open-mmlab://resnet50_v1c',
    backbone=dict(
        type='ResNetV1c',
        depth=50,
        num_stages=4,
        dilations=(1, 1, 2, 4),
        strides=(1, 2, 2, 2),
        out_indices=(1, 2, 3),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
        contract_dilation=True),
    neck=dict(type='JPU', in_channels=(512, 1024, 2048), mid_channels=512, dilations=(1, 2, 4, 8), align_corners=False),
    decode_head=dict(type='PSPHead', in_channels=2048, in_index=2, channels=512, pool_scales=(1, 2, 3, 6),
                     align_corners=False),
    auxiliary_head=dict(type='FCNHead', in_channels=1024, in_index=1, channels=256, align_corners=False),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
dataset_type = 'CityscapesDataset'
"""


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


class ConvModule(nn.Module):
    def __init__(
        self, cin: int, cout: int, kernel: int, *, dilation: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.conv = nn.Conv2d(cin, cout, kernel, padding=padding, dilation=dilation, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(cout)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return F.relu(x) if self.act else x


class Bottleneck(nn.Module):
    def __init__(self, cin: int, planes: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.downsample: nn.Module | None = None
        if stride != 1 or cin != 4 * planes:
            shortcut = nn.Conv2d(cin, 4 * planes, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(4 * planes))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNetV1c(nn.Module):
    """Depth 50; strides 1, 2, 2, 2 and dilations 1, 1, 2, 4, contracted in the first block of a stage."""

    def __init__(self) -> None:
        super().__init__()
        stem: list[nn.Module] = []
        for cin, cout, stride in ((3, 32, 2), (32, 32, 1), (32, 64, 1)):
            stem += [nn.Conv2d(cin, cout, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]
        self.stem = nn.Sequential(*stem)
        cin = 64
        stages = zip((3, 4, 6, 3), (64, 128, 256, 512), (1, 2, 2, 2), (1, 1, 2, 4), strict=True)
        for number, (blocks, planes, stride, dilation) in enumerate(stages, start=1):
            layer = [Bottleneck(cin, planes, stride=stride, dilation=max(dilation // 2, 1))]
            layer += [Bottleneck(4 * planes, planes, stride=1, dilation=dilation) for _ in range(blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*layer))
            cin = 4 * planes

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.max_pool2d(self.stem(x), 3, stride=2, padding=1)
        levels = []
        for number in (1, 2, 3, 4):
            x = self.get_submodule(f"layer{number}")(x)
            levels.append(x)
        return levels[1:]


class DepthwiseSeparable(nn.Module):
    def __init__(self, cin: int, cout: int, dilation: int) -> None:
        super().__init__()
        self.depthwise_conv = ConvModule(cin, cin, 3, dilation=dilation, groups=cin, act=False)
        self.pointwise_conv = ConvModule(cin, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return y


class JPU(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(nn.Sequential(ConvModule(c, width, 3)) for c in (512, 1024, 2048))
        self.dilation_layers = nn.ModuleList(
            nn.Sequential(DepthwiseSeparable(3 * width, width, dilation)) for dilation in (1, 2, 4, 8)
        )

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        maps = [conv(x) for conv, x in zip(self.conv_layers, levels, strict=True)]
        y = torch.cat([maps[0], *(resized(x, maps[0].shape[2:]) for x in maps[1:])], dim=1)
        return [*levels[:2], torch.cat([layer(y) for layer in self.dilation_layers], dim=1)]


class Head(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv_seg = nn.Conv2d(channels, classes, 1)


class PSPHead(Head):
    def __init__(self, cin: int, channels: int, classes: int) -> None:
        super().__init__(channels, classes)
        self.scales = (1, 2, 3, 6)
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), ConvModule(cin, channels, 1)) for scale in self.scales
        )
        self.bottleneck = ConvModule(cin + 4 * channels, channels, 3)

    def forward(self, levels: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        x = levels[2]
        y = torch.cat([x, *(resized(module(x), x.shape[2:]) for module in self.psp_modules)], dim=1)
        return self.conv_seg(self.bottleneck(y)), None


class ASPPHead(Head):
    def __init__(self, cin: int, channels: int, classes: int) -> None:
        super().__init__(channels, classes)
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvModule(cin, channels, 1))
        self.aspp_modules = nn.ModuleList(
            ConvModule(cin, channels, 1 if dilation == 1 else 3, dilation=dilation) for dilation in (1, 12, 24, 36)
        )
        self.bottleneck = ConvModule(5 * channels, channels, 3)

    def forward(self, levels: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        x = levels[2]
        y = torch.cat([resized(self.image_pool(x), x.shape[2:]), *(module(x) for module in self.aspp_modules)], dim=1)
        return self.conv_seg(self.bottleneck(y)), None


class Codes(nn.Module):
    def __init__(self, channels: int, codes: int) -> None:
        super().__init__()
        self.codewords = nn.Parameter(torch.empty(codes, channels))
        self.scale = nn.Parameter(torch.empty(codes))

    def forward(self, x: Tensor) -> Tensor:
        differences = x.flatten(2).transpose(1, 2).unsqueeze(2) - self.codewords
        weights = torch.softmax(self.scale * differences.square().sum(3), dim=2)
        return (weights.unsqueeze(3) * differences).sum(1)


class EncModule(nn.Module):
    def __init__(self, channels: int, codes: int) -> None:
        super().__init__()
        self.encoding_project = ConvModule(channels, channels, 1)
        self.encoding = nn.Sequential(Codes(channels, codes), nn.BatchNorm1d(codes), nn.ReLU())
        self.fc = nn.Sequential(nn.Linear(channels, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        feature = self.encoding(self.encoding_project(x)).mean(dim=1)
        return feature, F.relu(x + x * self.fc(feature)[:, :, None, None])


class EncHead(Head):
    def __init__(self, cin: int, channels: int, classes: int) -> None:
        super().__init__(channels, classes)
        self.bottleneck = ConvModule(cin, channels, 3)
        self.enc_module = EncModule(channels, 32)
        self.se_layer = nn.Linear(channels, classes)

    def forward(self, levels: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        feature, x = self.enc_module(self.bottleneck(levels[2]))
        return self.conv_seg(x), self.se_layer(feature)


class FCNHead(Head):
    def __init__(self, cin: int, channels: int, classes: int) -> None:
        super().__init__(channels, classes)
        self.convs = nn.Sequential(ConvModule(cin, channels, 3))

    def forward(self, levels: list[Tensor]) -> Tensor:
        y: Tensor = self.conv_seg(self.convs(levels[1]))
        return y


HEADS = {"psp": PSPHead, "aspp": ASPPHead, "enc": EncHead}


class EncoderDecoder(nn.Module):
    """(B, 3, H, W) -> logits of the head and of the auxiliary head at image size, and what predicts the classes."""

    def __init__(self, head: str, *, classes: int, width: int, channels: int) -> None:
        super().__init__()
        self.backbone = ResNetV1c()
        self.neck = JPU(width)
        self.decode_head = HEADS[head](4 * width, channels, classes)
        self.auxiliary_head = FCNHead(1024, 256, classes)
        generator = torch.Generator().manual_seed(0)
        for name, value in self.state_dict().items():
            _fill(name, value, generator)
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        levels = self.neck(self.backbone(image))
        logits, presence = self.decode_head(levels)
        aux = self.auxiliary_head(levels)
        return resized(logits, image.shape[2:]), resized(aux, image.shape[2:]), presence


def _fill(name: str, value: Tensor, generator: torch.Generator) -> None:
    """Weights of noise under which no map dies out or grows beyond measure, and no two channels are alike."""
    last = name.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return
    if last == "running_var" or (last == "weight" and value.ndim == 1):
        value.uniform_(0.5, 1.5, generator=generator)
    elif last == "scale":
        value.uniform_(-1, 0, generator=generator)
    elif last in ("running_mean", "bias"):
        value.normal_(0, 0.1, generator=generator)
    else:
        value.normal_(0, 1 / math.sqrt(value[0].numel()), generator=generator)
