"""What the page is made of, without a browser."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastfcn import evaluation
from fastfcn.errors import UserError
from fastfcn.prediction.segmentation import Segmentation
from fastfcn.types import DataFacts
from fastfcn.web import examples, models, serving, texts, uploads, views
from fastfcn.web.answers import Answer, Comparison, check_pair
from fastfcn.web.comparing import Comparer
from fastfcn.web.downloads import KEPT, Downloads
from fastfcn.web.models import Models
from fastfcn.web.stages import STAGES
from fastfcn.web.uploads import Limits, Upload
from tests.scripts import ROOT, call

FACTS = DataFacts("toy", ("grass", "<script>alert(1)</script>"), ((10, 200, 30), (250, 20, 60)))
OTHERS = DataFacts("other", ("roof", "grass"), ((1, 2, 3), (4, 5, 6)))


def saved(image: Image.Image, path: Path, **how: Any) -> Upload:
    image.save(path, **how)
    return Upload(path, path.name)


def compared(left: list[list[int]], right: list[list[int]], *, others: DataFacts = FACTS) -> Comparison:
    """Two answers to one image; the right side's uncertainty is half."""
    image = np.full((*np.shape(left), 3), 100, np.uint8)
    times = {stage: float(number) for number, stage in enumerate(STAGES, start=1)}
    answers = []
    for name, ids, facts, value in (("one", left, FACTS, 0), ("two", right, others, 128)):
        found = Segmentation(np.array(ids, np.uint8), facts, image)
        answers.append(Answer(name, name, found, np.full(found.ids.shape, value, np.uint8), times))
    return Comparison(image, (answers[0], answers[1]), None, rounds=3)


