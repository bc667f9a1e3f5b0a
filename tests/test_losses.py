from __future__ import annotations

import numpy as np
import pytest
import torch

from fastfcn.losses import SegmentationLoss, cross_entropy, presence_target
from fastfcn.types import IGNORE_INDEX, SegmentationOutput
from tests.official import GOLDENS


@pytest.mark.parametrize(
    ("name", "aux_weight", "terms"),
    [("plain", 0.2, {"ce"}), ("aux", 0.4, {"ce", "aux"}), ("se", 0.2, {"ce", "presence"}),
     ("full", 0.2, {"ce", "aux", "presence"})],
)  # fmt: skip
def test_agrees_with_the_official_loss(name: str, aux_weight: float, terms: set[str]) -> None:
    golden = {key: torch.from_numpy(value) for key, value in np.load(GOLDENS / "losses.npz").items()}
    output = SegmentationOutput(
        golden["main"],
        aux=golden["aux"] if "aux" in terms else None,
        presence=golden["se"] if "presence" in terms else None,
    )
    loss = SegmentationLoss(aux_weight=aux_weight)(output, golden["target"])
    assert set(loss) == terms
    assert float(sum(loss.values())) == pytest.approx(float(golden[f"loss_{name}"]), rel=1e-6)


def test_presence_target_names_the_classes_that_occur() -> None:
    mask = torch.tensor([[[0, 0, IGNORE_INDEX], [2, 2, 2]], [[IGNORE_INDEX] * 3] * 2])
    assert presence_target(mask, 4).tolist() == [[1, 0, 1, 0], [0, 0, 0, 0]]


def test_a_batch_without_labels_has_no_loss_and_finite_gradients() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = cross_entropy(logits, torch.full((2, 4, 4), IGNORE_INDEX))
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert logits.grad.eq(0).all()


def test_memory_layout_changes_nothing() -> None:
    logits, mask = torch.randn(2, 5, 6, 7), torch.randint(-1, 5, (2, 6, 7))
    nhwc = logits.contiguous(memory_format=torch.channels_last)
    assert torch.equal(cross_entropy(logits, mask), cross_entropy(nhwc, mask))
