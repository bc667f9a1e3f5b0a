"""What several test files share: one real training of a few seconds, and small data sets on disk."""

from __future__ import annotations

import lzma
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.scripts import ROOT, TINY, Done, start
from tests.wandb_records import FOREIGN, own_place

FolderMaker = Callable[..., Path]

# Models and images are tiny: a second thread costs more than it brings, and the more the busier the machine is.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the scenes of the whole test session are kept."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of ``training``."""
    return tmp_path_factory.mktemp("training") / "run"


@pytest.fixture(scope="session")
def training(run_dir: Path, data_dir: Path) -> Done:
    """One epoch by train.py as a real process, started from a folder that is not the repository."""
    overrides = (*TINY, f"paths.data_dir={data_dir}", f"hydra.run.dir={run_dir}")
    return start("train.py", *overrides, cwd=run_dir.parent).check()


@pytest.fixture(scope="session")
def best(training: Done, run_dir: Path) -> Path:
    """Its best checkpoint."""
    return run_dir / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="session")
def last(training: Done, run_dir: Path) -> Path:
    """Its last checkpoint."""
    return run_dir / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="session")
def first_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that the first version wrote (tests/fixtures/README.md), of a model of 250 kB."""
    path = tmp_path_factory.mktemp("first_version") / "first.ckpt"
    path.write_bytes(lzma.decompress((ROOT / "tests/fixtures/first_version.ckpt.xz").read_bytes()))
    return path


@pytest.fixture
def own_wandb(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """W&B as it is for a user without an account: nothing of this machine's decides what a test sees."""
    import wandb

    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    for name, value in own_place(tmp_path_factory.mktemp("wandb")).items():
        monkeypatch.setenv(name, value)
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def make_folder(tmp_path: Path) -> FolderMaker:
    """Writes a data set on disk: ``make_folder(name, class_names, images=4, size=64)``."""

    def make(name: str, class_names: Sequence[str], *, images: int = 4, size: int = 64) -> Path:
        rng = np.random.default_rng(0)
        root = tmp_path / name
        for split in ("train", "val", "test"):
            for kind in ("images", "masks"):
                (root / kind / split).mkdir(parents=True)
            for index in range(images):
                image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
                mask = rng.integers(0, len(class_names), (size, size), dtype=np.uint8)
                Image.fromarray(image).save(root / "images" / split / f"{index}.png")
                Image.fromarray(mask).save(root / "masks" / split / f"{index}.png")
        (root / "classes.txt").write_text("\n".join(class_names) + "\n")
        return root

    return make
