"""Any timm model that gives feature maps at strides 4 to 32."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import timm
from torch import Tensor, nn

from fastfcn.errors import UserError
from fastfcn.models.backbones.weights import load_backbone, resolve
from fastfcn.types import Pyramid

STRIDES_PLAIN = (4, 8, 16, 32)
STRIDES_DILATED = (4, 8, 8, 8)


class TimmBackbone(nn.Module):
    """A timm model as a pyramid.

    Args:
        name: timm's name, e.g. ``convnext_tiny``.
        output_stride: 32, or 8 where the model can be dilated.
        weights: None or "none"; "DEFAULT" or a tag of timm (``in12k_ft_in1k``) for its pretrained weights; or a file of
            this module's entries.

    Attributes:
        out_channels: of c2 to c5.

    Raises:
        UserError: no such model, one without such feature maps or dilation, or weights that do not fit.
    """

    def __init__(self, *, name: str, output_stride: int = 32, weights: str | None = None) -> None:
        super().__init__()
        if not timm.is_model(name):
            near = ", ".join(get_close_matches(name, timm.list_models(), n=5)) or "timm.list_models() lists them"
            raise UserError(f"backbone.name={name}: timm has no such model; near ones: {near}.")
        self.output_stride = output_stride
        self.net = self._create(name, output_stride)
        wanted = STRIDES_PLAIN if output_stride == 32 else STRIDES_DILATED
        info: Any = self.net.feature_info
        # The last four levels: some models give one more at stride 2.
        self.levels = len(info.reduction()) - 4
        if self.levels < 0 or tuple(info.reduction()[-4:]) != wanted:
            raise UserError(
                f"backbone.name={name} gives feature maps at strides {info.reduction()}, not {list(wanted)}: "
                "choose a hierarchical model such as convnext_tiny or resnet50d"
                + (", or an upsampler other than none." if output_stride == 8 else ".")
            )
        c2, c3, c4, c5 = info.channels()[-4:]
        self.out_channels = (c2, c3, c4, c5)
        # Swin and its like give (B, H, W, C).
        self.channels_last_output = str(getattr(self.net, "output_fmt", "NCHW")).endswith("NHWC")
        state = resolve(weights, lambda tag: self._pretrained(name, tag))
        if state is not None:
            load_backbone(self.net, state, source=str(weights))

    def forward(self, image: Tensor) -> Pyramid:
        """(B, 3, H, W) -> c2 to c5 at strides 4, 8, 16, 32, or 4, 8, 8, 8 when dilated."""
        maps = self.net(image)[self.levels :]
        if self.channels_last_output:
            maps = [x.permute(0, 3, 1, 2) for x in maps]
        return Pyramid(*maps)

    def stage(self, level: str) -> nn.Module | None:
        """The module that ends in a level, c2 to c5; None where timm's model has none for it."""
        info: Any = self.net.feature_info
        name = info.module_name()[self.levels + int(level[1]) - 2].replace(".", "_")  # as timm flattens names
        return dict(self.net.named_children()).get(name)

    @staticmethod
    def _create(name: str, output_stride: int, *, pretrained: bool = False) -> nn.Module:
        try:
            # Models differ in how they refuse a stride: an assertion, a TypeError of the constructor, a RuntimeError.
            options: dict[str, Any] = {} if output_stride == 32 else {"output_stride": output_stride}
            net: nn.Module = timm.create_model(name, features_only=True, pretrained=pretrained, **options)
        except (AssertionError, TypeError, NotImplementedError, RuntimeError, KeyError, ValueError) as error:
            if output_stride != 32:
                remedy = "cannot be dilated to output stride 8; choose upsample=jpu, fpn or bilinear, or a ResNet"
            else:
                remedy = "gives no feature maps; choose a hierarchical model such as convnext_tiny or resnet50d"
            raise UserError(f"backbone.name={name} {remedy} ({type(error).__name__}: {error}).") from error
        return net

    @staticmethod
    def _pretrained(name: str, tag: str) -> Mapping[str, Tensor]:
        full = name if tag == "DEFAULT" else f"{name.split('.')[0]}.{tag}"
        if not timm.is_model_pretrained(full):
            tags = [item.split(".", 1)[1] for item in timm.list_pretrained(f"{name.split('.')[0]}.*")]
            known = ", ".join(tags) or "no pretrained weights"
            raise UserError(f"backbone.weights={tag}: {name} has {known}; or give a file, or none.")
        return TimmBackbone._create(full, 32, pretrained=True).state_dict()
