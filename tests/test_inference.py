from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastfcn import inference
from fastfcn.errors import UserError
from fastfcn.inference import Direct, SlidingWindow
from fastfcn.models.layers import resize
from fastfcn.types import BLACK, SegmentationOutput
from fastfcn.windows import Fusion
from tests import official

GOLDEN = np.load(official.GOLDENS / "evaluator.npz")
SIZES = sorted(name.removeprefix("image_") for name in GOLDEN if name.startswith("image_"))
MULTI: dict[str, Any] = {"scales": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75), "flip": True}


def golden_model(image: Tensor) -> Tensor:
    return F.conv2d(image, torch.from_numpy(GOLDEN["weight"]), torch.from_numpy(GOLDEN["bias"]), padding=2)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("windows", [1, 3, 64])
@pytest.mark.parametrize(("kind", "options"), [("ss", {}), ("ms", MULTI)])
def test_scores_are_those_of_the_official_code(size: str, windows: int, kind: str, options: dict[str, Any]) -> None:
    slide = SlidingWindow(base_size=52, crop_size=48, windows=windows, **options)
    image = torch.from_numpy(GOLDEN[f"image_{size}"])
    expected = GOLDEN[f"scores_{kind}_{size}"]
    seen = []

    def counted(batch: Tensor) -> Tensor:
        seen.append(len(batch))
        return golden_model(batch)

    scores = slide(counted, image)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert sum(seen) == GOLDEN[f"calls_{kind}_{size}"]
    assert max(seen) <= windows
    assert torch.equal(slide.predict(golden_model, image), scores.argmax(1))


def one_at_a_time(
    model: Callable[[Tensor], Tensor], image: Tensor, *, scales: tuple[float, ...], flip: bool, fusion: Fusion
) -> Tensor:
    """The protocol as it is described, for a long side of 52 and windows of 48: each window alone, nothing reused."""
    _, _, height, width = image.shape
    total = torch.zeros(())
    for scale in scales:
        long = int(np.ceil(52 * scale))
        size = (long, int(width * long / height + 0.5)) if height > width else (int(height * long / width + 0.5), long)
        small = F.interpolate(image, size, mode="bilinear", align_corners=True)
        tops, lefts = ([0, *(32 * i for i in range(1, 99) if 32 * (i - 1) + 48 < side)] for side in size)
        padded = torch.tensor(BLACK)[None, :, None, None].repeat(1, 1, tops[-1] + 48, lefts[-1] + 48)
        padded[:, :, : size[0], : size[1]] = small
        scores, count = torch.zeros(()), torch.zeros(padded.shape[2:])
        for top in tops:
            for left in lefts:
                crop = padded[:, :, top : top + 48, left : left + 48]
                answers = [model(crop), model(crop.flip(3)).flip(3)] if flip else [model(crop)]
                if fusion == "exp_sum":
                    answer = torch.stack(answers).sum(0).exp()
                else:
                    answer = torch.stack([each.softmax(1) for each in answers]).mean(0)
                right, bottom = padded.shape[3] - left - 48, padded.shape[2] - top - 48
                scores = scores + F.pad(answer, (left, right, top, bottom))
                count[top : top + 48, left : left + 48] += 1
        mean = (scores / count)[:, :, : size[0], : size[1]]
        total = total + F.interpolate(mean, (height, width), mode="bilinear", align_corners=True)
    return total if fusion == "exp_sum" else total / len(scales)


def head_resolution(image: Tensor) -> Tensor:
    """Logits of a third of the resolution, of a model that sees beyond a pixel."""
    weight = torch.randn(5, 3, 7, 7, generator=torch.Generator().manual_seed(4)) / 6
    return F.conv2d(image, weight, stride=3, padding=3)