def test_an_upload_is_read_upright_and_reduced(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    upload = saved(Image.new("RGB", (400, 100), "red"), tmp_path / "a.jpg", exif=exif)
    picture = uploads.read(upload, Limits(side=200))
    assert (picture.pixels.shape, picture.full_size, picture.reduced) == ((200, 50, 3), (400, 100), True)
    assert not uploads.read(upload, Limits()).reduced
    line = uploads.read(saved(Image.new("L", (3000, 1)), tmp_path / "line.png"), Limits(side=300))
    assert line.pixels.shape == (1, 300, 3)


def test_uploads_that_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (700, 700, 3), dtype=np.uint8))
    text, cut = tmp_path / "text.png", tmp_path / "cut.jpg"
    text.write_text("no image")
    noise.save(cut)
    cut.write_bytes(cut.read_bytes()[:2000])
    huge = saved(Image.new("1", (9000, 9000)), tmp_path / "huge.png")  # 10 kB, 81 million pixels
    assert huge.path.stat().st_size < 50_000
    for upload, words in (
        (Upload(text, "../my text.png"), "my text.png cannot be read as an image, or is damaged: choose another"),
        (Upload(cut, "cut.jpg"), "cut.jpg cannot be read"),
        (huge, "9000 × 9000 pixels, more than 50 million"),
        (saved(noise, tmp_path / "noise.png"), "noise.png is larger than 1 MB"),
        (Upload(tmp_path / "gone.png", "gone.png"), "no longer there"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            uploads.read(upload, Limits(megabytes=1))
        assert str(tmp_path) not in str(caught.value)
        assert "../" not in str(caught.value)


def test_names_are_shown_short_and_plain() -> None:
    assert uploads.shortened("C:\\folder\\a\nb.png") == "ab.png"
    assert len(uploads.shortened("x" * 500)) == 60
    assert uploads.shortened("/") == "The file"


def test_examples_are_scenes_and_known_by_their_pixels(tmp_path: Path) -> None:
    drawn = examples.draw(tmp_path, chosen=(0, 2))
    assert [example.name for example in drawn] == ["scenes_test_00000", "scenes_test_00002"]
    for example in drawn:
        pixels = uploads.read(Upload(example.path, example.name), Limits()).pixels
        assert (pixels == example.image).all()
        truth = examples.truth_of(pixels, drawn)
        assert truth is example.truth
    assert examples.truth_of(255 - drawn[0].image, drawn) is None


def test_models_are_found_newest_first_kept_and_forgotten(two: list[Path], tmp_path: Path) -> None:
    found = models.offers_found([two[0].parents[2], tmp_path / "nowhere"], trusted=["fastfcn"])
    assert [offer.name for offer in found] == ["plain", "turned"]
    offers = [*found, *models.offers_untrained(examples.FACTS)]
    kept = Models(offers, device=torch.device("cpu"), keep=2)
    first = kept.get("plain")
    assert kept.get("plain") is first
    kept.get("turned")
    assert not kept.get("jpu · random weights").network.training
    assert kept.get("plain") is not first
    two_of_a_name = tmp_path / "again/plain/checkpoints/best.ckpt"
    two_of_a_name.parent.mkdir(parents=True)
    shutil.copy(two[0], two_of_a_name)
    names = [offer.name for offer in models.offers_found([two[0].parents[2], tmp_path], trusted=["fastfcn"])]
    assert len(set(names)) == 3


def test_an_exported_model_is_refused_before_the_page_opens(two: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    known = evaluation.read_any(str(two[0]))._replace(exported=Path("best.onnx"))
    monkeypatch.setattr(evaluation, "read_any", lambda path: known)
    with pytest.raises(UserError, match=r"best\.onnx is a model for another runtime.*name the checkpoint"):
        models.offers_of(["best.onnx"], trusted=["fastfcn"])


def test_a_comparison_from_files(two: list[Path], tmp_path: Path) -> None:
    offers = models.offers_of([str(path) for path in two], trusted=["fastfcn"])
    drawn = examples.draw(tmp_path, chosen=(0,))
    loaded = Models(offers, device=torch.device("cpu"), keep=2)
    comparer = Comparer(loaded, drawn, limits=Limits(), seconds=0.01)
    _, comparison = comparer(Upload(drawn[0].path, "scene.png"), "plain", "turned")
    left, right = comparison.answers
    assert ((left.found.ids.astype(int) + 2) % 11 == right.found.ids).mean() > 0.99  # its classes are turned by two
    assert (left.uncertainty == right.uncertainty).mean() > 0.99
    assert comparison.truth is drawn[0].truth
    assert set(left.milliseconds) == set(STAGES)
    assert all(value > 0 for value in left.milliseconds.values())
    assert comparison.right(0) == (left.found.ids == drawn[0].truth).mean()
    with pytest.raises(UserError, match="Choose two models"):
        comparer(Upload(drawn[0].path, "scene.png"), "plain", "nobody")


def test_classes_are_compared_by_name() -> None:
    comparison = compared([[0, 0], [1, 1]], [[1, 1], [1, 0]], others=OTHERS)
    assert comparison.agreement() == 0.5
    legend = {row.name: row for row in comparison.legend()}
    assert legend["grass"].shares == (0.5, 0.75)
    assert legend["grass"].color == (10, 200, 30)
    assert legend["roof"].shares == (None, 0.25)
    assert comparison.palette(1) == [(1, 2, 3), (10, 200, 30)]


def test_views_show_what_they_say() -> None:
    comparison = compared([[0, 1]], [[1, 1]])._replace(truth=np.array([[0, 0]], np.int16))
    green, red = FACTS.palette

    def cells(view: views.View, index: int, alone: str | None = None) -> list[tuple[int, ...]]:
        picture = views.pair(comparison, view, strength=1, alone=alone)[index]
        assert picture.shape == (384, 768, 3)  # enlarged by a whole factor
        return [tuple(picture[100, column].tolist()) for column in (100, 600)]

    assert cells("Classes", 0) == [green, red]
    faint = cells("Classes", 0, alone="grass")[1]
    assert cells("Classes", 0, alone="grass")[0] == green
    assert faint not in (green, red)
    assert cells("Differences", 1) == [red, faint]
    assert cells("Errors", 0) == [faint, red]
    assert cells("Errors", 1) == [red, red]
    assert sum(cells("Uncertainty", 1)[0]) > sum(cells("Uncertainty", 0)[0])
    assert (views.pair(comparison, "Classes", strength=0, alone=None)[0] == 100).all()


def test_names_from_files_are_escaped() -> None:
    comparison = compared([[0, 1]], [[1, 1]])
    pages = (
        texts.legend(comparison, alone=None),
        texts.legend(comparison, alone=FACTS.class_names[1]),
        texts.caption(comparison),
        texts.times(comparison, device="<script>"),
        texts.about(uploads.Picture(comparison.image, "<script>", (1, 2)), comparison, trained=True),
        texts.notice("<script>"),
    )
    assert not any("<script>" in page for page in pages)
    assert 'aria-pressed="true"' in pages[1]
    assert "10.0 ms" in pages[3]


def test_files_to_take_home_are_of_the_last_comparisons(tmp_path: Path) -> None:
    downloads = Downloads(tmp_path)
    comparison = compared([[0, 1]], [[1, 1]])
    paths = downloads.write(comparison, name="../../a b/ö.jpg", strength=0.5)
    assert all(Path(path).parent.parent == tmp_path for path in paths)
    with Image.open(paths[0]) as mask:
        assert np.asarray(mask).tolist() == [[0, 1]]
    with Image.open(paths[3]) as overlay:
        assert overlay.size == (2, 1)
    for _ in range(KEPT):
        downloads.write(comparison, name="image.png", strength=0.5)
    assert not Path(paths[0]).exists()
    assert len(list(tmp_path.iterdir())) == KEPT


def test_what_the_page_begins_with() -> None:
    assert texts.choices(["fpn · a", "bilinear · a", "jpu · a"]) == ("jpu · a", "bilinear · a")
    assert texts.choices(["x", "y"]) == ("x", "y")
    assert texts.choices(["x"]) == ("x", "x")
    assert check_pair(("x", "x"), ("x",)) == ("x", "x")


def test_a_port_in_use_and_gradio_that_is_not_there(
    two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = call("web.py", f"checkpoints=[{two[0]}]", f"port={port}", "device=cpu")
    assert f"port={port} cannot be listened on" in done.sentence()
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "gradio" else found(name))
    assert call("web.py").sentence() == "the page needs gradio, which is not installed: pip install -e .[web]"
    assert not list(tmp_path.iterdir())


def test_without_any_trained_model_the_page_has_some_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = []

    def serve(offered: Models, settings: serving.Settings, *, trained: bool) -> None:
        served.append((offered.get("bilinear · random weights"), settings, trained))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(serving, "serve", serve)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    call("web.py", "device=cpu", "side=256", f"port={port}").check()
    [(loaded, settings, trained)] = served
    assert not trained
    assert loaded.segmenter.facts is examples.FACTS
    assert (settings.port, settings.limits.side) == (port, 256)
    assert "No trained model was found" in texts.untrained()


@pytest.mark.parametrize(
    ("path", "another"),
    [
        ("/gradio_api/file=http://a/b", True),
        ("/gradio_api/file=HTTPS://a/b", True),
        ("/gradio_api/file/http://a/b", True),
        ("/gradio_api/proxy=http://a/b", True),
        ("/gradio_api/file=/tmp/a.png", False),
        ("/", False),
    ],
)
def test_addresses_of_other_hosts_are_seen(path: str, another: bool) -> None:
    assert serving._asks_another({"path": path}) is another


def test_make_web_trains_once_where_nothing_was_trained(tmp_path: Path) -> None:
    """By the commands that make would run: the recipe is given a Python that writes down what it is called with."""
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/calls; mkdir -p outputs/web\n")
    python.chmod(0o755)
    ready = tmp_path / "ready"
    ready.touch()
    command = ["make", "web", f"PY={python}", f"READY={ready}", "PORT=7999", "-o", str(ready)]

    def calls() -> list[str]:
        (tmp_path / "calls").unlink(missing_ok=True)
        subprocess.run(command, cwd=tmp_path, env={**os.environ, "MAKEFLAGS": ""}, check=True, capture_output=True)
        return (tmp_path / "calls").read_text().splitlines()

    assert calls() == ["src/train.py sweep=web", "src/web.py port=7999"]
    assert calls() == ["src/web.py port=7999"]
    (tmp_path / "outputs/web/.trained").unlink()
    best = tmp_path / "outputs/train/day/run/checkpoints/best.ckpt"
    best.parent.mkdir(parents=True)
    best.touch()
    assert calls() == ["src/web.py port=7999"]
