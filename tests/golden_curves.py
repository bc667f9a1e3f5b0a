"""Loss curves of twenty steps, one for each upsampler and each head: they guard changes that are to change nothing.

`python -m tests.golden_curves` measures them anew and writes tests/goldens/curves.json; it is called when a change is
meant to change them, and the commit says why.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import nn
from typing_extensions import override

from fastfcn.checkpoint import config_dir
from fastfcn.module import SegmentationModule
from fastfcn.training import quiet_lightning
from fastfcn.whole_files import write_text
from tests.scripts import ROOT, one_thread

FILE = ROOT / "tests/goldens/curves.json"
STEPS = 20

#: Head and upsampler: each head behind JPU, each upsampler before the Encoding head.
ARMS = (
    ("encoding", "none"), ("encoding", "bilinear"), ("encoding", "fpn"), ("encoding", "jpu"), ("encoding", "jpu_x"),
    ("aspp", "jpu"), ("psp", "jpu"), ("fcn", "jpu"),
)  # fmt: skip

#: A model of some 100,000 weights, that can be dilated, on the embedded scenes with their augmentation.
SMALL = (
    "backbone=timm", "backbone.name=test_efficientnet", "data=scenes", "data.dataset.size=64", "data.crop_size=64",
    "data.dataset.counts={train:8,val:1,test:1}", "data.batch_size=4", "data.scale=[0.75,1.5]", "optim.lr=0.01",
)  # fmt: skip
WIDTHS = {"encoding": ("head.width=16", "head.num_codewords=4"), "fpn": ("upsample.width=16",)}
WIDTHS |= {"jpu": ("upsample.width=8",), "jpu_x": ("upsample.width=64",)}


class Losses(pl.Callback):
    """Writes down the loss of each step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        self.values.append(float(outputs["loss"]))


def overrides(head: str, upsample: str, *more: str) -> list[str]:
    """Of the configuration of an arm."""
    return [f"head={head}", f"upsample={upsample}", *SMALL, *WIDTHS.get(head, ()), *WIDTHS.get(upsample, ()), *more]


def curve(head: str, upsample: str, *more: str, folder: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Train twenty steps as `train.py` does, on one thread of the CPU, with deterministic algorithms.

    Dropout is left out: how its random numbers are made differs between processors.

    Args:
        head: An option of conf/head.
        upsample: An option of conf/upsample.
        more: Further overrides.
        folder: Where the scenes are kept.

    Returns:
        The loss of each step, and the weights behind the last.
    """
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=overrides(head, upsample, f"paths.data_dir={folder}", *more))
    before = torch.are_deterministic_algorithms_enabled()
    losses = Losses()
    quiet_lightning()
    warnings.filterwarnings("ignore", message=".*(does not have many workers|logging interval|tip:).*")
    with one_thread():
        try:
            data = instantiate(config.data)
            pl.seed_everything(config.seed, verbose=False)
            module = SegmentationModule(
                model=instantiate(config.model, num_classes=data.num_classes), facts=data.facts,
                loss=instantiate(config.loss), optim=instantiate(config.optim), seed=config.seed,
            )  # fmt: skip
            for part in module.modules():
                if isinstance(part, nn.modules.dropout._DropoutNd):
                    part.p = 0.0
            trainer = pl.Trainer(
                accelerator="cpu", max_steps=STEPS, deterministic=True, callbacks=[losses], logger=False,
                enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
                use_distributed_sampler=False, default_root_dir=folder,
            )  # fmt: skip
            trainer.fit(module, datamodule=data)
        finally:
            torch.use_deterministic_algorithms(before)
    return losses.values, {name: value.detach().clone() for name, value in module.model.state_dict().items()}


def main() -> None:
    """Measure all curves, write the file."""
    with tempfile.TemporaryDirectory() as folder:
        curves = {f"{head}-{upsample}": curve(head, upsample, folder=Path(folder))[0] for head, upsample in ARMS}
    lines = [
        f'  "{name}": {json.dumps([float(f"{value:.7g}") for value in values])}' for name, values in curves.items()
    ]
    write_text(FILE, "{\n" + ",\n".join(lines) + "\n}\n")
    print(f"written: {FILE}")


if __name__ == "__main__":
    main()