SMALL: dict[str, Any] = {"base_size": 52, "crop_size": 48}


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 0.75, 1.0, 1.25, 1.75)])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("fusion", ["exp_sum", "softmax"])
@pytest.mark.parametrize("size", [(40, 64), (97, 30), (48, 48)])
def test_scores_are_those_of_one_window_at_a_time(
    scales: tuple[float, ...], flip: bool, fusion: Fusion, size: tuple[int, int]
) -> None:
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(5))

    def full_size(image: Tensor) -> Tensor:
        return resize(head_resolution(image), image.shape[2:])

    how: dict[str, Any] = {"scales": scales, "flip": flip, "fusion": fusion}
    expected = torch.cat([one_at_a_time(full_size, image[None], **how) for image in images])
    largest = float(expected.max())
    for windows, fixed in ((1, False), (2, True), (5, True), (7, False), (64, False)):
        for model in (full_size, head_resolution):
            scores = SlidingWindow(**SMALL, **how, windows=windows, fixed=fixed)(model, images)
            assert scores.is_contiguous()
            torch.testing.assert_close(scores, expected, rtol=0, atol=4e-6 * largest)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_come_in_any_layout_and_type(layout: torch.memory_format, dtype: torch.dtype) -> None:
    image = torch.randn(1, 3, 40, 64, generator=torch.Generator().manual_seed(6)).contiguous(memory_format=layout)

    def rounded(batch: Tensor) -> Tensor:
        return head_resolution(batch).to(dtype).contiguous(memory_format=layout)

    slide = SlidingWindow(**SMALL, scales=(0.75, 1.5), flip=True)
    expected = slide(lambda batch: rounded(batch).float().contiguous(), image)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # which would make the resize one of 8 bits
        scores = slide(lambda batch: torch.autocast("cpu", enabled=False)(rounded)(batch), image)
    assert torch.equal(scores, expected)
    assert scores.dtype == torch.float32


def test_batches_are_full_across_scales_and_images() -> None:
    """Three of the four scales have one window: alone, they would each be a batch of two images."""
    seen: list[tuple[int, ...]] = []

    def counted(batch: Tensor) -> Tensor:
        seen.append(tuple(batch.shape))
        return golden_model(batch)

    images = torch.randn(2, 3, 48, 40, generator=torch.Generator().manual_seed(7))
    how: dict[str, Any] = {**SMALL, "scales": (0.25, 0.5, 0.75, 1.0), "windows": 8}
    SlidingWindow(**how)(counted, images)
    assert [shape[0] for shape in seen] == [8, 2]
    seen.clear()
    SlidingWindow(**how, flip=True)(counted, images)
    assert [shape[0] for shape in seen] == [8, 8, 4]
    assert {shape[1:] for shape in seen} == {(3, 48, 48)}


@pytest.mark.parametrize(
    ("windows", "flip", "sizes"),
    [(8, False, [8, 2]), (8, True, [8, 8, 4]), (3, False, [3, 3, 3, 1]), (6, True, [6, 6, 6, 2]), (1, True, [1] * 20)],
)
def test_fixed_batches_have_few_sizes(windows: int, flip: bool, sizes: list[int]) -> None:
    seen: list[int] = []

    def counted(batch: Tensor) -> Tensor:
        seen.append(len(batch))
        return golden_model(batch)

    images = torch.randn(2, 3, 48, 40, generator=torch.Generator().manual_seed(7))
    how: dict[str, Any] = {**SMALL, "scales": (0.25, 0.5, 0.75, 1.0), "windows": windows, "flip": flip}
    scores = SlidingWindow(**how, fixed=True)(counted, images)
    assert seen == sizes
    torch.testing.assert_close(scores, SlidingWindow(**how)(golden_model, images))


def test_a_model_may_answer_in_the_same_memory_again() -> None:
    """As a CUDA graph does: what it gave is overwritten when it is asked the next time."""
    memory: dict[tuple[int, ...], Tensor] = {}

    def graph(batch: Tensor) -> Tensor:
        answer = head_resolution(batch)
        return memory.setdefault(tuple(answer.shape), torch.empty_like(answer)).copy_(answer)

    images = torch.randn(2, 3, 60, 50, generator=torch.Generator().manual_seed(8))
    for windows in (1, 2, 3, 8):
        slide = SlidingWindow(**SMALL, scales=(0.5, 1.0, 1.75), flip=True, windows=windows, fixed=True)
        torch.testing.assert_close(slide(graph, images), slide(head_resolution, images), rtol=0, atol=0)


