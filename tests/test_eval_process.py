"""eval.py from outside: the figures of the training again, other splits, other data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import fastfcn
from fastfcn.data import pascal_context
from fastfcn.data.scene_drawing import CLASS_NAMES
from fastfcn.data.scenes import Scenes
from tests import official
from tests.conftest import FolderMaker
from tests.scripts import Done, call, start

pytestmark = pytest.mark.slow


def figures(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results


def test_test_split_gives_the_figures_of_the_training(best: Path, run_dir: Path, tmp_path: Path) -> None:
    # The checkpoint alone: it is moved away from its run directory first.
    alone = Path(shutil.copy(best, tmp_path / "moved.ckpt"))
    done = start("eval.py", "trainer=cpu", f"ckpt_path={alone}", f"hydra.run.dir={tmp_path}/eval", cwd=tmp_path)
    done.check()
    assert done.err == ""
    assert figures(tmp_path / "eval")["test"] == figures(run_dir)["test"]
    assert f"test of {alone} on scenes" in done.out
    assert "\r" not in done.out  # no bar that redraws itself in a file
    assert {"config.yaml", "overrides.yaml", "provenance.json"} <= {path.name for path in (tmp_path / "eval").iterdir()}


def test_another_split(best: Path, run_dir: Path, tmp_path: Path) -> None:
    call("eval.py", "trainer=cpu", f"ckpt_path={best}", "data.split=val", f"hydra.run.dir={tmp_path}").check()
    results = figures(tmp_path)
    assert results["split"] == "val"
    assert set(results) == {"checkpoint", "split", "inference", "val"}
    assert results["val"]["score"] == pytest.approx(figures(run_dir)["val_score"], rel=1e-6)


def test_centre_crops_are_the_whole_images_where_these_have_their_size(
    best: Path, run_dir: Path, tmp_path: Path
) -> None:
    call("eval.py", "trainer=cpu", f"ckpt_path={best}", "inference=center_crop", f"hydra.run.dir={tmp_path}").check()
    ours, theirs = figures(tmp_path)["test"], figures(run_dir)["test"]
    for each in ("IoU", "class_boundary_IoU"):
        assert ours.pop(each) == pytest.approx(theirs.pop(each), abs=1e-3)
    assert ours == pytest.approx(theirs, abs=1e-3)


def test_other_data_with_the_same_classes(best: Path, tmp_path: Path, make_folder: FolderMaker) -> None:
    root = make_folder("tiny", CLASS_NAMES)
    overrides = ("trainer=cpu", f"ckpt_path={best}", "data=folder", f"data.dataset.root={root}", "inference=whole")
    done: Done = call("eval.py", *overrides, f"hydra.run.dir={tmp_path}/eval").check()
    assert "on tiny" in done.out
    # Nothing but the split to evaluate is needed.
    for kind in ("images", "masks"):
        shutil.rmtree(root / kind / "train")
    call("eval.py", *overrides, f"hydra.run.dir={tmp_path}/again").check()
    assert figures(tmp_path / "again")["test"] == figures(tmp_path / "eval")["test"]
    # Noise as truth: each class is at one pixel of eleven, whatever is predicted.
    assert figures(tmp_path / "eval")["test"]["pixAcc"] == pytest.approx(1 / 11, abs=0.02)


def test_the_report_and_a_comparison(best: Path, last: Path, run_dir: Path, tmp_path: Path) -> None:
    for name, checkpoint in (("a", best), ("b", last)):
        call("eval.py", "trainer=cpu", f"ckpt_path={checkpoint}", f"hydra.run.dir={tmp_path}/{name}").check()
    found = json.loads((tmp_path / "a/evaluation.json").read_text())
    trained = figures(run_dir)["test"]
    for name in ("pixAcc", "mIoU", "score"):
        assert found["figures"][name]["value"] == pytest.approx(trained[name], abs=1e-6)
        assert found["figures"][name]["low"] <= found["figures"][name]["value"] <= found["figures"][name]["high"]
    assert found["figures"]["boundary_IoU"] == trained["boundary_IoU"]
    assert len(found["images"]) == 4
    assert sum(map(sum, found["confusion"])) == 4 * 64 * 64
    text = (tmp_path / "a/evaluation.md").read_text()
    assert f"| mIoU | {100 * trained['mIoU']:.2f} |" in text
    assert "Largest confusions" in text
    done = call(
        "eval.py", f"compare=[{tmp_path}/a,{tmp_path}/b/evaluation.json]", f"hydra.run.dir={tmp_path}/c"
    ).check()
    assert f"second: {last}" in done.out
    assert json.loads((tmp_path / "c/comparison.json").read_text())["images"] == 4
    (tmp_path / "b/evaluation.json").write_text("{}")
    for wrong, words in (
        (f"[{tmp_path}/a,{tmp_path}/b]", "b/evaluation.json is no evaluation"),
        (f"[{tmp_path}/a]", "compare needs two"),
        (f"[{tmp_path}/a,{tmp_path}/nowhere]", "nowhere does not exist"),
    ):
        assert words in call("eval.py", f"compare={wrong}", f"hydra.run.dir={tmp_path}/c").sentence()


def test_windows_over_several_scales(best: Path, tmp_path: Path) -> None:
    call("eval.py", "trainer=cpu", f"ckpt_path={best}", "inference=multiscale", f"hydra.run.dir={tmp_path}").check()
    results = figures(tmp_path)
    protocol = {"protocol": "multiscale", "flip": True, "fusion": "exp_sum", "base_size": 64, "crop_size": 64}
    assert {**results["inference"], **protocol} == results["inference"]  # the sizes are those of the data
    sentence = call("eval.py", f"ckpt_path={best}", "inference=slide", "inference.fusion=max").sentence()
    assert "inference.fusion=max" in sentence


def test_a_network_rewritten_for_speed(best: Path, tmp_path: Path) -> None:
    given = ("trainer=cpu", f"ckpt_path={best}", "inference=slide")
    call("eval.py", *given, f"hydra.run.dir={tmp_path}/plain").check()
    call("eval.py", *given, "inference.optimize=true", f"hydra.run.dir={tmp_path}/fast").check()
    exact = ("inference.optimize=true", "optimize.dtype=float32", "optimize.compile=false")
    call("eval.py", *given, *exact, f"hydra.run.dir={tmp_path}/exact").check()
    plain, fast, same = (figures(tmp_path / name) for name in ("plain", "fast", "exact"))
    assert "optimize" not in plain["inference"]
    assert fast["inference"]["optimize"]["compile"] is True
    assert fast["inference"]["optimize"]["fold_bn"] > 20
    assert same["inference"]["optimize"]["dtype"] == "float32"
    assert same["test"]["pixAcc"] == pytest.approx(plain["test"]["pixAcc"], abs=2e-4)
    assert fast["test"]["pixAcc"] == pytest.approx(plain["test"]["pixAcc"], abs=0.01)
    # Without a protocol's name too; and what would change nothing is said.
    call("eval.py", *given[:2], *exact, f"hydra.run.dir={tmp_path}/once").check()
    assert figures(tmp_path / "once")["inference"]["optimize"]["compile"] is False
    assert "without inference.optimize=true" in call("eval.py", *given, "optimize.compile=false").sentence()
    assert "inference.optimize=1: give true or false" in call("eval.py", *given, "inference.optimize=1").sentence()
    assert "optimize.compil" in call("eval.py", *given, "optimize.compil=false").sentence()
    picture = (f"figure={tmp_path}/page.png", f"checkpoints=[{best}]", "count=1", "candidates=1", "device=cpu")
    call("predict.py", *picture, *exact).check()
    assert (tmp_path / "page.png").is_file()


def test_a_checkpoint_of_the_original_code(tmp_path: Path, make_folder: FolderMaker) -> None:
    torch.save({"state_dict": official.official_state("encnet_jpu_resnet50_pcontext")}, tmp_path / "best.pth.tar")
    root = make_folder("tiny", pascal_context.CLASS_NAMES[1:], images=2)
    given = ("trainer=cpu", f"official={tmp_path}/best.pth.tar", f"hydra.run.dir={tmp_path}/eval", "inference=slide")
    data = ("data=folder", f"data.dataset.root={root}", "data.base_size=80", "data.crop_size=64", "data.num_workers=0")
    done = call("eval.py", *given, *data).check()
    assert "best.pth.tar on tiny, slide" in done.out
    assert figures(tmp_path / "eval")["test"]["IoU"].keys() == set(pascal_context.CLASS_NAMES[1:])
    assert "choose some by data=..." in call("eval.py", *given).sentence()
    assert "give one checkpoint" in call("eval.py", *given, "ckpt_path=x").sentence()


def test_loaded_model_gives_the_logits_of_the_trained_one(best: Path, run_dir: Path, data_dir: Path) -> None:
    content = torch.load(best, map_location="cpu", weights_only=True)
    overrides = ["upsample.width=32", "head.width=32"]
    rebuilt = fastfcn.build_model(backbone="resnet18", num_classes=len(CLASS_NAMES), overrides=overrides)
    rebuilt.load_state_dict({name.removeprefix("model."): value for name, value in content["state_dict"].items()})
    model = fastfcn.load_model(best)
    assert not model.training
    dataset = Scenes("test", size=64, counts={"test": 4}, cache_dir=data_dir / "scenes")
    image = torch.stack([torch.from_numpy(dataset[i].image) for i in range(4)]).permute(0, 3, 1, 2) / 255.0
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    image = (image - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        logits = model(image).logits
        assert torch.equal(logits, rebuilt.eval()(image).logits)
    # The figures of the test, counted by hand.
    mask = torch.stack([torch.from_numpy(dataset[i].mask) for i in range(4)])
    pix_acc = (logits.argmax(1) == mask)[mask >= 0].double().mean().item()
    assert pix_acc == pytest.approx(figures(run_dir)["test"]["pixAcc"], abs=2e-4)
