from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

from fastfcn.models.backbones.resnet import ResNet
from fastfcn.models.fastfcn import FastFCN
from fastfcn.models.heads.aspp import ASPPHead
from fastfcn.models.heads.encoding import Encoding, EncodingHead
from fastfcn.models.heads.fcn import FCNHead
from fastfcn.models.heads.psp import PSPHead
from fastfcn.models.upsamplers.base import Upsampler
from fastfcn.models.upsamplers.jpu import JPU
from fastfcn.models.upsamplers.jpu_x import JPUX
from fastfcn.models.upsamplers.none import NoUpsample
from tests import official

MODELS: dict[str, tuple[type[Upsampler], Callable[..., torch.nn.Module]]] = {
    "deeplab_none_resnet50_pcontext": (NoUpsample, ASPPHead),
    "encnet_none_resnet50_pcontext": (NoUpsample, EncodingHead),
    "encnet_jpu_resnet50_pcontext": (JPU, partial(EncodingHead, kernel_size=1)),
    "encnet_jpu_x_resnet50_pcontext": (JPUX, partial(EncodingHead, kernel_size=1)),
    "psp_jpu_resnet50_pcontext": (JPU, PSPHead),
}


@pytest.mark.parametrize("golden", MODELS)
def test_outputs_agree_with_the_official_code(golden: str) -> None:
    upsample, head = MODELS[golden]
    model = FastFCN(
        num_classes=59,
        backbone=ResNet(depth=50, stem="deep", output_stride=upsample.input_stride),
        upsample=upsample,
        head=head,
        aux_head=partial(FCNHead, level="c4"),
    )
    model.load_state_dict(official.state_dict(golden))  # strict: every entry has its place, and no other
    model.eval()
    image = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 96, 128)).astype(np.float32))
    expected = np.load(official.GOLDENS / f"{golden}.npz")
    with torch.no_grad():
        out = model(image)
        assert model.aux_head is not None
        aux = torch.nn.functional.interpolate(
            model.aux_head(model.backbone(image)).logits, size=(96, 128), mode="bilinear", align_corners=True
        )
    pairs = [(out.logits[..., ::4, ::4], "main"), (aux[..., ::8, ::8], "aux")]
    if "se" in expected:
        pairs.append((out.presence, "se"))
    else:
        assert out.presence is None
    for ours, key in pairs:
        tolerance = 1e-4 * np.abs(expected[key]).max()
        np.testing.assert_allclose(ours.numpy(), expected[key], rtol=0, atol=tolerance, err_msg=key)
    assert (out.logits.argmax(1).numpy() == expected["argmax"]).mean() > 0.999


def test_encoding_layer_agrees_with_the_official_code() -> None:
    golden = np.load(official.GOLDENS / "encoding_layer.npz")
    layer = Encoding(6, 4)
    layer.load_state_dict({name: torch.from_numpy(golden[name]) for name in ("codewords", "scale")})
    y = layer(torch.from_numpy(golden["x"])).detach().numpy()
    np.testing.assert_allclose(y, golden["y"], rtol=1e-5, atol=1e-5)
