"""One call of predict.py on images: what is asked, what there is to do, and where it goes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fastfcn.errors import UserError
from fastfcn.optimize import Optimize
from fastfcn.prediction import images, outputs, record, sources, work
from fastfcn.prediction.plan import Plan
from fastfcn.prediction.protocols import Chosen
from fastfcn.prediction.segmenter import Segmenter
from fastfcn.prediction.sources import STANDARD, Item
from fastfcn.whole_files import check_folder

#: Where predictions go if nothing is said, below the folder that the command is called in.
HOME = Path("outputs/predict")

#: What each way of calling predict.py needs, and what goes with a page alone.
PAGE, IMAGES, OF_PAGE = ("figure", "checkpoints"), ("ckpt_path", "input"), ("names", "images")


class Found(NamedTuple):
    """What there is to segment: files, a camera, or the bytes on standard input.

    Attributes:
        items: Files.
        camera: Number of a camera, or None.
        data: Bytes of an image, or None.
        label: What it is called.
    """

    items: list[Item]
    camera: int | None
    data: bytes | None
    label: str

    @property
    def moving(self) -> bool:
        """Whether it is a camera, or there is a video among it."""
        return self.camera is not None or any(item.kind == "video" for item in self.items)

    @property
    def only(self) -> Path | bytes | int:
        """The one thing that there is."""
        found = [*(item.path for item in self.items), *(x for x in (self.camera, self.data) if x is not None)]
        assert len(found) == 1, "there are several"
        return found[0]


def wants_page(config: Mapping[str, Any]) -> bool:
    """Whether predict.py is to draw a page that compares models; else it segments images.

    Raises:
        UserError: Both are asked for, or neither, or a key of one of them is missing.
    """
    page, segment = ([key for key in keys if config.get(key) is not None] for keys in (PAGE, IMAGES))
    if bool(page) == bool(segment):
        raise UserError(
            f"give {'one of the two' if page else 'something to do'}: ckpt_path=... input=... segments images, "
            "figure=... checkpoints=[...] draws what models make of a data set."
        )
    keys, given = (PAGE, page) if page else (IMAGES, segment)
    if missing := [key for key in keys if key not in given]:
        raise UserError(f"{missing[0]} has no value: give one by {missing[0]}=..., beside {given[0]}.")
    if segment and (foreign := [key for key in OF_PAGE if config.get(key) is not None]):
        raise UserError(f"{foreign[0]}={config[foreign[0]]} goes with figure=... alone: leave it out.")
    if segment and "_target_" in config["data"]:
        raise UserError("data=... goes with figure=... alone: the images to segment are named by input=...")
    return bool(page)


def run(config: Mapping[str, Any], *, inference: Chosen, optimize: Optimize | None) -> None:
    """Segment what `input` names with the model of `ckpt_path`, and write what `output` names to `out`.

    Args:
        config: Of predict.py, plain.
        inference: The protocol, or what makes it.
        optimize: How the network is rewritten for speed, or None.

    Raises:
        UserError: A value makes no sense, or something cannot be read or written.
    """
    if config["on_bad_image"] not in ("error", "skip"):
        raise UserError(f"on_bad_image={config['on_bad_image']}: choose error or skip.")
    outputs.check_kinds(config["output"])
    out = None if config["out"] is None else Path(config["out"]).expanduser()
    places = [config["input"]] if isinstance(config["input"], str) else list(config["input"])
    _check_place(places, out)
    found = _found(places, out)
    plan = Plan(
        kinds=None if config["output"] is None else tuple(dict.fromkeys(config["output"])),
        alpha=config["alpha"],
        batch_size=config["batch_size"],
        skip=config["on_bad_image"] == "skip",
        frames=config["frames"],
    )
    bare = found.data is not None or (out is not None and (str(out) == STANDARD or _is_file(out)))
    kinds = plan.check(found.items, camera=found.camera is not None, bare=bare)
    single = _single(out, found, kinds, overwrite=config["overwrite"])
    segmenter = Segmenter.from_file(
        config["ckpt_path"], inference=inference, optimize=optimize, device=config["device"],
        trusted=config["trusted"], tile=config["tile"], halo=config["halo"],
    )  # fmt: skip
    outputs.check_kinds(config["output"], segmenter.facts)
    if single is not None:
        work.one(segmenter, plan, found.only, kinds[0], single)
        return
    about = record.identity(str(config["ckpt_path"]), segmenter.facts, {**segmenter.settings(), "alpha": plan.alpha})
    origin = [str(images.local_path(place).expanduser().resolve()) for place in places]
    folder = out or HOME / f"{found.label}-{record.short_hash({**about, 'input': origin})}"
    with record.opened(folder, about, overwrite=config["overwrite"]) as kept:
        if found.camera is not None:
            work.camera(segmenter, plan, found.camera, kept)
        else:
            work.files(segmenter, plan, found.items, kept)


def _check_place(places: list[str], out: Path | None) -> None:
    """Refuse inputs that do not go together, and a place for predictions that is none."""
    if not places:
        raise UserError("input is empty: name a file or a folder.")
    alone = [place for place in places if place == STANDARD or sources.camera(place) is not None]
    if alone and len(places) > 1:
        raise UserError(f"input={places}: {alone[0]} goes alone.")
    if out is None or str(out) == STANDARD:
        return
    folder = out.parent if _is_file(out) else out
    for place in places:
        inside = images.local_path(place).expanduser()
        if inside.is_dir() and inside.resolve().is_relative_to(out.resolve()):
            raise UserError(f"out={out} holds the images themselves: choose another folder.")
        if inside.is_file() and inside.resolve() == out.resolve():
            raise UserError(f"out={out} is the image itself: choose another file.")
    check_folder(folder, key="out")


def _found(places: list[str], out: Path | None) -> Found:
    if places == [STANDARD]:
        data = sys.stdin.buffer.read()
        if not data:
            raise UserError("input=-: nothing came on standard input: send an image, ... < image.jpg.")
        return Found([], None, data, "stdin")
    if (number := sources.camera(places[0])) is not None:
        return Found([], number, None, f"webcam{number}")
    items = sources.find(places, out=out)
    first = images.local_path(places[0]).expanduser()
    label = first.resolve().name if len(places) == 1 and first.exists() else items[0].path.parent.name
    return Found(items, None, None, Path(label).stem or "files")


def _is_file(out: Path) -> bool:
    """Whether a place for predictions is meant as a file, by the end of its name."""
    return out.suffix.lower() in {".png", ".npz", ".mp4", ".avi"} and not out.is_dir()


def _single(out: Path | None, found: Found, kinds: tuple[str, ...], *, overwrite: bool) -> Path | None:
    """The one file to write, or `-` for standard output; None where predictions go to a folder.

    Raises:
        UserError: There are several, or the file's name ends otherwise, or it is there already.
    """
    if out is None and found.data is not None:
        out = Path(STANDARD)
    if out is None or not (str(out) == STANDARD or _is_file(out)):
        if found.data is not None:
            raise UserError(f"out={out}: the image of standard input goes to a file, name one that ends in .png.")
        return None
    if found.camera is None and len(found.items) + (found.data is not None) != 1:
        raise UserError(f"out={out} is one file, and there are {len(found.items)} inputs: name a folder.")
    if found.moving and kinds != ("video",):
        raise UserError(f"out={out} is one file, and output={list(kinds)} of a video are many: name a folder.")
    if len(kinds) != 1:
        raise UserError(f"out={out} is one file: name one kind of output, output=[{kinds[0]}].")
    if str(out) == STANDARD:
        if kinds == ("video",):
            raise UserError("out=-: a video goes to a file: name one that ends in .mp4.")
        if sys.stdout.isatty():
            raise UserError("out=- would write to the terminal: send it to a file, ... > mask.png.")
        return out
    ends = {outputs.SUFFIXES[kinds[0]], *([".avi"] if kinds == ("video",) else [])}
    if out.suffix.lower() not in ends:
        raise UserError(f"out={out}: {kinds[0]} is written as {' or '.join(sorted(ends))}.")
    if out.exists() and not overwrite:
        raise UserError(f"out={out} is there already: choose another name, or overwrite=true.")
    return out
