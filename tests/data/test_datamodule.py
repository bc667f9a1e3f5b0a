from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fastfcn.data import datamodule as module
from fastfcn.data.batches import normalise
from fastfcn.data.datamodule import SegmentationDataModule
from fastfcn.errors import BadSampleError, UserError
from fastfcn.types import IGNORE_INDEX, IMAGENET_MEAN, IMAGENET_STD, DataFacts, LoadedBatch, RawSample
from tests.scripts import ROOT, SRC, environment

COUNTS = {"train": 10, "val": 5, "test": 3}
FACTS = DataFacts(name="tiny", class_names=("even", "odd"), palette=((0, 0, 0), (255, 255, 255)))
BROKEN = "images/train/7.png cannot be read: replace it."


class Tiny:
    """Noise images of different sizes, named by their index."""

    def __init__(self, split: str, *, broken: Sequence[int] = ()) -> None:
        self.facts = FACTS
        self._split = split
        self._broken = broken

    def __len__(self) -> int:
        return COUNTS[self._split]

    def __getitem__(self, index: int) -> RawSample:
        if index in self._broken:
            raise BadSampleError(BROKEN.replace("7", str(index)))
        rng = np.random.default_rng(index)
        height, width = 20 + 3 * index, 31 + index
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        return RawSample(image=image, mask=(image[..., 0] % 2).astype(np.int16), name=str(index))


def make(dataset: Any = Tiny, **settings: Any) -> SegmentationDataModule:
    return SegmentationDataModule(
        dataset, **{"batch_size": 4, "crop_size": 24, "base_size": 24, "num_workers": 0, **settings}
    )


def epoch_of(loader: DataLoader[Any], epoch: int) -> list[tuple[list[str], Tensor]]:
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return [(batch["name"], batch["image"]) for batch in loader]


def normalised(images: Tensor) -> Tensor:
    return normalise(LoadedBatch(image=images, mask=torch.zeros(0, dtype=torch.int16), name=[]))["image"]


def test_facts_are_there_before_setup() -> None:
    datamodule = make()
    assert datamodule.facts is FACTS
    assert datamodule.num_classes == 2


def test_facts_need_no_training_split_once_another_was_opened() -> None:
    def only_test(split: str) -> Tiny:
        assert split == "test"
        return Tiny(split)

    datamodule = make(only_test)
    datamodule.eval_dataloader("test")
    assert datamodule.num_classes == 2


def test_a_training_batch() -> None:
    loader = make().train_dataloader()
    assert len(loader) == 2  # 10 images, the last 2 of the order left out
    batches = list(loader)
    assert len(batches) == 2
    for batch in batches:
        assert batch["image"].shape == (4, 3, 24, 24)
        assert batch["image"].dtype == torch.uint8
        assert batch["mask"].shape == (4, 24, 24)
        assert batch["mask"].dtype == torch.int16
        assert isinstance(batch["name"], list)
    names = [name for batch in batches for name in batch["name"]]
    assert len(set(names)) == 8


def test_epochs_differ_and_runs_of_one_seed_agree() -> None:
    first, second = make(seed=5).train_dataloader(), make(seed=5).train_dataloader()
    epochs = [epoch_of(first, e) for e in range(3)]
    for epoch in (2, 0, 1):  # in any order: nothing is carried over from epoch to epoch
        for (names, images), (others, other_images) in zip(epochs[epoch], epoch_of(second, epoch), strict=True):
            assert names == others
            assert torch.equal(images, other_images)
    orders = [[name for names, _ in epoch for name in names] for epoch in epochs]
    assert orders[0] != orders[1] != orders[2]
    other_seed = epoch_of(make(seed=6).train_dataloader(), 0)
    assert [name for names, _ in other_seed for name in names] != orders[0]


def test_the_same_image_is_augmented_anew_each_epoch() -> None:
    loader = make(batch_size=1).train_dataloader()
    seen = [{names[0]: images for names, images in epoch_of(loader, e)} for e in range(2)]
    assert seen[0].keys() == seen[1].keys()
    assert not any(torch.equal(seen[0][name], seen[1][name]) for name in seen[0])


