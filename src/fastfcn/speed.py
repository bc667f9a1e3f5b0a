"""How fast a model predicts: the column FPS of the paper's Table 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from fastfcn import heap
from fastfcn.errors import UserError
from fastfcn.provenance import cpu_model
from fastfcn.timing import latency


class Speed:
    """Times predictions of one image of noise.

    Args:
        image_size: (height, width) in pixels.
        warmup: predictions that are not measured.
        repeats: predictions that are measured.

    Raises:
        UserError: a number makes no sense.
    """

    def __init__(self, *, image_size: Sequence[int] = (512, 512), warmup: int = 10, repeats: int = 100) -> None:
        if len(image_size) != 2 or min(image_size) < 1:
            raise UserError(f"speed.image_size={list(image_size)}: give [height, width] in pixels.")
        if warmup < 0 or repeats < 1:
            raise UserError(f"speed.warmup={warmup} and speed.repeats={repeats}: choose warmup >= 0 and repeats >= 1.")
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.warmup = warmup
        self.repeats = repeats

    def measure(self, model: nn.Module, *, device: torch.device, channels_last: bool = True) -> dict[str, Any]:
        """Time a model in float32, batch 1; it is left in the mode and on the device that it was on.

        Returns:
            Milliseconds (median, 10th and 90th percentile), images per second by the median, peak GPU memory in GiB
            (None on a CPU), and the conditions.
        """
        training, home = model.training, next(model.parameters()).device
        layout = torch.channels_last if channels_last else torch.contiguous_format
        model.eval().to(device)
        model.to(memory_format=layout)
        image = torch.randn(1, 3, *self.image_size, device=device).contiguous(memory_format=layout)

        def predict() -> object:
            with torch.inference_mode():
                return model(image)

        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        time = latency({"": predict}, warmup=self.warmup, repeats=self.repeats, device=device)[""]
        model.train(training).to(home)
        cuda = device.type == "cuda"
        return {
            "median_ms": time.median,
            "p10_ms": time.p10,
            "p90_ms": time.p90,
            "fps": 1000 / time.median,
            "repeats": self.repeats,
            "warmup": self.warmup,
            "image_size": list(self.image_size),
            "batch": 1,
            "precision": "float32",
            "device": torch.cuda.get_device_name(device) if cuda else cpu_model(),
            "threads": torch.get_num_threads(),
            "kept_heap": heap.is_kept(),
            "peak_memory_gib": torch.cuda.max_memory_allocated(device) / 2**30 if cuda else None,
        }
