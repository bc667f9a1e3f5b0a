"""A checkpoint as a file of another runtime, which is there when it was found to be right, or not at all."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import Tensor

from fastfcn import circumstances
from fastfcn.checkpoint import Checkpoint, datamodule_from_checkpoint, model_from_checkpoint, read_checkpoint
from fastfcn.conversion import bare_name
from fastfcn.errors import UserError
from fastfcn.exporting import torch_file
from fastfcn.exporting.description import Description
from fastfcn.exporting.making import Compared, compare, make
from fastfcn.exporting.packages import need
from fastfcn.exporting.quantising import fitted, spread
from fastfcn.exporting.request import SUFFIXES, Wanted, files_of
from fastfcn.inference import PAPER_CROP_SIZE
from fastfcn.official import read_official
from fastfcn.own_entry import own_entry
from fastfcn.whole_files import PARTIAL, check_folder

#: Packages of each format, and of int8.
PACKAGES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("openvino", "onnx", "onnxscript"),
    "torch_export": (),
}

#: Images on which an int8 file is compared; others than those it is calibrated on.
COMPARED_IMAGES = 8

#: What gives images: a DataModule of this project.
Data = Any


def write(
    *,
    ckpt_path: str | None,
    official: str | None,
    to: str,
    out: str | None = None,
    wanted: Wanted,
    data: Data | None = None,
    trusted: Sequence[str] = ("fastfcn",),
) -> Path:
    """Export a checkpoint's model.

    The file is written under another name, run in its own runtime at several sizes, and compared with the model in
    eager torch; then it gets its name. OpenVINO's has its weights beside, in .bin, torch_export's its machine code.

    Args:
        ckpt_path: A checkpoint of this project, also its weights as safetensors.
        official: Or one of the original code.
        to: `onnx`, `openvino` or `torch_export`.
        out: The file; None: beside the checkpoint, with the format's suffix.
        wanted: How.
        data: The DataModule whose training split `int8` is calibrated on; None: the checkpoint's.
        trusted: Packages whose modules the checkpoint may name.

    Returns:
        The file.

    Raises:
        UserError: What is asked for makes no sense or cannot be, the file is there already, or what came out gives
            something else than the model.
    """
    if (ckpt_path is None) == (official is None):
        raise UserError(
            f"to={to} needs one checkpoint: ckpt_path=... of this project, or official=... of the original code."
        )
    _check(to, wanted, data)
    path = Path(ckpt_path or official or "").expanduser()
    kind = "" if wanted.precision == "fp32" else f".{wanted.precision}"
    target = Path(out).expanduser() if out else path.with_name(f"{bare_name(path.name)}{kind}{SUFFIXES[to]}")
    if target.suffix != SUFFIXES[to]:
        raise UserError(f"out={out}: such a file is known by its name, let it end in {SUFFIXES[to]}.")
    check_folder(target.parent, key="out")
    for each in files_of(target, to, wanted):
        if each.exists():
            raise UserError(f"{each} is there already: delete it, or choose another name by out=...")
    checkpoint = read_checkpoint(path) if official is None else read_official(path)
    model = model_from_checkpoint(checkpoint, trusted=trusted)
    size = _size(checkpoint, wanted)
    images: list[Tensor] = []
    calibration = None
    if wanted.precision == "int8":
        images, calibration = _images(data or _own_data(checkpoint, trusted, path), wanted, size)
    description = Description(
        format=to,
        precision=wanted.precision,
        takes=wanted.takes,
        gives="classes" if wanted.argmax else "logits",
        size=None if wanted.dynamic else size,
        batch=None if wanted.dynamic else wanted.batch,
        least=1,
        entry=own_entry({"model": checkpoint.model_config, "data": checkpoint.data_config}, checkpoint.facts),
        source=_source(path, checkpoint),
        calibration=calibration,
        versions={name: metadata.version(name) for name in ("fastfcn-lightning", "torch", *PACKAGES[to])},
    )
    used, held_out = images[: wanted.calibration_images], images[wanted.calibration_images :]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.stem}.", suffix=PARTIAL) as folder:
        unfinished = Path(folder) / target.name
        try:
            make(model, to, unfinished, wanted=wanted, description=description, images=used)
        except (OSError, RuntimeError) as error:
            # torch and OpenVINO make one of a disk without room; others are faults, which keep their traceback.
            if isinstance(error, RuntimeError) and circumstances.told(error) is None:
                raise
            told = " ".join(str(error).split())[:200]
            raise UserError(
                f"{target} could not be written ({type(error).__name__}: {told}): see that there is room for it, or "
                "choose another format."
            ) from error
        files = files_of(unfinished, to, wanted)
        if images and not held_out:
            print("all images were calibrated on: it is compared on the same ones")
        found = compare(model, files, wanted=wanted, size=size, images=held_out or used)
        for each in reversed(files):  # what is opened comes last: where it is, all is
            each.replace(target.parent / each.name)
    _tell(found)
    for each in files:
        print(f"written: {target.parent / each.name}")
    return target


def _check(to: str, wanted: Wanted, data: Data | None) -> None:
    """Refuse, before anything is read, what cannot be."""
    for name in PACKAGES[to]:
        need(name)
    if wanted.precision == "int8":
        if to == "torch_export":
            raise UserError(f"export.precision=int8 is made by ONNX Runtime, not for to={to}: choose onnx or openvino.")
        need("onnxruntime")
    elif data is not None:
        raise UserError("data=... changes nothing here: images are read for export.precision=int8 alone.")
    if to == "torch_export" and wanted.aot_inductor:
        torch_file.need_compiler()


def _size(checkpoint: Checkpoint, wanted: Wanted) -> tuple[int, int]:
    """(height, width): the wanted one, or that of windows over the data's images (`evaluation.choose_inference`)."""
    if wanted.size is not None:
        height, width = wanted.size
        return int(height), int(width)
    data = checkpoint.data_config
    side = int(data.get("base_size" if data.get("whole_eval") else "crop_size", PAPER_CROP_SIZE))
    return side, side


def _own_data(checkpoint: Checkpoint, trusted: Sequence[str], path: Path) -> Data:
    """The DataModule that a checkpoint was trained on."""
    if not checkpoint.data_config:
        raise UserError(f"export.precision=int8 is calibrated on images, and {path} tells of none: choose data=...")
    return datamodule_from_checkpoint(checkpoint, trusted=trusted)


def _images(data: Data, wanted: Wanted, size: tuple[int, int]) -> tuple[list[Tensor], dict[str, Any]]:
    """Images to calibrate on and, behind them, others to compare on: each (3, height, width) uint8."""
    dataset = data.open(data.train_split)
    chosen = spread(len(dataset), wanted.calibration_images)
    others = [index for index in spread(len(dataset), 4 * len(chosen) + 1) if index not in chosen][:COMPARED_IMAGES]
    about = {"data": dataset.facts.name, "split": data.train_split, "images": len(chosen)}
    if not chosen:
        raise UserError(f"export.precision=int8: the {data.train_split} split of {dataset.facts.name} has no images.")
    return [fitted(dataset[index].image, size) for index in (*chosen, *others)], about


def _source(path: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.name, "sha256": digest, "epoch": checkpoint.epoch, "score": checkpoint.score}


def _tell(found: Sequence[Compared]) -> None:
    """A line for each size of each file."""
    for each in found:
        batch, height, width = each.shape
        assert each.agreement.same is not None
        print(
            f"compared with torch: {each.file}, {batch} x {height} x {width}: largest difference "
            f"{each.agreement.error:.1e} of the largest logit, same class on {each.agreement.same:.2%} of the pixels"
        )
