"""One comparison from its parts: an image is read, two models answer, their stages are timed."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch

from fastfcn.provenance import cpu_model
from fastfcn.web import uploads
from fastfcn.web.answers import Answer, Comparison, ask, check_pair
from fastfcn.web.examples import FACTS, Example, truth_of
from fastfcn.web.models import Models
from fastfcn.web.stages import as_input, time_stages
from fastfcn.web.uploads import Limits, Picture, Upload


class Comparer:
    """Compares two models of those that are offered; one comparison at a time, so that times mean something.

    Args:
        models: that are offered.
        examples: whose truth is known.
        limits: on images.
        seconds: that the timing of stages takes, about.
    """

    def __init__(self, models: Models, examples: Sequence[Example], *, limits: Limits, seconds: float) -> None:
        self.models = models
        self.examples = examples
        self.limits = limits
        self.seconds = seconds
        self._one = threading.Lock()

    @property
    def device_name(self) -> str:
        """The device in words."""
        device = self.models.device
        if device.type == "cuda":
            return torch.cuda.get_device_name(device)
        threads = torch.get_num_threads()
        named = f"{cpu_model()}, {threads} thread{'s' if threads > 1 else ''}"
        return named if device.type == "cpu" else str(device)

    def __call__(self, upload: Upload, left: str | None, right: str | None) -> tuple[Picture, Comparison]:
        """Read an image and ask both models.

        Raises:
            UserError: the image cannot be used, no two models are chosen, or one cannot be loaded.
        """
        names = check_pair((left, right), tuple(self.models.offers))
        picture = uploads.read(upload, self.limits)
        with self._one:
            return picture, self._compare(picture, names)

    def _compare(self, picture: Picture, names: tuple[str, str]) -> Comparison:
        loaded = [self.models.get(name) for name in names]
        found = [ask(one.segmenter, picture.pixels) for one in loaded]
        networks = {name: one.network for name, one in zip(names, loaded, strict=True)}
        stages = time_stages(networks, as_input(picture.pixels, self.models.device), seconds=self.seconds)
        answers = []
        for name, (classes, uncertainty) in zip(names, found, strict=True):
            times = {stage: time.median for stage, time in stages[name].items()}
            answers.append(Answer(name, self.models.offers[name].short, classes, uncertainty, times))
        same = all(answer.found.facts.class_names == FACTS.class_names for answer in answers)
        rounds = next(iter(stages[names[0]].values())).repeats
        return Comparison(
            image=picture.pixels,
            answers=(answers[0], answers[1]),
            truth=truth_of(picture.pixels, self.examples) if same else None,
            rounds=rounds,
        )
