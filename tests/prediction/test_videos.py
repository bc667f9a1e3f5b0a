"""Videos and cameras: frames, rate, size, what is cut off, and what a camera is that is not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from fastfcn.errors import BadSampleError, UserError
from fastfcn.prediction import clips, videos
from fastfcn.prediction.videos import Frames, whole_video
from tests.prediction.pictures import toy, video

HOW: dict[str, Any] = {"alpha": 1.0, "batch_size": 4, "limit": None}


def colours(path: Path) -> list[str]:
    """Which class covers the picture of each frame, by the colours of the toy classes."""
    with Frames(path) as frames:
        means = [frame[4:28, 4:44].mean((0, 1)) for frame in frames]
    return [["red", "green", "blue"][int(mean.argmax())] for mean in means]


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_video_keeps_frames_rate_and_order(tmp_path: Path, suffix: str) -> None:
    source, out = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    video(source, frames=7)
    done = clips.segment(toy(), source, {"video": out}, **HOW)
    assert done == (7, 7)
    with Frames(out) as frames:
        assert frames.rate == pytest.approx(12.5)
        assert frames.expected == 7
        assert frames.size[0] % 2 == frames.size[1] % 2 == 0
        assert frames.size[0] > 32
    assert colours(out) == ["red", "green", "blue", "red", "green", "blue", "red"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, out.name])


def test_frames_as_files_and_a_limit(tmp_path: Path) -> None:
    source = tmp_path / "in.avi"
    video(source)
    targets = {"ids": tmp_path / "ids", "probabilities": tmp_path / "p"}
    assert clips.segment(toy(), source, targets, **{**HOW, "limit": 5}).frames == 5
    files = sorted((tmp_path / "ids").iterdir())
    assert [path.name for path in files] == [f"00000{n}.png" for n in range(1, 6)]
    assert [int(np.median(np.asarray(Image.open(path), np.int64))) for path in files] == [0, 1, 2, 0, 1]
    with np.load(tmp_path / "p" / "000001.npz") as content:
        assert content["probabilities"].shape == (3, 32, 48)
        assert list(content["classes"]) == ["red", "green", "blue"]


def test_frames_in_tiles(tmp_path: Path) -> None:
    video(tmp_path / "in.avi", size=(64, 96))
    clips.segment(toy(tile=32, halo=0), tmp_path / "in.avi", {"ids": tmp_path / "ids"}, **HOW)
    assert len(list((tmp_path / "ids").iterdir())) == 6


def test_a_video_that_is_cut_off_gives_what_is_there(tmp_path: Path) -> None:
    source = tmp_path / "in.avi"
    video(source, frames=40)
    data = source.read_bytes()
    source.write_bytes(data[: len(data) // 2])
    done = clips.segment(toy(), source, {"video": tmp_path / "out.mp4"}, **HOW)
    assert done.expected == 40
    assert 5 < done.frames < 40
    assert len(colours(tmp_path / "out.mp4")) == done.frames


@pytest.mark.parametrize("content", [b"", b"a text file"])
def test_what_is_no_video(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "in.mp4"
    path.write_bytes(content)
    with pytest.raises(BadSampleError, match=r"in\.mp4 cannot be read as a video"):
        clips.segment(toy(), path, {"video": tmp_path / "out.mp4"}, **HOW)
    assert not (tmp_path / "out.mp4").exists()


def test_a_fault_leaves_no_half_of_a_video(tmp_path: Path) -> None:
    def broken() -> None:
        with whole_video(tmp_path / "a.mp4", rate=5, size=(33, 47)) as out:
            out.write(np.zeros((33, 47, 3), np.uint8))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert not list(tmp_path.iterdir())


def test_without_mpeg4_videos_are_motion_jpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing:
        def __init__(self, *_: object) -> None: ...

        def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
            return False

        def release(self) -> None: ...

        fourcc = cv2.VideoWriter.fourcc

    assert videos.encoder() == videos.MPEG4
    videos.encoder.cache_clear()
    monkeypatch.setattr(cv2, "VideoWriter", Nothing)
    assert videos.encoder() == videos.MOTION_JPEG
    videos.encoder.cache_clear()


class Camera:
    """What cv2.VideoCapture is to a camera: red frames, until somebody presses Ctrl-C."""

    def __init__(self, source: int, *, pressed_after: int | None = None) -> None:
        self.source, self.left = source, pressed_after

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.source == 0

    def read(self) -> tuple[bool, Any]:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left = None if self.left is None else self.left - 1
        frame = np.zeros((32, 48, 3), np.uint8)
        frame[..., 2] = 255
        return True, frame

    def get(self, _: int) -> float:
        return 0.0

    def release(self) -> None: ...


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    captures: list[int | None] = [None]
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: Camera(source, pressed_after=captures[0]))
    yield captures
    monkeypatch.undo()


def test_a_camera_gives_so_many_frames(camera: Any, tmp_path: Path) -> None:
    assert clips.segment(toy(), 0, {"ids": tmp_path}, alpha=0.5, batch_size=1, limit=20).frames == 20
    assert len(list(tmp_path.iterdir())) == 20


def test_a_camera_is_ended_by_ctrl_c_and_its_video_is_whole(camera: Any, tmp_path: Path) -> None:
    camera[0] = 15
    done = clips.segment(toy(), 0, {"video": tmp_path / "out.avi"}, alpha=0.5, batch_size=1, limit=None)
    assert done == (15, None)
    assert (tmp_path / "out.avi").stat().st_size > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["out.avi"]


def test_a_camera_that_is_not_there(camera: Any) -> None:
    with pytest.raises(UserError, match="input=webcam:3: there is no camera"):
        Frames(3)
