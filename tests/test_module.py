"""The LightningModule: what it computes, logs and stores."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from fastfcn.data.datamodule import SegmentationDataModule
from fastfcn.data.scenes import Scenes
from fastfcn.errors import UserError
from fastfcn.inference import SlidingWindow
from fastfcn.losses import SegmentationLoss
from fastfcn.models.backbones.resnet import ResNet
from fastfcn.models.fastfcn import FastFCN
from fastfcn.models.heads.encoding import EncodingHead
from fastfcn.models.heads.fcn import FCNHead
from fastfcn.models.heads.psp import PSPHead
from fastfcn.models.upsamplers.bilinear import Bilinear
from fastfcn.module import SegmentationModule
from fastfcn.optim import SGDPoly
from fastfcn.types import Batch, SegmentationOutput

CONFIG = {"model": {"_target_": "somewhere"}, "data": {"_target_": "elsewhere"}}


def small_model(*, psp: bool = False) -> FastFCN:
    torch.manual_seed(0)
    return FastFCN(
        num_classes=Scenes.facts.num_classes,
        backbone=ResNet(depth=18),
        upsample=Bilinear,
        head=PSPHead if psp else lambda channels, classes: EncodingHead(channels, classes, width=16),
        aux_head=lambda channels, classes: FCNHead(channels, classes, level="c4"),
    )


def made(model: FastFCN | None = None, **arguments: Any) -> SegmentationModule:
    return SegmentationModule(
        model=model or small_model(),
        facts=Scenes.facts,
        loss=SegmentationLoss(),
        optim=SGDPoly(lr=0.01),
        config=CONFIG,
        **arguments,
    )


def batch(size: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randn(size, 3, 64, 64, generator=generator),
        "mask": torch.randint(-1, 11, (size, 64, 64), generator=generator),
        "name": [str(index) for index in range(size)],
    }


def datamodule(batch_size: int = 2) -> SegmentationDataModule:
    def dataset(split: str) -> Any:
        return Scenes(split, size=64, counts={"train": 8, "val": 3, "test": 3})

    return SegmentationDataModule(dataset, batch_size=batch_size, crop_size=64, base_size=64)


def trainer(**options: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **options,
    )


class Spy(pl.Callback):
    """Keeps what goes by."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.rates: list[list[float]] = []
        self.predictions: list[Tensor] = []
        self.masks: list[Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.steps.append(outputs)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.rates.append([group["lr"] for group in optimizer.param_groups])

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *args: Any) -> None:
        self.predictions.append(outputs["prediction"])
        self.masks.append(batch["mask"])


@pytest.fixture(scope="module")
def fitted() -> tuple[pl.Trainer, SegmentationModule, Spy]:
    """Two epochs of four batches, two of them accumulated."""
    spy = Spy()
    module = made()
    fitting = trainer(max_epochs=2, accumulate_grad_batches=2, callbacks=[spy])
    fitting.fit(module, datamodule=datamodule())
    return fitting, module, spy


def test_loss_is_the_sum_of_its_terms(fitted: tuple[pl.Trainer, SegmentationModule, Spy]) -> None:
    _, _, spy = fitted
    assert len(spy.steps) == 8
    for outputs in spy.steps:
        assert set(outputs["terms"]) == {"ce", "aux", "presence"}
        total = sum(term.item() for term in outputs["terms"].values())
        assert 2 * outputs["loss"].item() == pytest.approx(total, rel=1e-5)  # Lightning divides by the accumulation


def test_learning_rate_counts_accumulated_images_and_steps(
    fitted: tuple[pl.Trainer, SegmentationModule, Spy],
) -> None:
    _, _, spy = fitted
    start = 0.01 * (2 * 2) / 16
    expected = [[start * (1 - step / 4) ** 0.9 * factor for factor in (1, 10)] for step in range(4)]
    assert spy.rates == [pytest.approx(rates) for rates in expected]


def test_validation_is_logged_by_its_names(fitted: tuple[pl.Trainer, SegmentationModule, Spy]) -> None:
    fitting, _, _ = fitted
    logged = fitting.callback_metrics
    assert {"train/loss", "train/ce", "train/aux", "train/presence", "val/loss"} <= set(logged)
    assert logged["val/score"].item() == pytest.approx((logged["val/pixAcc"] + logged["val/mIoU"]).item() / 2)


def test_test_figures_are_those_of_all_images_at_once(fitted: tuple[pl.Trainer, SegmentationModule, Spy]) -> None:
    _, module, _ = fitted
    spy = Spy()
    testing = trainer(callbacks=[spy])
    testing.test(module, datamodule=datamodule(), verbose=False)
    prediction, mask = torch.cat(spy.predictions), torch.cat(spy.masks)
    assert len(mask) == 3  # in batches of two: the last one has one image, and counts as much as it should
    valid = mask >= 0
    logged = testing.callback_metrics
    assert logged["test/pixAcc"].item() == pytest.approx((prediction == mask)[valid].double().mean().item(), rel=1e-6)
    ious = {}
    for index, name in enumerate(Scenes.facts.class_names):
        ours, truth = (prediction == index) & valid, (mask == index) & valid
        union = (ours | truth).sum().item()
        ious[name] = (ours & truth).sum().item() / union if union else float("nan")
        assert logged[f"test/IoU/{name}"].item() == pytest.approx(ious[name], rel=1e-6, nan_ok=True)
    present = [iou for iou in ious.values() if iou == iou]
    assert logged["test/mIoU"].item() == pytest.approx(sum(present) / len(present), rel=1e-6)
    thin = [ious[name] for name in Scenes.facts.thin_classes if ious[name] == ious[name]]
    assert logged["test/thin_IoU"].item() == pytest.approx(sum(thin) / len(thin), rel=1e-6)
    assert 0 <= logged["test/boundary_IoU"].item() <= 1


