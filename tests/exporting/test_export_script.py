"""export.py from a checkpoint to files in their own runtimes, and what takes those files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import fastfcn
from fastfcn.errors import UserError
from fastfcn.exporting import making, openvino_file
from fastfcn.exporting.comparison import Agreement
from fastfcn.exporting.quantising import kept
from fastfcn.exporting.runtime import UNLIKELY, describe
from tests.scripts import ROOT, Done, call

FIXTURES = ROOT / "tests/fixtures/scenes"

#: The images that the checkpoint of the fixtures knows; there is no other split.
DATA = ("data=folder", f"data.dataset.root={FIXTURES}", "data.crop_size=64", "data.num_workers=0")
CALIBRATION = (*DATA, "data.train_split=test", "export.calibration_images=2")


def export(first_version: Path, out: Path, *overrides: str) -> Done:
    to = {".onnx": "onnx", ".xml": "openvino", ".pt2": "torch_export"}[out.suffix]
    return call("export.py", f"ckpt_path={first_version}", f"to={to}", f"out={out}", *overrides)


@pytest.fixture(scope="module")
def files(first_version: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each runtime for any size, and others of what there is to choose."""
    folder = tmp_path_factory.mktemp("exported")
    asked: dict[str, tuple[str, ...]] = {
        "any.onnx": ("export.dynamic=true", "export.size=[64,64]"),
        "any.pt2": ("export.dynamic=true", "export.size=[64,64]", "export.aot_inductor=false"),
        "pixels.onnx": ("export.size=[64,96]", "export.batch=2", "export.normalise=true", "export.precision=fp16"),
        "classes.xml": (
            "export.argmax=true",
            "export.normalise=true",
            "export.pixels=float32",
            "export.precision=fp16",
        ),
        "bytes.onnx": ("export.precision=int8", *CALIBRATION),
        "bytes.xml": ("export.precision=int8", *CALIBRATION),
    }
    for name, overrides in asked.items():
        done = export(first_version, folder / name, *overrides).check()
        assert f"written: {folder / name}" in done.out
        assert "compared with torch" in done.out
    made = {path.name for path in folder.iterdir()}
    assert made == {*asked, "classes.bin", "bytes.bin"}
    return {name: folder / name for name in asked}


@pytest.mark.parametrize("name", ["any.onnx", "any.xml", "any.pt2"])
def test_any_size_and_batch(name: str, files: dict[str, Path], first_version: Path, tmp_path: Path) -> None:
    model = fastfcn.load_model(first_version)
    path = files.get(name, tmp_path / name)
    if name == "any.xml":  # as to=openvino goes on from there
        said = replace(describe(files["any.onnx"]), format="openvino")
        openvino_file.write(openvino_file.converted(files["any.onnx"]), path, text=said.to_json(), half=False)
    exported = fastfcn.load_exported(path, trusted=("fastfcn", "pt2"))
    for batch, height, width in ((1, 64, 64), (3, 51, 77), (2, 200, 33)):
        image = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            ours, reference = exported(image).logits, model(image).logits
        assert float((ours - reference).abs().max() / reference.abs().max()) < 1e-4
    with pytest.raises(
        UserError, match=r"at least 33 pixels a side, not 64 x 32: choose export it with export\.dynamic"
    ):
        exported(torch.zeros(1, 3, 32, 64))


def test_a_file_alone_says_what_it_is(files: dict[str, Path], first_version: Path) -> None:
    for name, path in files.items():
        said = describe(path)
        assert said.facts == fastfcn.checkpoint.read_checkpoint(first_version).facts
        assert (said.mean[0], said.std[0]) == (0.485, 0.229)
        assert said.entry["model"]["upsample"]["_target_"] == "fastfcn.models.upsamplers.jpu.JPU"
        assert said.source["name"] == first_version.name
        assert len(said.source["sha256"]) == 64
        assert {"fastfcn-lightning", "torch"} <= set(said.versions), name
    assert describe(files["any.onnx"]).size is None
    assert (describe(files["pixels.onnx"]).size, describe(files["pixels.onnx"]).batch) == ((64, 96), 2)
    assert describe(files["bytes.xml"]).calibration == {"data": "scenes", "split": "test", "images": 2}
    props = {prop.key: prop.value for prop in onnx.load(files["any.onnx"]).metadata_props}
    assert json.loads(props["fastfcn"])["entry"]["facts"]["class_names"][:2] == ["sky", "mountain"]