def test_workers_change_nothing_but_the_speed() -> None:
    plain, workers = make().train_dataloader(), make(num_workers=2).train_dataloader()
    for epoch in range(2):  # the workers persist into the second
        for (names, images), (others, other_images) in zip(
            epoch_of(plain, epoch), epoch_of(workers, epoch), strict=True
        ):
            assert names == others
            assert torch.equal(images, other_images)


def test_a_loader_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    list(make(num_workers=1).train_dataloader())
    list(make().val_dataloader())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]  # noqa: NPY002


def test_a_process_that_ends_within_an_epoch_ends_its_workers() -> None:
    """They leave the first SIGTERM to their parent, and Python's end sends one only."""
    code = (
        "from tests.data import test_datamodule as t; held = iter(t.make(num_workers=1).train_dataloader()); next(held)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(PYTHONPATH=str(SRC)), timeout=60, check=False
    )
    assert done.returncode == 0


def test_a_mistake_found_in_a_worker_stays_one_sentence() -> None:
    for workers in (0, 1):
        loader = make(lambda split: Tiny(split, broken=[3]), num_workers=workers).eval_dataloader("val")
        with pytest.raises(UserError) as caught:
            list(loader)
        assert str(caught.value) == BROKEN.replace("7", "3")


def with_broken(*indices: int) -> Any:
    return lambda split: Tiny(split, broken=indices)


@pytest.mark.parametrize("workers", [0, 1])
def test_training_goes_on_with_the_next_sample(workers: int, caplog: pytest.LogCaptureFixture) -> None:
    datamodule = make(with_broken(3, 4), on_bad_sample="skip", num_workers=workers)
    good = {name: image for batch in make().train_dataloader() for name, image in zip(batch["name"], batch["image"])}  # noqa: B905
    loader = datamodule.train_dataloader()
    for batch in loader:
        assert batch["image"].shape == (4, 3, 24, 24)
        assert not {"3", "4"} & set(batch["name"])
        for name, image in zip(batch["name"], batch["image"], strict=True):
            if name != "5":  # which may stand in, with another one's seed
                assert torch.equal(image, good[name])
    epoch_of(loader, 1)
    epoch_of(loader, 2)
    assert set(datamodule.skipped["train"]) == {BROKEN.replace("7", "3"), BROKEN.replace("7", "4")}
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2  # each once, whatever the number of epochs
    assert told[0].startswith("skipped a sample of the train split (1 of at most 20): images/train/")


def test_a_skipped_image_counts_nowhere_in_evaluation() -> None:
    datamodule = make(with_broken(1), on_bad_sample="skip", eval_batch_size=3)
    batches = list(datamodule.val_dataloader())
    assert [len(batch["name"]) for batch in batches] == [3, 2]
    masks = torch.cat([batch["mask"] for batch in batches])
    assert [bool((mask == IGNORE_INDEX).all()) for mask in masks] == [False, True, False, False, False]
    whole = list(datamodule.eval_dataloader("val", whole=True))
    assert len(whole) == 5
    assert (whole[1]["mask"] == IGNORE_INDEX).all()


def test_too_many_skipped_samples_stop_the_run() -> None:
    datamodule = make(with_broken(0, 1, 2), on_bad_sample="skip", max_bad_samples=2)
    with pytest.raises(UserError, match=r"data.max_bad_samples=2 samples of the val split .*2.png") as caught:
        list(datamodule.val_dataloader())
    assert "\n" not in str(caught.value)
    everything = make(with_broken(*range(10)), on_bad_sample="skip", max_bad_samples=99)
    with pytest.raises(UserError, match="None of the 10 training samples can be read"):
        list(everything.train_dataloader())


