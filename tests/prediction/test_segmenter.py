"""The Python call: every kind of image, the protocols of evaluation, what a Segmentation gives."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import fastfcn
from fastfcn.conversion import convert
from fastfcn.data.batches import normalise
from fastfcn.errors import BadSampleError, UserError
from fastfcn.inference import Direct, SlidingWindow
from fastfcn.optimize import Optimize
from fastfcn.prediction.images import pixels
from fastfcn.prediction.opening import Sizes
from fastfcn.prediction.protocols import choose
from fastfcn.types import DataFacts, LoadedBatch, UInt8Array

FACTS = DataFacts("toy", ("red", "green", "blue"), ((250, 0, 10), (0, 200, 30), (5, 20, 240)))
RNG = np.random.default_rng(0)
PICTURE: UInt8Array = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def strongest(image: Tensor) -> Tensor:
    """Logits by the channels: of a pixel, its strongest colour."""
    return image


def brightest(image: UInt8Array) -> Any:
    scaled = normalise(
        LoadedBatch(image=torch.from_numpy(image.copy())[None].permute(0, 3, 1, 2), mask=torch.zeros(0), name=[])
    )
    return scaled["image"][0].argmax(0).numpy()


@pytest.fixture
def segmenter() -> fastfcn.Segmenter:
    return fastfcn.Segmenter(strongest, FACTS)


def encoded(picture: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **how)
    return stream.getvalue()


def test_ids_are_of_the_image_and_its_size(segmenter: fastfcn.Segmenter) -> None:
    found = segmenter(PICTURE)
    assert found.ids.dtype == np.uint8
    np.testing.assert_array_equal(found.ids, brightest(PICTURE))
    assert found.probabilities is None
    assert sum(found.shares().values()) == pytest.approx(1)
    assert list(found.shares().values()) == sorted(found.shares().values(), reverse=True)


def test_every_way_to_give_an_image(segmenter: fastfcn.Segmenter, tmp_path: Path) -> None:
    path = tmp_path / "a picture 100%.png"
    Image.fromarray(PICTURE).save(path)
    tensor = torch.from_numpy(PICTURE).permute(2, 0, 1)
    given: list[Any] = [
        path,
        str(path),
        path.as_uri(),
        path.read_bytes(),
        Image.open(path),
        PICTURE,
        tensor,
        tensor[None],
    ]
    for image in given:
        np.testing.assert_array_equal(segmenter(image).image, PICTURE)
    assert "%20" in path.as_uri()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (5, "is a int"),
        (PICTURE.astype(np.float32), "uint8"),
        (torch.zeros(4, 3, 5, 5, dtype=torch.uint8), r"\(3, H, W\)"),
        (np.zeros((0, 5, 3), np.uint8), "shape"),
        (b"text", "the bytes cannot be read as an image"),
        ("https://example.org/a.png", "download it"),
        ("file://elsewhere/a.png", "of this machine"),
        ("/nowhere/a.png", "/nowhere/a.png cannot be read"),
    ],
)
def test_what_is_no_image_is_told(segmenter: fastfcn.Segmenter, image: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        segmenter(image)


def test_a_file_of_no_image_says_nothing_of_data_sets(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"text")
    with pytest.raises(BadSampleError, match="leave it out") as caught:
        pixels(path)
    assert "split" not in str(caught.value)


def test_odd_images_are_read_as_8_bit_rgb() -> None:
    rgb = Image.fromarray(PICTURE)
    grey = np.asarray(rgb.convert("L"))
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray(grey))
    np.testing.assert_array_equal(pixels(encoded(alpha)), PICTURE)  # dropped, not blended
    np.testing.assert_array_equal(pixels(encoded(rgb.convert("L"))), grey[..., None].repeat(3, 2))
    deep = Image.fromarray(grey.astype(np.uint16) * 256 + 7)
    np.testing.assert_array_equal(pixels(encoded(deep))[..., 0], grey)
    palette = rgb.quantize(16)
    np.testing.assert_array_equal(pixels(encoded(palette)), np.asarray(palette.convert("RGB")))
    cmyk = encoded(rgb.convert("CMYK"), "TIFF")
    np.testing.assert_array_equal(pixels(cmyk), PICTURE)
    assert pixels(np.asarray(alpha)).shape == PICTURE.shape
    np.testing.assert_array_equal(pixels(grey.astype(np.uint16) << 8)[..., 1], grey)


def test_an_image_is_turned_as_its_orientation_says(segmenter: fastfcn.Segmenter, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    Image.fromarray(PICTURE).save(path, exif=exif)
    assert segmenter(path).ids.shape == (30, 20)
    np.testing.assert_array_equal(pixels(path), np.rot90(PICTURE, -1))
    with Image.open(path) as file:
        np.testing.assert_array_equal(pixels(file), np.rot90(PICTURE, -1))
        assert file.size == (30, 20)  # the caller's own stays as it is


@pytest.mark.parametrize("classes", [2, 256, 257])
def test_forms_of_the_ids(classes: int) -> None:
    palette = tuple((index % 256, index // 256, 99) for index in range(classes))
    facts = DataFacts("many", tuple(f"class {index}" for index in range(classes)), palette)
    ids = RNG.integers(0, classes, (20, 30))
    ids[0, 0] = classes - 1
    logits = torch.nn.functional.one_hot(torch.from_numpy(ids), classes).permute(2, 0, 1)[None].float()
    found = fastfcn.Segmenter(lambda _: logits, facts)(PICTURE)
    assert found.ids.dtype == (np.uint8 if classes <= 256 else np.int32)
    with Image.open(io.BytesIO(found.ids_png())) as file:
        np.testing.assert_array_equal(np.asarray(file), ids)
        assert file.mode == ("L" if classes <= 256 else "I;16")
    with Image.open(io.BytesIO(found.palette_png())) as file:
        np.testing.assert_array_equal(np.asarray(file.convert("RGB")), np.asarray(palette)[ids])
        assert file.mode == ("P" if classes <= 256 else "RGB")


def test_overlay(segmenter: fastfcn.Segmenter) -> None:
    found = segmenter(PICTURE)
    np.testing.assert_array_equal(found.overlay(0), PICTURE)
    np.testing.assert_array_equal(found.overlay(1), found.colours())
    half = (PICTURE.astype(float) + found.colours()) / 2
    assert np.abs(found.overlay() - half).max() <= 0.5
    with pytest.raises(UserError, match="alpha=2"):
        found.overlay(2)


@pytest.mark.parametrize(
    "inference",
    [
        Direct(),
        SlidingWindow(base_size=24, crop_size=16),
        SlidingWindow(base_size=24, crop_size=16, fusion="softmax"),
    ],
)
def test_probabilities_and_uncertainty(inference: Any) -> None:
    found = fastfcn.Segmenter(strongest, FACTS, inference=inference)(PICTURE, probabilities=True)
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(found.probabilities.argmax(0), found.ids)
    np.testing.assert_array_equal(found.ids, fastfcn.Segmenter(strongest, FACTS, inference=inference)(PICTURE).ids)
    uncertainty = found.uncertainty()
    assert uncertainty.shape == (20, 30)
    assert 0 <= uncertainty.min() < uncertainty.max() <= 1
    sure = fastfcn.Segmentation(found.ids, FACTS, PICTURE, np.eye(3, dtype=np.float32)[:, :, None])
    assert sure.uncertainty().max() == 0
    even = fastfcn.Segmentation(found.ids, FACTS, PICTURE, np.full((3, 2, 2), 1 / 3, np.float32))
    np.testing.assert_allclose(even.uncertainty(), 1, atol=1e-6)


def test_uncertainty_without_probabilities(segmenter: fastfcn.Segmenter) -> None:
    with pytest.raises(UserError, match="probabilities=True"):
        segmenter(PICTURE).uncertainty()


def test_the_protocol_follows_from_the_training() -> None:
    whole, crops = Sizes(128, 96, whole=True), Sizes(520, 480, whole=False)
    assert choose(None, whole).settings() == {"protocol": "whole"}
    slide = choose(None, crops)
    assert isinstance(slide, SlidingWindow)
    assert (slide.base_size, slide.crop_size, slide.scales) == (520, 480, (1.0,))
    slide = choose("slide", whole)
    assert isinstance(slide, SlidingWindow)
    assert (slide.base_size, slide.crop_size) == (128, 128)  # the crop was small for speed
    several = choose("multiscale", crops)
    assert isinstance(several, SlidingWindow)
    assert several.flip
    assert len(several.scales) == 6
    own = SlidingWindow(base_size=99)
    assert choose(own, crops) is own
    for wrong, words in (("center_crop", "choose one of whole"), (Direct(whole=False), "a part"), (int, "no protocol")):
        with pytest.raises(UserError, match=words):
            choose(wrong, crops)  # type: ignore[arg-type]


def test_a_checkpoint_is_segmented_with_as_it_is_evaluated(first_version: Path) -> None:
    path = Path(__file__).resolve().parents[1] / "fixtures/scenes/images/test/0.png"
    found = fastfcn.segment(path, model=first_version, device="cpu")
    image = torch.from_numpy(np.array(Image.open(path).convert("RGB")))[None].permute(0, 3, 1, 2)
    batch = normalise(LoadedBatch(image=image, mask=torch.zeros(0), name=[]))
    model = fastfcn.load_model(first_version)
    with torch.inference_mode():
        expected = Direct().predict(model, batch["image"])[0].numpy()
        windows = SlidingWindow(base_size=64, crop_size=64).predict(model, batch["image"])[0].numpy()
    assert (found.ids == expected).mean() > 0.999
    slide = fastfcn.Segmenter.from_file(
        first_version, inference=SlidingWindow(base_size=64, crop_size=64), device="cpu"
    )
    assert (slide(path).ids == windows).mean() > 0.999
    quick = fastfcn.segment(path, model=slide)
    np.testing.assert_array_equal(quick.ids, slide(path).ids)
    with pytest.raises(UserError, match="is a Segmenter"):
        fastfcn.segment(path, model=slide, inference="whole")
    assert set(found.shares()) <= set(found.facts.class_names)
    assert fastfcn.segment(PICTURE[:1, :1], model=first_version, device="cpu").ids.shape == (1, 1)


def test_what_a_model_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no checkpoint"):
        fastfcn.segment(PICTURE, model=tmp_path / "none.ckpt", device="cpu")


def test_the_optimised_network_gives_the_same_classes(first_version: Path) -> None:
    path = Path(__file__).resolve().parents[1] / "fixtures/scenes/images/test/1.png"
    quick = Optimize(compile=False, dtype="float32")
    for inference in ("whole", "slide"):
        plain = fastfcn.Segmenter.from_file(first_version, inference=inference, device="cpu")
        fast = fastfcn.Segmenter.from_file(first_version, inference=inference, optimize=quick, device="cpu")
        assert (plain(path).ids == fast(path).ids).mean() > 0.998
        assert plain.settings() != fast.settings()
        assert fast.settings()["optimize"]["dtype"] == "float32"


def test_weights_without_pickle_segment_as_the_checkpoint(first_version: Path, tmp_path: Path) -> None:
    out = tmp_path / "weights.safetensors"
    convert(ckpt_path=str(first_version), official=None, to="safetensors", out=str(out))
    one, other = (fastfcn.segment(PICTURE, model=model, device="cpu").ids for model in (first_version, out))
    np.testing.assert_array_equal(one, other)


def test_a_batch_is_its_images_one_by_one(first_version: Path) -> None:
    segmenter = fastfcn.Segmenter.from_file(first_version, inference="slide", device="cpu")
    images = [RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8) for _ in range(3)]
    for image, found in zip(images, segmenter.batch(images, probabilities=True), strict=True):
        alone = segmenter(image, probabilities=True)
        assert found.probabilities is not None
        assert alone.probabilities is not None
        np.testing.assert_allclose(found.probabilities, alone.probabilities, atol=1e-4)