def test_memory_format_changes_no_result() -> None:
    outputs = []
    for channels_last in (True, False):
        module = made(channels_last=channels_last).eval()
        module.setup("test")
        weight = module.model.backbone.layer1[0].conv1.weight  # type: ignore[union-attr,index]
        assert weight.is_contiguous(memory_format=torch.channels_last) is channels_last
        with torch.no_grad():
            outputs.append(module._forward(batch()["image"]).logits)
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-4)


def test_windows_take_logits_at_the_resolution_of_the_head() -> None:
    slide = SlidingWindow(scales=(0.5, 1.0), flip=True, base_size=80, crop_size=64)
    module = made(inference=slide, channels_last=True).eval()
    module.setup("test")
    image = torch.randn(1, 3, 60, 90, generator=torch.Generator().manual_seed(0))
    seen = []

    def spied(part: Tensor) -> Tensor:
        seen.append(module._logits(part))
        return seen[-1]

    scores = slide(spied, image)
    assert {tuple(logits.shape[2:]) for logits in seen} == {(8, 8)}
    expected = slide(module.model, image)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5 * float(expected.max()))
    assert (
        module.predict_step({**batch(), "image": image}, 0)["prediction"] == expected.argmax(1)
    ).float().mean() > 0.999


class Tiny(nn.Module):
    """Logits at a quarter of the resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 11, 5, stride=4, padding=2)

    def forward(self, image: Tensor, *, full_size: bool = True) -> SegmentationOutput:
        assert not full_size
        return SegmentationOutput(self.conv(image))


@pytest.mark.slow
def test_windows_are_compiled_once_for_each_size_of_batch() -> None:
    """Images of several sizes ask for batches of several sizes; after the first image nothing is compiled."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()  # of the tests before, which reset() leaves
    slide = SlidingWindow(scales=(0.5, 1.0, 1.5), flip=True, base_size=80, crop_size=64, windows=4, fixed=True)
    compiled = made(Tiny(), compile_model=True, inference=slide)  # type: ignore[arg-type]
    compiled.setup("test")
    plain = made(Tiny(), inference=slide)  # type: ignore[arg-type]
    plain.load_state_dict(compiled.state_dict())
    generator = torch.Generator().manual_seed(0)
    graphs = []
    for size in ((60, 90), (90, 60), (64, 64), (40, 90), (31, 64)):
        image = torch.randn(1, 3, *size, generator=generator)
        with torch.inference_mode():
            ours = slide(compiled._logits, image)
            torch.testing.assert_close(ours, slide(plain._logits, image), rtol=1e-4, atol=1e-5)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] <= 2  # four windows and two
    assert graphs[-1] <= 2
    assert not counters["graph_break"]
    torch._dynamo.reset()


def test_compilation_keeps_the_names() -> None:
    plain, compiled = made(), made(compile_model=True)
    compiled.setup("fit")  # compiles at the first forward, not here
    assert compiled.model._compiled_call_impl is not None
    assert list(plain.state_dict()) == list(compiled.state_dict())


def test_checkpoint_entry_is_plain() -> None:
    checkpoint: dict[str, Any] = {}
    made().on_save_checkpoint(checkpoint)
    own = checkpoint["fastfcn"]
    assert {"version", "model", "data", "facts"} == set(own)
    assert copy.deepcopy(own)["model"] == CONFIG["model"]

    def plain(value: object) -> bool:
        if isinstance(value, dict):
            return all(map(plain, [*value, *value.values()]))
        return all(map(plain, value)) if type(value) is list else type(value) in (str, int, float, bool, type(None))

    assert plain(own)


def test_weights_in_the_checkpoint_are_the_models_alone() -> None:
    module = made()
    names = {name for name in module.state_dict() if not name.startswith("model.")}
    assert names == set()  # neither metrics nor the loss keep entries


def test_one_image_under_global_pooling_is_told() -> None:
    module = made(small_model(psp=True), channels_last=False).train()
    with pytest.raises(UserError, match=r"data\.batch_size.*at least 2"):
        module.training_step(batch(1), 0)


def test_other_value_errors_are_faults_of_the_program() -> None:
    class Faulty(nn.Module):
        def forward(self, image: Tensor, *, full_size: bool = True) -> Tensor:
            raise ValueError("a fault")

    module = made(Faulty())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a fault") as caught:
        module.training_step(batch(), 0)
    assert not isinstance(caught.value, UserError)