def test_a_batch_on_its_way_to_the_model() -> None:
    loaded = next(iter(make().val_dataloader()))
    assert loaded["image"].is_contiguous(memory_format=torch.channels_last)
    batch = normalise(loaded)
    mean, std = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
    torch.testing.assert_close(batch["image"], (loaded["image"].double() / 255 - mean).div(std).float())
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert batch["mask"].dtype == torch.int64
    assert torch.equal(batch["mask"], loaded["mask"].long())
    assert batch["name"] == loaded["name"]


def test_the_splits_have_the_names_that_the_data_set_gives_them() -> None:
    opened: list[str] = []

    def by_name(split: str) -> Tiny:
        opened.append(split)
        return Tiny({"trainval": "train", "minival": "val"}.get(split, split))

    datamodule = make(by_name, train_split="trainval", split="minival")
    assert len(datamodule.train_dataloader().dataset) == COUNTS["train"]  # type: ignore[arg-type]
    assert len(datamodule.test_dataloader().dataset) == COUNTS["val"]  # type: ignore[arg-type]
    assert opened == ["trainval", "minival"]


def test_evaluation_is_in_order_complete_and_not_random() -> None:
    datamodule = make(eval_batch_size=2)
    batches = list(datamodule.val_dataloader())
    assert [name for batch in batches for name in batch["name"]] == ["0", "1", "2", "3", "4"]
    assert [tuple(batch["image"].shape) for batch in batches] == [(2, 3, 24, 24), (2, 3, 24, 24), (1, 3, 24, 24)]
    for batch, again in zip(batches, datamodule.val_dataloader(), strict=True):
        assert torch.equal(batch["image"], again["image"])
    assert len(datamodule.test_dataloader().dataset) == COUNTS["test"]  # type: ignore[arg-type]
    assert [n for batch in datamodule.eval_dataloader("train") for n in batch["name"]] == [str(i) for i in range(10)]


def test_whole_images_come_one_at_a_time() -> None:
    shapes = [(1, 20 + 3 * i, 31 + i) for i in range(3)]
    assert [tuple(b["mask"].shape) for b in make(whole_eval=True).test_dataloader()] == shapes
    assert [tuple(b["mask"].shape) for b in make().eval_dataloader("test", whole=True)] == shapes
    assert next(iter(make(whole_eval=True).eval_dataloader("test", whole=False)))["mask"].shape == (3, 24, 24)


def test_each_process_takes_its_share_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for rank in range(2):
        monkeypatch.setattr(module, "process", lambda rank=rank: (rank, 2))
        loader = make().train_dataloader()
        assert loader.batch_size == 2
        assert len(loader) == 2
        names += [name for batch in loader for name in batch["name"]]
        assert [n for b in make().val_dataloader() for n in b["name"]] == [str(i) for i in range(rank, 5, 2)]
    assert len(set(names)) == 8
    monkeypatch.setattr(module, "process", lambda: (0, 3))
    with pytest.raises(UserError, match=r"batch_size=4 .* 3"):
        make().train_dataloader()
    monkeypatch.setattr(module, "process", lambda: (0, 4))
    with pytest.raises(UserError, match=r"test split has 3 images for 4 processes"):
        make().test_dataloader()


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"eval_batch_size": 0}, "eval_batch_size=0"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"num_workers": "all"}, "num_workers='all'"),
        ({"seed": -1}, "seed=-1"),
        ({"scale": [2, 1]}, "scale"),
        ({"on_bad_sample": "ignore"}, "on_bad_sample=ignore"),
        ({"max_bad_samples": -1}, "max_bad_samples=-1"),
        ({"augmentations": ["flip"]}, "augmentations"),
    ],
)
def test_a_senseless_setting_is_named(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word):
        make(**settings)


def test_a_split_smaller_than_a_batch_is_refused() -> None:
    with pytest.raises(UserError, match=r"batch_size=16 .* 10 images"):
        make(batch_size=16).train_dataloader()


def test_auto_takes_some_workers() -> None:
    assert make(num_workers="auto").val_dataloader().num_workers >= 1


