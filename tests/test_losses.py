from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fastfcn.losses import SegmentationLoss, cross_entropy, presence_target
from fastfcn.models.layers import resize
from fastfcn.resized_cross_entropy import resized_cross_entropy
from fastfcn.types import IGNORE_INDEX, SegmentationOutput
from tests.models.test_encoding import HeldAtOnce
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


def found(
    logits: Tensor, mask: Tensor, labelled: Tensor | None = None, *, whole: bool = False
) -> tuple[Tensor, Tensor]:
    """Loss and gradient, of small logits as they are or resized as a whole."""
    leaf = logits.detach().clone().requires_grad_()
    loss = cross_entropy(resize(leaf, mask.shape[-2:]) if whole else leaf, mask, labelled=labelled)
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient


def check_agree(logits: Tensor, mask: Tensor, labelled: Tensor | None = None) -> None:
    """To 1e-6 with float64, beyond what the plain formulation itself is off: it rounds where a pixel lies, as ours."""
    loss, gradient = found(logits, mask, labelled)
    plain_loss, plain_gradient = found(logits, mask, labelled, whole=True)
    exact_loss, exact_gradient = found(logits.double(), mask, labelled, whole=True)
    assert abs(loss - exact_loss) <= 1e-6 * exact_loss + abs(plain_loss - exact_loss)
    off = (plain_gradient - exact_gradient).abs().max()
    assert (gradient - exact_gradient).abs().max() <= 1e-6 * exact_gradient.abs().max() + off
    assert gradient.stride() == logits.stride()


@pytest.mark.parametrize("strip", [1, 5 * 89 * 7, 1 << 19])
@pytest.mark.parametrize(
    ("small", "large"), [((9, 12), (70, 89)), ((100, 3), (11, 89)), ((1, 1), (13, 17)), ((9, 89), (70, 89))]
)
def test_resized_in_strips_agrees_with_resized_as_a_whole(
    strip: int, small: tuple[int, int], large: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr("fastfcn.resized_cross_entropy.CPU_NUMBERS", strip)
    mask = torch.randint(-1, 5, (2, *large))
    logits = 3 * torch.randn(2, 5, *small)
    check_agree(logits, mask)
    check_agree(logits.contiguous(memory_format=torch.channels_last), mask)
    check_agree(logits, mask, torch.tensor(77.5))  # what DDP divides by


def test_resized_gradients_by_finite_differences() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 3, 3, 2, dtype=torch.float64, requires_grad=True), torch.randint(-1, 3, (2, 7, 5))
    assert torch.autograd.gradcheck(lambda x: 2 * resized_cross_entropy(x, mask), logits)


def test_resized_huge_logits_and_ignored_images() -> None:
    """Neighbours of opposite certainty: whatever lies between is finite."""
    mask = torch.full((2, 16, 16), IGNORE_INDEX)
    mask[0] = 1
    logits = torch.zeros(2, 3, 4, 4)
    logits[:, 0, :, ::2], logits[:, 1, :, 1::2] = 3e4, -3e4
    check_agree(logits, mask)
    ignored = torch.full_like(mask, IGNORE_INDEX)
    loss, gradient = found(logits, ignored)
    assert loss == 0
    assert gradient.eq(0).all()


def test_resized_refuses_what_is_no_class() -> None:
    for label in (3, -2):
        with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
            cross_entropy(torch.zeros(1, 3, 2, 2), torch.full((1, 4, 4), label))


def test_resized_without_gradients_is_the_same_loss() -> None:
    logits, mask = torch.randn(2, 5, 4, 4, requires_grad=True), torch.randint(-1, 5, (2, 16, 16))
    with torch.no_grad():
        silent = cross_entropy(logits, mask)
    assert torch.equal(silent, cross_entropy(logits, mask).detach())


@pytest.mark.parametrize("allowed", ["high", "medium"])
def test_resized_products_are_exact_whatever_is_allowed(allowed: str) -> None:
    """As in a training under autocast, with TF32 or bfloat16 products for all else."""
    torch.manual_seed(0)
    logits, mask = 3 * torch.randn(2, 59, 60, 60), torch.randint(-1, 59, (2, 240, 240))
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(allowed)
        with torch.autocast("cpu", torch.bfloat16):
            loss = cross_entropy(logits, mask)
        assert torch.get_float32_matmul_precision() == allowed
    finally:
        torch.set_float32_matmul_precision(before)
    torch.testing.assert_close(loss, cross_entropy(resize(logits, (240, 240)), mask), rtol=1e-6, atol=0)


def test_resized_loss_of_bfloat16_logits_is_computed_in_float32() -> None:
    logits, mask = torch.randn(1, 5, 4, 4).bfloat16().requires_grad_(), torch.randint(0, 5, (1, 32, 32))
    loss = cross_entropy(logits, mask)
    exact = cross_entropy(resize(logits.detach().float(), (32, 32)), mask)
    torch.testing.assert_close(loss, exact, rtol=1e-6, atol=0)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.bfloat16


def test_resized_memory_is_less_than_a_third() -> None:
    """480x480, 59 classes: the plain formulation keeps the logits' logarithms of that size, at the least."""
    logits, mask = torch.randn(4, 59, 60, 60, requires_grad=True), torch.zeros(4, 480, 480, dtype=torch.long)
    with HeldAtOnce() as held:
        cross_entropy(logits, mask).backward()
    assert held.most < 4 * 59 * 480 * 480 * 4 / 3
