"""The models that the page offers: found, named, and a few of them kept in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from fastfcn import checkpoint, evaluation
from fastfcn.errors import UserError
from fastfcn.models.fastfcn import FastFCN
from fastfcn.prediction.opening import Opened, Sizes, open_model, runnable
from fastfcn.prediction.protocols import choose
from fastfcn.prediction.segmenter import Segmenter
from fastfcn.report.runs import Run, read_run
from fastfcn.results import percent
from fastfcn.types import DataFacts

#: How many runs are offered, the newest ones.
OFFERED = 40

#: What is offered where there is no trained model.
UNTRAINED = ("jpu", "bilinear", "fpn", "none")


class Loaded(NamedTuple):
    """A model in memory.

    Attributes:
        segmenter: answers images, by the protocol of the model's training.
        network: the model itself, whose stages are timed.
    """

    segmenter: Segmenter
    network: FastFCN


_Load = Callable[[torch.device], Loaded]


class Offer(NamedTuple):
    """A model that can be chosen.

    Attributes:
        name: by which it is chosen, unique.
        short: a word for captions and names of files: the upsampler, where that tells it from the others.
        load: gives the model, on a device.
        trained: whether its weights were.
    """

    name: str
    short: str
    load: _Load
    trained: bool = True


def offers_of(paths: Sequence[str], *, trusted: Sequence[str]) -> list[Offer]:
    """Checkpoints that were named, of this project or of the original code.

    Raises:
        UserError: one is missing, damaged or of something else; found before the page opens.
    """
    names = evaluation.headings(paths, None)
    for path in paths:
        known = evaluation.read_any(path)
        if known.exported is not None:
            raise UserError(
                f"{path} is a model for another runtime, whose stages cannot be timed: name the checkpoint that it was "
                "made of."
            )
        checkpoint.unfilled_model(known, trusted=trusted)
    return [Offer(name, name, _loader(path, trusted)) for name, path in zip(names, paths, strict=True)]


def offers_found(roots: Sequence[str | Path], *, trusted: Sequence[str]) -> list[Offer]:
    """The best checkpoints of the newest runs below some directories, in the order of the directories."""
    found = [path for root in roots for path in sorted(Path(root).expanduser().glob("**/checkpoints/best.ckpt"))]
    newest = sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)[:OFFERED]
    kept = [path for path in found if path in newest]
    labels = [_label(path.parents[1]) for path in kept]
    offers = []
    for path, (name, short) in zip(kept, labels, strict=True):
        alone = [known for known, _ in labels].count(name) == 1
        full = name if alone else f"{name} · {path.parents[1]}"
        offers.append(Offer(full, short, _loader(str(path), trusted)))
    return offers


def offers_untrained(facts: DataFacts) -> list[Offer]:
    """Small models with random weights, so that the page works where nothing was trained yet."""

    def loader(upsample: str) -> _Load:
        def load(device: torch.device) -> Loaded:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = checkpoint.build_model(backbone="resnet18", upsample=upsample, num_classes=facts.num_classes)
            return _ready(Opened(model.eval().to(device), facts, Sizes(whole=True)), device)

        return load

    return [Offer(f"{name} · random weights", name, loader(name), trained=False) for name in UNTRAINED]


class Models:
    """Loads models when they are asked for, and keeps those that were asked for last.

    Args:
        offers: what can be chosen.
        device: where the models compute.
        keep: how many stay in memory, 2 at least.
    """

    def __init__(self, offers: Sequence[Offer], *, device: torch.device, keep: int) -> None:
        self.offers = {offer.name: offer for offer in offers}
        self.device = device
        self._keep = max(2, keep)
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str) -> Loaded:
        """The model of a name, loaded or kept.

        Raises:
            UserError: its file is gone or damaged.
        """
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = self.offers[name].load(self.device)
            self._loaded.move_to_end(name)
            while len(self._loaded) > self._keep:
                self._loaded.popitem(last=False)
            return self._loaded[name]


def _loader(path: str, trusted: Sequence[str]) -> _Load:
    def load(device: torch.device) -> Loaded:
        return _ready(open_model(path, device=device, trusted=trusted), device)

    return load


def _ready(opened: Opened, device: torch.device) -> Loaded:
    inference = choose(None, opened.sizes)
    model = runnable(opened.model, optimize=None, full_size=not inference.coarse)
    return Loaded(Segmenter(model, opened.facts, inference=inference, device=device), opened.model)


def _label(directory: Path) -> tuple[str, str]:
    """What a run is called, with its figure where it has one; and its upsampler."""
    run = read_run(directory)
    if isinstance(run, Run):
        score = f" · mIoU {percent(run.test['mIoU'])}" if "mIoU" in run.test else ""
        return f"{run.upsample}{score} · {run.head} · {run.backbone}", run.upsample
    if run.identity is not None:
        one = run.identity
        return f"{one.upsample} · {run.state} · {one.head} · {one.backbone}", one.upsample
    return directory.name, directory.name