def test_pixels_in_and_classes_out_without_this_project(files: dict[str, Path], first_version: Path) -> None:
    import onnxruntime
    import openvino

    model = fastfcn.load_model(first_version)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 96), dtype=np.uint8)
    mean, std = (
        np.array(values, np.float32).reshape(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        reference = model(torch.from_numpy((pixels.astype(np.float32) / 255 - mean) / std)).logits
    session = onnxruntime.InferenceSession(str(files["pixels.onnx"]), providers=["CPUExecutionProvider"])
    [ours] = session.run(["logits"], {"image": pixels})
    assert ours.dtype == np.float32
    assert np.mean(ours.argmax(1) == reference.argmax(1).numpy()) > 0.99
    small = pixels[:1, :, :64, :64]
    with torch.no_grad():
        reference = model(torch.from_numpy((small.astype(np.float32) / 255 - mean) / std)).logits
    found = openvino.Core().compile_model(files["classes.xml"], "CPU")({"image": small.astype(np.float32) / 255})[0]
    assert found.dtype == np.int64
    assert np.mean(found == reference.argmax(1).numpy()) > 0.99


def test_a_file_of_pixels_and_a_batch_of_two_takes_what_models_take(
    files: dict[str, Path], first_version: Path
) -> None:
    exported = fastfcn.load_exported(files["pixels.onnx"])
    image = torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)  # within 0 to 255
    with torch.no_grad():
        reference = fastfcn.load_model(first_version)(image).logits
    ours = exported(image).logits
    assert ours.shape == reference.shape
    assert float((ours.argmax(1) == reference.argmax(1)).float().mean()) > 0.97  # rounded to bytes, in half precision
    with pytest.raises(UserError, match=r"takes images of 96 x 64 pixels \(width x height\), not 64 x 64"):
        exported(image[..., :64])


def test_classes_stand_for_logits_where_one_pass_is_made(files: dict[str, Path]) -> None:
    exported = fastfcn.load_exported(files["classes.xml"])
    image = torch.zeros(1, 3, 64, 64)
    logits = exported(image).logits
    assert set(logits.unique().tolist()) == {0.0, UNLIKELY}
    with pytest.raises(UserError, match="cannot be added up over windows"):
        exported(image, full_size=False)


def test_convolutions_are_in_8_bits_but_the_classifier(files: dict[str, Path]) -> None:
    graph = onnx.load(files["bytes.onnx"]).graph
    makers = {output: node for node in graph.node for output in node.output}
    in_float = [node for node in graph.node if node.op_type == "Conv" and node.input[1] not in makers]
    assert len(in_float) == 1
    assert in_float[0].name in kept(graph)
    in_bytes = [node for node in graph.node if node.op_type == "Conv" and node.input[1] in makers]
    assert len(in_bytes) > 10
    assert all(makers[node.input[1]].op_type == "DequantizeLinear" for node in in_bytes)
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    narrow = [value for value in weights.values() if value.dtype == np.int8 and value.ndim == 4]
    assert len(narrow) == len(in_bytes)
    assert all(np.abs(value).max() <= 64 for value in narrow)


def test_eval_takes_a_file_and_tells_what_int8_costs(
    files: dict[str, Path], first_version: Path, tmp_path: Path
) -> None:
    found = {}
    for name, path in {"torch": first_version, "exact": files["any.onnx"], "bytes": files["bytes.onnx"]}.items():
        run = ("trainer=cpu", f"hydra.run.dir={tmp_path / name}")
        call("eval.py", f"ckpt_path={path}", *DATA, *run).check()
        found[name] = json.loads((tmp_path / name / "results.json").read_text())["test"]["mIoU"]
    assert found["exact"] == pytest.approx(found["torch"], abs=1e-3)
    assert found["bytes"] == pytest.approx(found["torch"], abs=0.1)


def test_predict_takes_files_beside_checkpoints(files: dict[str, Path], first_version: Path, tmp_path: Path) -> None:
    figure = tmp_path / "page.png"
    models = f"checkpoints=[{first_version},{files['bytes.xml']},{files['classes.xml']}]"
    call("predict.py", f"figure={figure}", models, "count=1", "device=cpu", *DATA).check()
    assert figure.is_file()
    image = FIXTURES / "images/test/0.png"
    out = tmp_path / "mask.png"
    call("predict.py", f"ckpt_path={files['bytes.onnx']}", f"input={image}", f"out={out}", "output=[mask]").check()
    assert out.is_file()


def test_segment_takes_files_of_any_size_by_its_own_protocol_and_of_one_by_windows(
    files: dict[str, Path], first_version: Path
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    reference = fastfcn.segment(picture, model=first_version, device="cpu")
    for name in ("any.onnx", "bytes.xml"):
        found = fastfcn.segment(picture, model=files[name], device="cpu")
        assert np.mean(found.ids == reference.ids) > (0.999 if name == "any.onnx" else 0.8)
    with pytest.raises(UserError, match="cannot be added up over windows"):
        fastfcn.segment(picture, model=files["classes.xml"], device="cpu")


@pytest.mark.parametrize(
    ("script", "name", "overrides", "words"),
    [
        ("eval.py", "any.pt2", (), "trusted=[fastfcn,pt2]"),
        ("eval.py", "any.onnx", ("inference.optimize=true",), "choose inference.optimize=false"),
        ("eval.py", "any.onnx", ("compile=true",), "choose compile=false"),
        ("eval.py", "classes.xml", ("inference=slide", "inference.crop_size=64"), "export.argmax=false"),
        ("predict.py", "classes.xml", ("inference=slide", "inference.crop_size=64"), "export.argmax=false"),
        ("eval.py", "pixels.onnx", (), "export.dynamic=true"),
        ("export.py", "any.onnx", ("to=safetensors",), "is a model for another runtime, no checkpoint"),
        ("benchmark.py", "any.onnx", ("task=exports", "device=cpu"), "task.files=[...]"),
    ],
)
def test_what_a_file_cannot_do_is_said(
    script: str, name: str, overrides: tuple[str, ...], words: str, files: dict[str, Path], tmp_path: Path
) -> None:
    given = f"checkpoints=[{files[name]}]" if script == "predict.py" else f"ckpt_path={files[name]}"
    more = {
        "eval.py": (*DATA, "trainer=cpu", f"hydra.run.dir={tmp_path}/run"),
        "predict.py": (*DATA, "device=cpu", f"figure={tmp_path}/page.png"),
        "export.py": (f"out={tmp_path}/a.safetensors",),
        "benchmark.py": (f"out={tmp_path}/bench", "repeats=3", "seconds=0.01", "task.image_size=[64,64]"),
    }[script]
    assert words in call(script, given, *more, *overrides).sentence()


def test_benchmark_measures_files_beside_one_another(files: dict[str, Path], tmp_path: Path) -> None:
    named = f"task.files=[{files['any.onnx']},{files['bytes.onnx']}]"
    more = ("device=cpu", "repeats=3", "seconds=0.01", "warmup_seconds=0.01", "task.image_size=[64,64]")
    done = call("benchmark.py", "task=exports", named, *more, f"out={tmp_path}").check()
    first, second = json.loads((tmp_path / "exports.json").read_text())["rows"]
    assert (first["name"], second["name"], second["precision"]) == ("any.onnx", "bytes.onnx", "int8")
    assert second["mib"] < first["mib"]
    assert second["agreement"]["same"] > 0.5
    assert "times any.onnx" in done.out


def test_benchmark_exports_the_model_itself(tmp_path: Path) -> None:
    model = ("backbone=timm", "backbone.name=test_efficientnet", "upsample.width=8", "head.width=16", "num_classes=5")
    more = ("device=cpu", "repeats=3", "seconds=0.01", "warmup_seconds=0.01", "task.image_size=[64,64]")
    rows = "task.rows=['OpenVINO int8']"
    call("benchmark.py", "task=exports", *model, *more, rows, "task.calibration_images=2", f"out={tmp_path}").check()
    eager, narrow = json.loads((tmp_path / "exports.json").read_text())["rows"]
    assert eager["agreement"] is None
    assert narrow["agreement"]["same"] > 0
    assert narrow["mib"] < eager["mib"]
    assert narrow["milliseconds"]["repeats"] >= 3
    assert "| OpenVINO int8 |" in (tmp_path / "exports.md").read_text()


def test_what_differs_leaves_no_file(first_version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "compare_export", lambda *_, **__: Agreement(0.5, 0.25, False))
    said = export(first_version, tmp_path / "a.onnx", "export.size=[64,64]").sentence()
    assert "a.onnx gives something else than the model: on 1 x 64 x 64 pixels" in said
    assert "same on 25.00%" in said
    assert list(tmp_path.iterdir()) == []


def test_no_compiler_is_said_before_anything_is_done(
    first_version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import cpp_builder, exc

    def none() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    said = export(first_version, tmp_path / "a.pt2", "export.size=[64,64]").sentence()
    assert "needs a C++ compiler" in said
    assert "export.aot_inductor=false" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_a_damaged_file_is_known(suffix: str, files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"no model")
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(UserError, match="damaged"):
        describe(path)
    if suffix == ".xml":
        shutil.copy(files["bytes.xml"], path)
        path.with_suffix(".bin").unlink()
        with pytest.raises(UserError, match=r"its weights in a\.bin, which is not beside it"):
            describe(path)
    if suffix == ".onnx":
        model = onnx.load(files["any.onnx"])
        del model.metadata_props[:]
        onnx.save(model, path)
        with pytest.raises(UserError, match="was not written by this project"):
            describe(path)