class Recorder(pl.LightningModule):
    """Trains one weight, and writes down what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen: list[tuple[int, str, float]] = []
        self.validated: list[str] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        sums = batch["image"].sum(dim=(1, 2, 3)).tolist()
        self.seen += [(self.current_epoch, n, s) for n, s in zip(batch["name"], sums, strict=True)]
        return self.weight**2

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.validated += batch["name"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def of_epoch(self, epoch: int) -> list[tuple[str, float]]:
        return [(name, total) for e, name, total in self.seen if e == epoch]


def trainer(**settings: Any) -> pl.Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(
        **{
            **quiet,
            "accelerator": "cpu",
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,
            "log_every_n_steps": 1,
            **settings,
        }
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_a_trainer_gets_the_epochs_that_the_sampler_says(workers: int) -> None:
    model = Recorder()
    trainer(max_epochs=3).fit(model, datamodule=make(num_workers=workers))
    loader = make().train_dataloader()
    for epoch in range(3):
        expected = [
            (name, image.sum().item())
            for batch in epoch_of(loader, epoch)
            for name, image in zip(batch[0], normalised(batch[1]), strict=True)
        ]
        assert [name for name, _ in model.of_epoch(epoch)] == [name for name, _ in expected]
        np.testing.assert_allclose([s for _, s in model.of_epoch(epoch)], [s for _, s in expected], rtol=1e-4)
    assert model.validated == ["0", "1", "2", "3", "4"] * 3


@pytest.mark.parametrize("after_validation", [True, False])
@pytest.mark.parametrize("limit", [2, 1])
def test_a_resumed_run_goes_on_with_the_next_epoch(tmp_path: Path, after_validation: bool, limit: int) -> None:
    """A checkpoint is written in validation or at the end of an epoch; the epoch's count differs between the two."""
    model = Recorder()
    trainer(max_epochs=4, limit_train_batches=limit).fit(model, datamodule=make())
    checkpoints = pl.callbacks.ModelCheckpoint(
        dirpath=tmp_path, save_top_k=-1, save_on_train_epoch_end=not after_validation
    )
    trainer(max_epochs=2, limit_train_batches=limit, callbacks=[checkpoints], enable_checkpointing=True).fit(
        Recorder(), datamodule=make()
    )
    resumed = Recorder()
    trainer(max_epochs=4, limit_train_batches=limit).fit(
        resumed, datamodule=make(), ckpt_path=tmp_path / f"epoch=1-step={2 * limit}.ckpt"
    )
    assert resumed.seen == [entry for entry in model.seen if entry[0] >= 2]


@pytest.mark.parametrize(("step", "workers"), [(1, 0), (3, 0), (1, 1), (2, 1), (3, 1), (4, 1)])
def test_a_run_resumed_in_mid_epoch_stays_in_its_epoch(tmp_path: Path, step: int, workers: int) -> None:
    """Each epoch has two batches, so that steps 2 and 4 end one without its end having been counted."""
    model = Recorder()
    checkpoints = pl.callbacks.ModelCheckpoint(dirpath=tmp_path, save_top_k=-1, every_n_train_steps=1)
    trainer(max_epochs=4, callbacks=[checkpoints], enable_checkpointing=True).fit(model, datamodule=make())
    (path,) = tmp_path.glob(f"*step={step}.ckpt")
    resumed = Recorder()
    trainer(max_epochs=4).fit(resumed, datamodule=make(num_workers=workers), ckpt_path=path)
    assert len(resumed.seen) == len(model.seen) - 4 * step
    assert set(resumed.seen) <= set(model.seen)


def test_overfitting_some_batches_repeats_them() -> None:
    """Lightning puts its own sampler of bare indices in place of ours then."""
    model = Recorder()
    trainer(max_epochs=2, overfit_batches=1).fit(model, datamodule=make())
    assert len(model.of_epoch(0)) == 4
    assert model.of_epoch(0) == model.of_epoch(1)
