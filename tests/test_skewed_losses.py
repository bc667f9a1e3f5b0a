"""Class weights, focal loss and hard examples, against formulations that follow their equations and nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastfcn.class_weights import by_inverse_frequency, by_median_frequency, count
from fastfcn.errors import UserError
from fastfcn.losses import SegmentationLoss, hard_pixels
from fastfcn.models.layers import resize
from fastfcn.types import IGNORE_INDEX, SegmentationOutput
from tests.data.test_datamodule import Tiny

WEIGHTS = [0.5, 2.0, 0.0, 7.25]
MASK = (19, 23)


def material(size: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits of three images, float64, and labels; of the last image nothing is known."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, 4, *size, dtype=torch.float64, generator=generator)
    mask = torch.randint(-1, 4, (3, *MASK), generator=generator)
    mask[2] = IGNORE_INDEX
    return logits.requires_grad_(), mask


def pixel_by_pixel(logits: Tensor, mask: Tensor, **options: Any) -> Tensor:
    """The loss as its equations have it, one pixel after the other."""
    gamma, threshold = options.get("gamma", 0.0), options.get("ohem_threshold")
    class_weights = options.get("class_weights") or [1.0] * logits.shape[1]
    probabilities = torch.softmax(resize(logits, mask.shape[-2:]), dim=1)
    by_image: list[list[tuple[float, Tensor]]] = []
    for image, labels in zip(probabilities, mask, strict=True):
        pixels = []
        for row, column in (labels != IGNORE_INDEX).nonzero().tolist():
            label = int(labels[row, column])
            if class_weights[label]:  # a class of no weight counts nowhere, nor is it among the hard ones
                pixels.append((class_weights[label], image[label, row, column]))
        if threshold is not None and pixels:
            least = options.get("ohem_min_kept") or max(1, len(pixels) // 16)
            pixels.sort(key=lambda pixel: float(pixel[1].detach()))
            pixels = [pixel for place, pixel in enumerate(pixels) if place < least or pixel[1] < threshold]
        if pixels:
            by_image.append(pixels)
    groups = by_image if threshold is not None else [[pixel for pixels in by_image for pixel in pixels]]
    means = []
    for pixels in groups:
        losses = [weight * (1 - p) ** gamma * -torch.log(p) for weight, p in pixels]
        means.append(torch.stack(losses).sum() / sum(weight for weight, _ in pixels))
    return torch.stack(means).mean()


OPTIONS: dict[str, dict[str, Any]] = {
    "weights": {"class_weights": WEIGHTS},
    "focal": {"gamma": 2.0},
    "focal below 1": {"gamma": 0.5},
    "weighted focal": {"gamma": 1.5, "class_weights": WEIGHTS},
    "hard": {"ohem_threshold": 0.3},
    "hard, many kept": {"ohem_threshold": 0.05, "ohem_min_kept": 100},
    "hard, more kept than there are": {"ohem_threshold": 0.05, "ohem_min_kept": 10_000},
    "weighted, hard by number": {"ohem_threshold": 0.001, "ohem_min_kept": 40, "class_weights": WEIGHTS},
    "weighted hard focal": {"ohem_threshold": 0.4, "gamma": 2.0, "class_weights": WEIGHTS},
}


@pytest.mark.parametrize("size", [MASK, (5, 7), (1, 1)], ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_agrees_with_the_equations_with_gradients(name: str, size: tuple[int, int], monkeypatch: Any) -> None:
    monkeypatch.setattr("fastfcn.resized_cross_entropy.CPU_NUMBERS", 4 * 23 * 5)  # strips of five rows
    logits, mask = material(size)
    loss = SegmentationLoss(**OPTIONS[name])(SegmentationOutput(logits), mask)["ce"]
    (gradient,) = torch.autograd.grad(loss, logits)
    expected = pixel_by_pixel(logits, mask, **OPTIONS[name])
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-8, atol=1e-13)


def test_class_weights_are_torchs() -> None:
    logits, mask = material(MASK)
    loss = SegmentationLoss(class_weights=WEIGHTS)(SegmentationOutput(logits), mask)["ce"]
    weight = torch.tensor(WEIGHTS, dtype=torch.float64)
    torch.testing.assert_close(loss, F.cross_entropy(logits, mask, weight=weight, ignore_index=IGNORE_INDEX))


@pytest.mark.parametrize("size", [MASK, (5, 7)])
def test_no_gamma_and_weights_of_one_are_cross_entropy(size: tuple[int, int]) -> None:
    logits, mask = material(size)
    output = SegmentationOutput(logits, aux=2 * logits)
    plain = SegmentationLoss()(output, mask)
    for options in ({"class_weights": [1.0] * 4}, {"gamma": 1e-12}, {"class_weights": [3.0] * 4}):
        terms = SegmentationLoss(**options)(output, mask)
        for term in ("ce", "aux"):
            torch.testing.assert_close(terms[term], plain[term], rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("size", [MASK, (5, 7)])
def test_parts_of_a_batch_sum_to_the_whole(name: str, size: tuple[int, int]) -> None:
    logits, mask = material(size)
    loss = SegmentationLoss(**OPTIONS[name])
    whole = loss(SegmentationOutput(logits, aux=-logits), mask)
    parts = [loss(SegmentationOutput(logits[i : i + 1], aux=-logits[i : i + 1]), mask[i : i + 1], whole=mask)
             for i in range(3)]  # fmt: skip
    for term in ("ce", "aux"):
        torch.testing.assert_close(sum(part[term] for part in parts), whole[term])


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("size", [(19, 23), (5, 7)])
def test_certain_and_ignored_pixels_have_finite_gradients(name: str, size: tuple[int, int]) -> None:
    mask = torch.ones(2, *MASK, dtype=torch.long)
    logits = torch.zeros(2, 4, *size)
    logits[:, 1] = 1e4  # p is 1 to the last bit
    for labels in (mask, torch.full_like(mask, IGNORE_INDEX)):
        leaf = logits.clone().requires_grad_()
        loss = SegmentationLoss(**OPTIONS[name])(SegmentationOutput(leaf), labels)["ce"]
        loss.backward()
        assert loss == 0
        assert leaf.grad is not None
        assert leaf.grad.eq(0).all()


def test_hard_pixels_of_equal_hardness_are_all_kept() -> None:
    hard = hard_pixels(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long), threshold=0.1, min_kept=3)
    assert hard.all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ohem_threshold": 0.0}, "loss.ohem_threshold=0.0"),
        ({"ohem_min_kept": 5}, "loss.ohem_threshold=0.7"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        SegmentationLoss(**options)
    logits, mask = material(MASK)
    with pytest.raises(UserError, match="2 numbers for 4 classes"):
        SegmentationLoss(class_weights=[1.0, 2.0])(SegmentationOutput(logits), mask)


def test_weights_by_frequency() -> None:
    pixels, shown = torch.tensor([600, 300, 100, 0]).numpy(), torch.tensor([1000, 500, 400, 0]).numpy()
    assert by_inverse_frequency(pixels) == pytest.approx([1000 / 1800, 1000 / 900, 1000 / 300, 1])
    # frequencies 0.6, 0.6, 0.25; their median is 0.6
    assert by_median_frequency(pixels, shown) == pytest.approx([1, 1, 0.6 / 0.25, 1])
    assert by_inverse_frequency(pixels * 0) == by_median_frequency(pixels * 0, shown * 0) == [1] * 4


def test_classes_are_counted_in_the_images_that_show_them() -> None:
    dataset = Tiny("train")
    pixels, shown = count(dataset, range(len(dataset)), skip=False)
    masks = [torch.from_numpy(dataset[index].mask) for index in range(len(dataset))]
    for class_id in range(dataset.facts.num_classes):
        assert pixels[class_id] == sum(int((mask == class_id).sum()) for mask in masks)
        assert shown[class_id] == sum(int((mask >= 0).sum()) for mask in masks if (mask == class_id).any())
    assert math.isclose(sum(pixels), sum(int((mask >= 0).sum()) for mask in masks))
    parts = [count(dataset, range(rank, len(dataset), 3), skip=False) for rank in range(3)]
    assert sum(part[0] for part in parts).tolist() == pixels.tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_batch_that_counts_for_nothing_has_gradients_of_zero_at_any_scale(options: dict[str, Any]) -> None:
    logits = torch.randn(2, 4, 5, 7, requires_grad=True)
    loss = SegmentationLoss(**options)(SegmentationOutput(logits), torch.full((2, *MASK), IGNORE_INDEX))["ce"]
    (loss * 2.0**16).backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()
