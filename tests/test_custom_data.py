"""docs/custom_data.md, followed line by line on a small data set in the format that it describes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco

import fastfcn
from fastfcn.checkpoint import config_dir
from tests.scripts import ROOT, call

pytestmark = pytest.mark.slow

TEXT = (ROOT / "docs/custom_data.md").read_text()
COMMANDS = re.findall(r"^ {4}(python src/.+)$", TEXT, flags=re.MULTILINE)

#: What makes a run of the test's time out of the document's, which nothing else of it depends on.
SMALLER = {
    "train.py": {
        "trainer": "cpu", "trainer.max_epochs": "1", "backbone": "resnet18", "backbone.weights": "none",
        "head.width": "16", "upsample.width": "16", "data.batch_size": "4", "data.crop_size": "64",
        "data.base_size": "64", "data.num_workers": "0", "callbacks.show_summary.image_size": "[64,64]",
    },
    "eval.py": {"trainer": "cpu"},
    "predict.py": {"device": "cpu"},
    "prepare.py": {},
}  # fmt: skip


def draw(root: Path) -> None:
    """Cats (polygons), dogs (compressed codes) and trees (uncompressed codes, some as crowds) on a lawn."""
    rng = np.random.default_rng(0)
    categories = [{"id": number, "name": name} for number, name in ((17, "cat"), (18, "dog"), (64, "tree"))]
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    number = 0
    for split, count in (("train", 8), ("val", 3)):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for _ in range(count):
            number += 1
            image = Image.new("RGB", (96, 80), (60, 140, 60))
            images.append({"id": number, "file_name": f"{number:04d}.jpg", "width": 96, "height": 80})
            for category, colour in ((17, "gray"), (18, "brown"), (64, "darkgreen")):
                x, y = rng.integers(0, 60, 2).tolist()
                corners = [(x, y), (x + 30, y + 4), (x + 12, y + 19)]
                ImageDraw.Draw(image).polygon(corners, fill=colour)
                polygon = [float(value) for corner in corners for value in corner]
                code = coco.merge(coco.frPyObjects([polygon], 80, 96))
                drawn = coco.decode(code).ravel(order="F")
                runs = np.diff([0, *(np.flatnonzero(np.diff(drawn)) + 1), drawn.size]).tolist()
                segmentation: Any = {
                    17: [polygon],
                    18: {"size": [80, 96], "counts": code["counts"].decode()},
                    64: {"size": [80, 96], "counts": [0, *runs] if drawn[0] else runs},
                }[category]
                annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": category,
                                    "segmentation": segmentation, "iscrowd": int(category == 64)})  # fmt: skip
            noise = rng.integers(-10, 10, (80, 96, 3))
            noisy = (np.asarray(image).astype(int) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(root / f"images/{number:04d}.jpg")
        content = {"images": images, "categories": categories, "annotations": annotations}
        (root / f"annotations/{split}.json").write_text(json.dumps(content))


def known(command: str) -> bool:
    """Whether the command's keys are there: predict.py may not take images without labels yet."""
    keys = re.findall(r" (\w+)=", command)
    config = (config_dir() / f"{Path(shlex.split(command)[1]).stem}.yaml").read_text()
    return "predict.py" not in command or all(re.search(rf"^{key}:", config, re.MULTILINE) for key in keys)


def test_the_document_has_all_steps() -> None:
    scripts = [Path(shlex.split(command)[1]).name for command in COMMANDS]
    assert {"prepare.py", "train.py", "eval.py", "predict.py"} == set(scripts)
    assert scripts.count("train.py") >= 4


def test_followed_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "data/pets")
    said = {}
    for command in filter(known, COMMANDS):
        _, script, *words = shlex.split(command)
        name = Path(script).name
        smaller = SMALLER[name]
        kept = [word for word in words if word.partition("=")[0] not in smaller]
        said[command] = call(name, *kept, *(f"{key}={value}" for key, value in smaller.items())).check().out
    check, first, *_ = said.values()
    assert "Training can start." in check
    assert "outputs/check/coco/classes.png" in check
    assert "IoU background" in first
    assert "IoU tree" in first
    for place in ("outputs/pets/results.json", "outputs/pets/page.png", "outputs/check/coco/classes.png"):
        assert (tmp_path / place).stat().st_size > 0
    assert any("class weights by median_frequency: background" in out for out in said.values())
    assert any("but for head.context.presence" in out for out in said.values())
    assert fastfcn.load_model("outputs/tuned/checkpoints/best.ckpt").num_classes == 3  # the background, cat, dog
    if any("predict.py" in command and "input=" in command for command in said):
        assert list((tmp_path / "outputs/pets/predicted").iterdir())


def test_every_option_that_it_names_composes() -> None:
    from hydra import compose, initialize_config_dir

    table = re.findall(r"^\| (`[^|]+) \|", TEXT, flags=re.MULTILINE)
    options = [option for cell in table for option in re.findall(r"`([\w.]+=[^`]+)`", cell) if "..." not in option]
    options += re.findall(r"`(data\.dataset\.\w+=(?!\.)[^` ]+)`", TEXT)
    assert len(options) > 10
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        for option in options:
            needed = ["data=coco", "data.dataset.root=/data"] if option.startswith("data") else []
            compose("train", overrides=[*needed, option])