def pixelwise(classes: int = 4) -> Callable[[Tensor], Tensor]:
    """A model that sees one pixel at a time: windows and mirror images must not change its answer."""
    weight = torch.randn(classes, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    return lambda image: F.conv2d(image, weight)


sides = st.integers(min_value=8, max_value=90)


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides, base=st.integers(16, 100), crop=st.integers(4, 60), scale=st.floats(0.4, 2.0))
def test_windows_cover_each_pixel_and_mirror_images_are_turned_back(
    height: int, width: int, base: int, crop: int, scale: float
) -> None:
    image = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    model = pixelwise()
    slide = SlidingWindow(scales=(scale,), base_size=base, crop_size=crop)
    size = slide.size_at(scale, height, width)
    assert max(size) == np.ceil(base * scale)
    for side in size:
        assert slide.grid(side)[-1] + crop >= side
        assert len(slide.grid(side)) == 1 or slide.grid(side)[-2] + crop < side  # and no window is in vain
    whole = F.interpolate(model(F.interpolate(image, size, mode="bilinear", align_corners=True)).exp(),
                          (height, width), mode="bilinear", align_corners=True)  # fmt: skip
    torch.testing.assert_close(slide(model, image), whole, rtol=1e-4, atol=1e-5)
    both = SlidingWindow(scales=(scale,), base_size=base, crop_size=crop, fusion="softmax", flip=True)(model, image)
    torch.testing.assert_close(both.sum(1), torch.ones(1, height, width), rtol=0, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    height=sides,
    width=sides,
    windows=st.integers(1, 40),
    flip=st.booleans(),
    fusion=st.sampled_from(["exp_sum", "softmax"]),
)
def test_the_number_of_windows_in_a_batch_changes_nothing(
    height: int, width: int, windows: int, flip: bool, fusion: Fusion
) -> None:
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(2))
    few, many = (
        SlidingWindow(scales=(0.7, 1.3), flip=flip, base_size=52, crop_size=48, fusion=fusion, windows=count)
        for count in (1, windows)
    )
    expected = few(golden_model, images)
    torch.testing.assert_close(many(golden_model, images), expected, rtol=1e-4, atol=1e-5 * float(expected.max()))
    each = torch.cat([many(golden_model, image[None]) for image in images])
    torch.testing.assert_close(each, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))


@pytest.mark.parametrize("bytes_", [1, 5000, 1 << 28])
def test_predictions_are_the_argmax_of_the_scores(bytes_: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "STRIPE_BYTES", bytes_)
    for size in ((37, 61), (1, 50), (64, 64)):
        image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(3))
        slide = SlidingWindow(scales=(0.5, 1.25), flip=True, base_size=52, crop_size=48)
        differing = slide.predict(golden_model, image) != slide(golden_model, image).argmax(1)
        assert differing.float().mean() < 1e-3  # ties in the last bit


def test_softmax_is_the_mean_of_probabilities() -> None:
    image = torch.from_numpy(GOLDEN["image_40x64"])
    slide = SlidingWindow(scales=(1.0,), flip=True, base_size=64, crop_size=64, fusion="softmax")
    padded = torch.tensor(BLACK)[None, :, None, None].expand(1, 3, 64, 64).clone()
    padded[:, :, :40] = image
    plain, mirrored = golden_model(padded).softmax(1), golden_model(padded.flip(3)).softmax(1).flip(3)
    torch.testing.assert_close(slide(golden_model, image), ((plain + mirrored) / 2)[:, :, :40], rtol=1e-4, atol=1e-6)


def test_a_batch_that_does_not_fit_is_divided() -> None:
    seen: list[int] = []

    def small(batch: Tensor) -> Tensor:
        seen.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("no room")
        return golden_model(batch)

    image = torch.from_numpy(GOLDEN["image_97x61"])
    scores = SlidingWindow(base_size=130, crop_size=48, windows=16)(small, image)
    torch.testing.assert_close(scores, SlidingWindow(base_size=130, crop_size=48)(golden_model, image))
    assert seen[-1] <= 2

    def none(batch: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(UserError, match="does not fit into the device's memory"):
        SlidingWindow(base_size=52, crop_size=48)(none, image)


def test_an_image_that_does_not_fit_in_one_pass() -> None:
    def none(batch: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(UserError, match=r"An image of 50 x 40 pixels does not fit .* inference=slide"):
        Direct(whole=True).predict(none, torch.zeros(1, 3, 40, 50))


@pytest.mark.slow
def test_a_large_image_takes_bounded_memory() -> None:
    """12 megapixels and 150 classes, of which full-size scores would take 7.2 GB."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    image = torch.zeros(1, 3, 3000, 4000)
    SlidingWindow(base_size=260, crop_size=240).predict(pixelwise(150), image)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 3e9


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"scales": ()}, "scales"),
        ({"scales": (0.0,)}, "scales"),
        ({"fusion": "max"}, "fusion"),
        ({"windows": 0}, "windows"),
        ({"crop_size": 1}, "crop_size"),
        ({"base_size": 0}, "base_size"),
    ],
)
def test_values_that_make_no_sense(options: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=rf"inference\.{word}="):
        SlidingWindow(**options)


def test_one_pass() -> None:
    image = torch.from_numpy(GOLDEN["image_40x64"])
    direct = Direct(whole=True)
    assert torch.equal(direct.predict(golden_model, image), golden_model(image).argmax(1))
    output = direct.predict(lambda x: SegmentationOutput(golden_model(x)), image)
    assert torch.equal(output, golden_model(image).argmax(1))
    assert [Direct(whole=whole).settings()["protocol"] for whole in (True, False)] == ["whole", "center_crop"]
