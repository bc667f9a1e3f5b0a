"""The plain formulation gives what ours gives: else a ratio of their speeds would tell nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import fastfcn
from fastfcn.benchmarks.arms import compare_values
from fastfcn.benchmarks.confusion_matrix import COUNTS, confusion_arms
from fastfcn.benchmarks.encoding_layer import encoding_arms, largest_batch
from fastfcn.benchmarks.loss_layer import loss_arms
from fastfcn.benchmarks.plain import PlainEncoding, plain
from fastfcn.benchmarks.plain_evaluation import one_window_at_a_time
from fastfcn.benchmarks.plain_training import plain_loss, presence_target, resized_cross_entropy
from fastfcn.exporting.comparison import TOLERANCE, compare_logits
from fastfcn.inference import SlidingWindow
from fastfcn.losses import SegmentationLoss
from fastfcn.losses import presence_target as our_presence_target
from fastfcn.models.fastfcn import FastFCN
from fastfcn.types import SegmentationOutput

CPU = torch.device("cpu")


def model(upsample: str = "jpu", head: str = "encoding") -> FastFCN:
    torch.manual_seed(0)
    return fastfcn.build_model(backbone="resnet18", upsample=upsample, head=head, num_classes=7)


@pytest.mark.parametrize(
    ("upsample", "head"),
    [("jpu", "encoding"), ("none", "encoding"), ("jpu_x", "psp"), ("fpn", "aspp"), ("bilinear", "fcn")],
)
def test_predictions_agree(upsample: str, head: str) -> None:
    ours = model(upsample, head).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert compare_logits(plain(ours)(image).logits, ours(image).logits, precision="float32").fine


def test_the_plain_model_is_a_copy_without_our_encoding_layer() -> None:
    ours = model().eval()
    twin = plain(ours)
    assert any(isinstance(module, PlainEncoding) for module in twin.modules())
    assert not any(isinstance(module, PlainEncoding) for module in ours.modules())
    assert not {id(p) for p in ours.parameters()} & {id(p) for p in twin.parameters()}
    assert len(list(twin.parameters())) == len(list(ours.parameters()))


def test_the_training_loss_and_its_gradients_agree() -> None:
    ours = model().train()
    twin = plain(ours)
    image = torch.randn(2, 3, 64, 64)
    mask = torch.randint(-1, 7, (2, 64, 64))
    loss = SegmentationLoss(aux_weight=0.4, presence_weight=0.3)
    torch.manual_seed(1)
    theirs = plain_loss(twin(image), mask, aux_weight=0.4, presence_weight=0.3)
    torch.manual_seed(1)  # for the same dropout
    total = torch.stack(list(loss(ours(image), mask).values())).sum()
    assert compare_values(total, theirs, tolerance=1e-5).fine
    total.backward()
    theirs.backward()
    for name in ("head.classify.1.weight", "head.context.encoding.codewords", "aux_head.block.0.weight"):
        gradient, expected = ours.get_parameter(name).grad, twin.get_parameter(name).grad
        assert gradient is not None
        assert expected is not None
        assert compare_values(gradient, expected, tolerance=1e-3).fine, name


def test_the_presence_target_of_the_loop_is_ours() -> None:
    mask = torch.randint(-1, 9, (3, 20, 20))
    mask[1] = -1
    assert torch.equal(presence_target(mask, 9), our_presence_target(mask, 9))


def test_without_auxiliary_and_presence_the_loss_is_the_cross_entropy() -> None:
    logits, mask = torch.randn(2, 5, 8, 8), torch.randint(-1, 5, (2, 8, 8))
    loss = plain_loss(SegmentationOutput(logits), mask, aux_weight=1.0, presence_weight=1.0)
    assert torch.equal(loss, resized_cross_entropy(logits, mask))


@pytest.mark.parametrize("name", COUNTS)
def test_all_ways_of_counting_agree(name: str) -> None:
    mask = torch.randint(-1, 11, (2, 30, 40))
    arm = {arm.name: arm for arm in confusion_arms(mask, num_classes=11, seed=0)}[name]
    assert arm.check is not None
    assert arm.check().error == 0
    prediction = torch.randint(0, 11, mask.shape)
    counts = COUNTS[name](prediction, mask, 11)
    assert counts.label.tolist() == [int((mask == c).sum()) for c in range(11)]
    assert counts.prediction.tolist() == [int(((prediction == c) & (mask >= 0)).sum()) for c in range(11)]
    assert counts.intersection.tolist() == [int(((prediction == c) & (mask == c)).sum()) for c in range(11)]


def test_the_encoding_layers_agree_with_their_gradients() -> None:
    plainly, *_, ours = encoding_arms(batch=2, channels=16, size=9, codewords=5, device=CPU, seed=0)
    for arm in (plainly, ours):
        assert arm.check is not None
        assert arm.check().error <= TOLERANCE
    shapes = [tensor.shape for tensor in ours.call()]  # type: ignore[attr-defined]
    assert shapes == [(2, 5, 16), (2, 16, 9, 9), (5, 16), (5,)]


def test_the_plain_encoding_layer_is_the_definition() -> None:
    torch.manual_seed(0)
    codewords, scale = torch.nn.Parameter(torch.randn(3, 4)), torch.nn.Parameter(-torch.rand(3))
    x = torch.randn(1, 4, 2, 2)
    features = x.flatten(2)[0].T
    expected = torch.zeros(3, 4)
    for feature in features:
        weights = torch.softmax(scale * (feature - codewords).square().sum(1), dim=0)
        expected += weights[:, None] * (feature - codewords)
    assert torch.allclose(PlainEncoding(codewords, scale)(x)[0], expected, atol=1e-5)


def test_the_batch_of_the_plain_encoding_layer_fits_into_the_memory() -> None:
    one = 4.2 * 64 * 64 * 32 * 512 * 4
    asked = {"channels": 512, "size": 64, "codewords": 32}
    assert largest_batch(16, memory=None, **asked) == 16
    assert largest_batch(16, memory=int(100 * one), **asked) == 16
    assert largest_batch(16, memory=int(7 * one), **asked) == 5
    assert largest_batch(16, memory=int(0.5 * one), **asked) == 0


def test_the_losses_agree_with_their_gradients() -> None:
    mask = torch.randint(-1, 6, (2, 40, 48))
    for arm in loss_arms(mask, num_classes=6, stride=8, seed=0):
        assert arm.check is not None
        assert arm.check().fine


@pytest.mark.parametrize(("height", "width"), [(60, 90), (90, 60), (33, 40)])
@pytest.mark.parametrize("flip", [False, True])
def test_one_window_at_a_time_gives_the_scores_of_windows_in_batches(height: int, width: int, flip: bool) -> None:
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 4, 5, padding=2)

    def predict(image: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = convolution(image)
            return logits

    image = torch.randn(1, 3, height, width)
    scales = (0.5, 1.0, 1.75)
    theirs = one_window_at_a_time(predict, image, scales=scales, flip=flip, base_size=80, crop_size=48)
    ours = SlidingWindow(scales=scales, flip=flip, base_size=80, crop_size=48)(predict, image)
    assert compare_logits(theirs, ours, precision="float32").fine
