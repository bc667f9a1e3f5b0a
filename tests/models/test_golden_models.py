from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import fastfcn
from fastfcn.models.heads.aspp import ASPPHead
from fastfcn.models.heads.encoding import Encoding, EncodingHead
from fastfcn.models.heads.psp import PSPHead
from fastfcn.models.upsamplers.jpu import JPU
from fastfcn.models.upsamplers.jpu_x import JPUX
from fastfcn.models.upsamplers.none import NoUpsample
from tests import official

MODELS = {
    "deeplab_none_resnet50_pcontext": (NoUpsample, ASPPHead),
    "encnet_none_resnet50_pcontext": (NoUpsample, EncodingHead),
    "encnet_jpu_resnet50_pcontext": (JPU, EncodingHead),
    "encnet_jpu_x_resnet50_pcontext": (JPUX, EncodingHead),
    "psp_jpu_resnet50_pcontext": (JPU, PSPHead),
}


@pytest.mark.parametrize("golden", MODELS)
def test_outputs_agree_with_the_official_code(golden: str, tmp_path: Path) -> None:
    content = {"epoch": 79, "state_dict": official.official_state(golden), "best_pred": np.float64(0.65)}
    torch.save(content, tmp_path / "model_best.pth.tar")
    model = fastfcn.load_official(tmp_path / "model_best.pth.tar")
    assert (type(model.upsample), type(model.head)) == MODELS[golden]
    assert not model.training
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
