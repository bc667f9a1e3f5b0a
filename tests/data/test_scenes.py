from __future__ import annotations

import pickle
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastfcn.data.scenes as scenes_module
from fastfcn.data.scene_canvas import Canvas, polygon, stroke
from fastfcn.data.scene_drawing import CLASS_NAMES, draw_scene
from fastfcn.data.scene_moods import choose_land
from fastfcn.data.scene_objects import paint_craft
from fastfcn.data.scenes import Scenes
from fastfcn.errors import UserError

FEW = {"train": 6, "val": 4, "test": 4}


def cached_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def same(a: Scenes, b: Scenes, count: int) -> bool:
    return all(np.array_equal(a[i].image, b[i].image) and np.array_equal(a[i].mask, b[i].mask) for i in range(count))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The indices of the scenes drawn so far."""
    indices: list[int] = []

    def spy(seed: np.random.SeedSequence, *, size: int) -> object:
        indices.append(seed.spawn_key[1])
        return draw_scene(seed, size=size)

    monkeypatch.setattr(scenes_module, "draw_scene", spy)
    return indices


def test_samples_keep_the_contract() -> None:
    data = Scenes("val", size=72, counts=FEW)
    assert len(data) == 4
    for i, sample in enumerate(data[i] for i in range(4)):
        assert sample.image.shape == (72, 72, 3)
        assert sample.image.dtype == np.uint8
        assert sample.mask.shape == (72, 72)
        assert sample.mask.dtype == np.int16
        assert sample.mask.min() >= 0
        assert sample.mask.max() < data.facts.num_classes
        assert sample.name == f"scenes/val/{i:05d}"
        assert sample.image.flags.writeable
        assert sample.mask.flags.writeable
    with pytest.raises(IndexError):
        data[4]
    facts = Scenes.facts
    assert len(facts.palette) == len(set(facts.palette)) == facts.num_classes == 11
    assert set(facts.thin_classes) < set(facts.class_names)


def test_changing_a_sample_leaves_the_data_as_it_is(tmp_path: Path) -> None:
    for data in (Scenes("val", size=64, counts=FEW), Scenes("val", size=64, counts=FEW, cache_dir=tmp_path)):
        before = data[0].image.copy()
        data[0].image[:] = 0
        assert np.array_equal(data[0].image, before)


def test_scenes_do_not_depend_on_counts_or_cache(tmp_path: Path) -> None:
    few, more = Scenes("train", size=64, counts={"train": 2}), Scenes("train", size=64, counts=FEW, cache_dir=tmp_path)
    assert same(few, more, 2)


def test_scenes_are_the_same_in_another_process() -> None:
    code = (
        "import zlib; from fastfcn.data.scenes import Scenes; "
        "sample = Scenes('test', size=64, counts={'test': 2}, seed=5)[1]; "
        "print(zlib.crc32(sample.image.tobytes() + sample.mask.tobytes()))"
    )
    source = Path(scenes_module.__file__).parents[2]
    output = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=True).stdout
    sample = Scenes("test", size=64, counts={"test": 2}, seed=5)[1]
    assert int(output) == zlib.crc32(sample.image.tobytes() + sample.mask.tobytes())


def test_splits_seeds_and_indices_differ() -> None:
    data = [Scenes(split, size=64, counts=FEW, seed=seed) for split in ("train", "val", "test") for seed in (0, 1)]
    masks = {one[i].mask.tobytes() for one in data for i in range(4)}
    assert len(masks) == 6 * 4


def test_the_size_changes_the_sharpness_not_the_scene() -> None:
    for index in range(4):
        seed = np.random.SeedSequence(3, spawn_key=(0, index))
        small, small_mask = draw_scene(seed, size=96)
        large, large_mask = draw_scene(seed, size=192)
        shrunk = large.reshape(96, 2, 96, 2, 3).mean(axis=(1, 3))
        assert np.abs(shrunk - small).mean() < 12
        assert (large_mask[::2, ::2] == small_mask).mean() > 0.9
        assert set(np.unique(large_mask)) == set(np.unique(small_mask))


def test_drawing_does_not_use_up_the_seed() -> None:
    seed = np.random.SeedSequence(7)
    assert np.array_equal(draw_scene(seed, size=64)[0], draw_scene(seed, size=64)[0])


def test_every_class_is_common_and_thin_ones_have_pixels() -> None:
    data = Scenes("train", size=128, counts={"train": 80})
    pixels = np.stack([np.bincount(data[i].mask.ravel(), minlength=len(CLASS_NAMES)) for i in range(80)])
    occurs, share = (pixels > 0).mean(axis=0), pixels.sum(axis=0) / pixels.sum()
    assert occurs.min() > 0.25
    thin = [CLASS_NAMES.index(name) for name in data.facts.thin_classes]
    assert 0.05 < share[thin].sum() < 0.1


def test_boat_and_car_look_the_same() -> None:
    land = choose_land(np.random.default_rng(0))
    pictures, masks = [], []
    for name in ("boat", "car"):
        canvas = Canvas(96)
        canvas.image[:] = 127
        paint_craft(np.random.default_rng(1), canvas, land, CLASS_NAMES.index(name), x=0.5, y=0.7, length=0.4)
        pictures.append(canvas.image)
        masks.append(canvas.mask)
    assert np.array_equal(pictures[0], pictures[1])
    assert np.array_equal(masks[0] == CLASS_NAMES.index("boat"), masks[1] == CLASS_NAMES.index("car"))
    assert (masks[0] > 0).sum() > 300


def test_boats_lie_in_water_and_cars_on_land() -> None:
    boat, car, water, grass, road = (CLASS_NAMES.index(name) for name in ("boat", "car", "water", "grass", "road"))
    data = Scenes("train", size=64, counts={"train": 60})
    around = {boat: np.zeros(2), car: np.zeros(2)}
    for mask in (data[i].mask for i in range(60)):
        for craft, counts in around.items():
            below = mask[1:][(mask[:-1] == craft) & (mask[1:] != craft)]
            counts += ((below == water).sum(), np.isin(below, (grass, road)).sum())
    assert around[boat][0] > 5 * around[boat][1]
    assert around[car][1] > 5 * around[car][0]


def test_mask_and_image_are_aligned() -> None:
    canvas = Canvas(64)
    canvas.paint([polygon((0.25, 0.25), (0.75, 0.25), (0.75, 0.5), (0.25, 0.5))], (255, 255, 255), 3)
    expected = np.zeros((64, 64), bool)
    expected[16:32, 16:48] = True
    assert np.array_equal(canvas.mask == 3, expected)
    # The antialiased edge may reach into the next pixel, but never to a half.
    assert np.array_equal(canvas.image[..., 0] >= 127.5, expected)
    assert canvas.image.sum() == pytest.approx(255 * 3 * expected.sum(), rel=0.08)


def test_a_stroke_of_one_pixel_leaves_no_gap_in_the_mask() -> None:
    canvas = Canvas(64)
    canvas.paint(stroke([(0.1, 0.13), (0.5, 0.41), (0.9, 0.33)], 1.05 * canvas.pixel), (255, 0, 0), 8)
    assert (canvas.mask[:, 8:56] == 8).any(axis=0).all()


def test_shapes_off_the_canvas_paint_nothing() -> None:
    canvas = Canvas(64)
    for move in np.array(((-2.0, 0.0), (2.0, 0.0), (0.0, -2.0), (0.0, 2.0))):
        canvas.paint([polygon((0.1, 0.1), (0.9, 0.1), (0.5, 0.9)) + move], (255, 255, 255), 1)
    assert not canvas.mask.any()
    assert not canvas.image.any()


def test_a_full_cache_draws_nothing(tmp_path: Path, drawn: list[int]) -> None:
    first = Scenes("val", size=64, counts=FEW, cache_dir=tmp_path / "new" / "scenes")
    assert drawn == [0, 1, 2, 3]
    second = Scenes("val", size=64, counts=FEW, cache_dir=str(tmp_path / "new" / "scenes"))
    assert len(drawn) == 4
    assert same(first, second, 4)


def test_larger_counts_extend_and_smaller_ones_keep_the_file(tmp_path: Path, drawn: list[int]) -> None:
    Scenes("val", size=64, counts={"val": 2}, cache_dir=tmp_path)
    larger = Scenes("val", size=64, counts={"val": 5}, cache_dir=tmp_path)
    assert drawn == [0, 1, 2, 3, 4]
    smaller = Scenes("val", size=64, counts={"val": 1}, cache_dir=tmp_path)
    assert len(smaller) == 1
    assert len(np.load(cached_file(tmp_path))) == 5
    assert len(drawn) == 5
    assert same(larger, Scenes("val", size=64, counts={"val": 5}), 5)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "flipped byte", "other array"])
def test_a_damaged_file_is_drawn_anew(tmp_path: Path, damage: str, drawn: list[int]) -> None:
    Scenes("val", size=64, counts=FEW, cache_dir=tmp_path)
    path = cached_file(tmp_path)
    content = path.read_bytes()
    if damage == "other array":
        np.save(path, np.zeros(7))
    else:
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 1
        changes = {"truncated": content[:5000], "empty": b"", "text": b"not an array", "flipped byte": bytes(flipped)}
        path.write_bytes(changes[damage])
    drawn.clear()
    Scenes("val", size=64, counts=FEW, cache_dir=tmp_path)
    assert cached_file(tmp_path).read_bytes() == content
    assert len(drawn) == (1 if damage == "flipped byte" else 4)


def test_another_drawing_version_seed_or_size_has_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"val": 1}
    Scenes("val", size=64, counts=one, cache_dir=tmp_path)
    Scenes("val", size=65, counts=one, cache_dir=tmp_path)
    Scenes("val", size=64, counts=one, cache_dir=tmp_path, seed=1)
    Scenes("test", size=64, counts={"test": 1}, cache_dir=tmp_path)
    monkeypatch.setattr(scenes_module, "DRAWING_VERSION", -1)
    Scenes("val", size=64, counts=one, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


def test_two_at_once_are_safe(tmp_path: Path) -> None:
    counts = [{"val": n} for n in (3, 5, 4, 5)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda count: Scenes("val", size=64, counts=count, cache_dir=tmp_path), counts))
    reference = Scenes("val", size=64, counts={"val": 5})
    assert all(same(one, reference, len(one)) for one in made)
    assert cached_file(tmp_path).suffix == ".npy"


def test_pickled_data_maps_the_file_again(tmp_path: Path, drawn: list[int]) -> None:
    cached, in_memory = Scenes("val", size=64, counts=FEW, cache_dir=tmp_path), Scenes("val", size=64, counts=FEW)
    drawn.clear()
    pickled = pickle.dumps(cached)
    assert len(pickled) < 2000
    assert same(pickle.loads(pickled), cached, 4)  # noqa: S301 - of our own making
    assert same(pickle.loads(pickle.dumps(in_memory)), cached, 4)  # noqa: S301
    assert drawn == []


def test_an_interrupted_drawing_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seed: np.random.SeedSequence, *, size: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scenes_module, "draw_scene", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Scenes("val", size=64, counts=FEW, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("split", "options", "words"),
    [
        ("dev", {}, "'dev'"),
        ("train", {"size": 63}, "63"),
        ("train", {"size": 513}, "513"),
        ("train", {"seed": -1}, "-1"),
        ("train", {"counts": {"train": 0}}, "0 images to 'train'"),
        ("train", {"counts": {"trian": 3}}, "'trian'"),
    ],
)
def test_a_users_mistake_is_told_in_a_sentence(split: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        Scenes(split, **options)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_a_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cache_dir"):
        Scenes("val", size=64, counts=FEW, cache_dir=tmp_path / "file" / "scenes")
