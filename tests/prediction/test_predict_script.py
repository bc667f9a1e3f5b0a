"""predict.py on images: what it writes, takes up, skips and refuses."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastfcn
from fastfcn.prediction import large
from fastfcn.prediction.segmenter import Segmenter
from tests.prediction.pictures import save, video
from tests.scripts import Done, call


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of five images, in the folder where one stands."""
    monkeypatch.chdir(tmp_path)
    for index, name in enumerate(("a.png", "a.jpg", "b.png", "sub/c.png", "sub/d.png")):
        save(tmp_path / "photos" / name, 20 + 4 * (index // 2), 30, seed=index)
    return tmp_path / "photos"


@pytest.fixture
def predict(first_version: Path) -> Any:
    def run(*overrides: str) -> Done:
        return call("predict.py", f"ckpt_path={first_version}", "device=cpu", *overrides)

    return run


def ids_of(path: Path) -> Any:
    with Image.open(path) as file:
        return np.asarray(file)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_and_every_output(photos: Path, predict: Any, first_version: Path, tmp_path: Path) -> None:
    kinds = {"mask": "png", "ids": "png", "overlay": "png", "probabilities": "npz"}
    done = predict("input=photos", "out=out", f"output=[{','.join(kinds)}]", "batch_size=2").check()
    names = ["a.jpg", "a.png", "b", "sub/c", "sub/d"]
    expected = [f"{kind}/{name}.{suffix}" for kind, suffix in kinds.items() for name in names]
    assert files(tmp_path / "out") == sorted([*expected, "done.jsonl", "predictions.json"])
    assert "predictions: 5 written to out" in done.out
    segmenter = fastfcn.Segmenter.from_file(first_version, device="cpu")
    for name, path in zip(names, ["a.jpg", "a.png", "b.png", "sub/c.png", "sub/d.png"], strict=True):
        found = segmenter(photos / path, probabilities=True)
        np.testing.assert_array_equal(ids_of(tmp_path / f"out/ids/{name}.png"), found.ids)
        np.testing.assert_array_equal(ids_of(tmp_path / f"out/mask/{name}.png"), found.ids)
        assert found.probabilities is not None
        with np.load(tmp_path / f"out/probabilities/{name}.npz") as content:
            np.testing.assert_allclose(content["probabilities"], found.probabilities, atol=1e-3)
        overlay = ids_of(tmp_path / f"out/overlay/{name}.png")
        np.testing.assert_array_equal(overlay[: found.ids.shape[0], :30], found.overlay())
        assert overlay.shape[0] > found.ids.shape[0]
    lines = [json.loads(line) for line in (tmp_path / "out/done.jsonl").read_text().splitlines()]
    assert lines[0]["shares"] == pytest.approx(segmenter(photos / "a.jpg").shares())


def test_what_is_done_is_not_done_again(
    photos: Path, predict: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off after two images, gone on; then with a changed image, another kind, and another protocol."""
    batch, seen = Segmenter.batch, [0]

    def counted(self: Segmenter, images: Any, **how: Any) -> Any:
        seen[0] += 1
        if seen[0] == 3:
            raise KeyboardInterrupt
        return batch(self, images, **how)

    monkeypatch.setattr(Segmenter, "batch", counted)
    assert predict("input=photos", "out=out").code == 130
    whole = files(tmp_path / "out/mask")
    assert len(whole) == 2
    with (tmp_path / "out/done.jsonl").open("a") as file:
        file.write('{"input": "b", "sour')  # a line that was being written
    (tmp_path / "out/mask/.b.png.1.partial").write_bytes(b"half")
    stamps = {name: (tmp_path / "out/mask" / name).stat().st_mtime_ns for name in whole}
    done = predict("input=photos", "out=out").check()
    assert "predictions: 3 written to out, 2 were there already" in done.out
    assert stamps == {name: (tmp_path / "out/mask" / name).stat().st_mtime_ns for name in whole}
    assert len(files(tmp_path / "out/mask")) == 5
    assert "0 written to out, 5 were there" in predict("input=photos", "out=out").check().out
    save(photos / "b.png", 40, 40, seed=9)
    assert "1 written to out, 4 were there" in predict("input=photos", "out=out").check().out
    assert ids_of(tmp_path / "out/mask/b.png").shape == (40, 40)
    assert "5 written" in predict("input=photos", "out=out", "output=[mask,ids]").check().out
    assert "0 written" in predict("input=photos", "out=out", "output=[overlay,ids]").check().out
    other = ("input=photos", "out=out", "inference=whole")
    sentence = predict(*other).sentence()
    assert "inference.protocol=slide, now whole" in sentence
    assert "overwrite=true" in sentence
    assert "5 written" in predict(*other, "overwrite=true").check().out


def test_the_default_folder_is_the_same_for_the_same_call(photos: Path, predict: Any, tmp_path: Path) -> None:
    predict("input=photos").check()
    assert "5 were there already" in predict("input=photos").check().out
    predict("input=photos", "inference=whole").check()
    assert len(list((tmp_path / "outputs/predict").iterdir())) == 2


def test_what_cannot_be_read(photos: Path, predict: Any, tmp_path: Path) -> None:
    (photos / "b.png").write_bytes(b"no image")
    sentence = predict("input=photos", "out=out").sentence()
    assert "b.png cannot be read" in sentence
    assert "on_bad_image=skip" in sentence
    done = predict("input=photos", "out=out", "on_bad_image=skip").check()
    assert "1 could not be read and were skipped" in done.out
    assert done.out.count("skipped: ") == 1
    assert len(files(tmp_path / "out/mask")) == 4
    (photos / "alone").mkdir()
    (photos / "alone/x.png").write_bytes(b"")
    assert "None of the 1 files" in predict("input=photos/alone", "out=none", "on_bad_image=skip").sentence()


def test_one_file(photos: Path, predict: Any, tmp_path: Path) -> None:
    assert "mask:        b.png" in predict("input=photos/b.png", "out=b.png").check().out
    assert files(tmp_path) == ["b.png", *(f"photos/{name}" for name in files(photos))]
    assert ids_of(tmp_path / "b.png").shape == (24, 30)
    assert "is there already" in predict("input=photos/b.png", "out=b.png").sentence()
    predict(f"input={(photos / 'b.png').as_uri()}", "out=b.png", "output=[overlay]", "overwrite=true").check()


def test_standard_input_and_output(photos: Path, predict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()

    class Text(io.StringIO):
        @property
        def buffer(self) -> io.BytesIO:
            return buffer

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((photos / "b.png").read_bytes())))
    monkeypatch.setattr(io, "StringIO", Text)
    assert predict("input=-").check().out == ""  # nothing beside the file
    with Image.open(io.BytesIO(buffer.getvalue())) as mask:
        assert mask.size == (30, 24)


def test_large_images_go_by_tiles(photos: Path, predict: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiled: list[str] = []
    segment = large.segment

    def noted(segmenter: Segmenter, path: Path, *args: Any, **how: Any) -> dict[str, float]:
        tiled.append(path.name)
        return segment(segmenter, path, *args, **how)

    monkeypatch.setattr(large, "segment", noted)
    save(photos / "large.png", 300, 120)
    done = predict("input=photos", "out=out", "tile=96", "halo=32", "inference=whole", "output=[ids]").check()
    assert tiled == ["large.png"]
    assert "large.png: 120 x 300 pixels, in tiles of 96" in done.out
    assert ids_of(tmp_path / "out/ids/large.png").shape == (300, 120)
    assert len(files(tmp_path / "out/ids")) == 6
    predict("input=photos/large.png", "out=l.png", "tile=96", "halo=32").check()
    assert ids_of(tmp_path / "l.png").shape == (300, 120)


def test_videos_among_images(photos: Path, predict: Any, tmp_path: Path) -> None:
    video(photos / "clip.avi")
    (photos / "broken.mp4").write_bytes(b"")
    done = predict("input=photos", "out=out", "on_bad_image=skip").check()
    assert "6 written to out, 1 could not be read" in done.out
    assert (tmp_path / "out/video/clip.mp4").is_file()
    assert not (tmp_path / "out/mask/clip.avi").exists()
    predict("input=photos/clip.avi", "out=c.mp4", "frames=2").check()
    assert (tmp_path / "c.mp4").is_file()


def test_outputs_are_no_inputs_of_the_next_call(photos: Path, predict: Any) -> None:
    predict("input=photos", "out=photos/predicted").check()
    assert "5 were there already" in predict("input=photos", "out=photos/predicted").check().out
    assert "5 written" in predict("input=photos", "out=elsewhere").check().out


def test_some_frames_of_a_video_and_then_fewer(photos: Path, predict: Any, tmp_path: Path) -> None:
    """What is written has its record though the video is not done; the frames of a longer pass do not stay."""
    video(photos / "clip.avi")
    for frames in (3, 3, 2):
        predict("input=photos/clip.avi", "out=v", "output=[mask]", f"frames={frames}").check()
        assert (tmp_path / "v/predictions.json").is_file()
        assert len(list((tmp_path / "v/mask").rglob("*.png"))) == frames


def test_inputs_of_one_name_have_folders_of_their_own(photos: Path, predict: Any, tmp_path: Path) -> None:
    for place in ("one/images", "two/images"):
        save(tmp_path / place / "a.png", 20, 30, seed=len(place))
        predict(f"input={place}").check()
    assert len(list((tmp_path / "outputs/predict").glob("images-*"))) == 2


def test_a_video_behind_a_link(photos: Path, predict: Any, tmp_path: Path) -> None:
    video(tmp_path / "blobs/clip.avi")
    (tmp_path / "blobs/clip.avi").rename(tmp_path / "blobs/3fa9")
    (photos / "clip.avi").symlink_to(tmp_path / "blobs/3fa9")
    predict("input=photos/clip.avi", "out=v", "output=[mask]", "frames=2").check()
    assert len(list((tmp_path / "v/mask").rglob("*.png"))) == 2
