"""Two processes on a CPU compute what one does, and train.py runs them in one run directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

import fastfcn
from fastfcn.data.batches import normalise
from fastfcn.data.datamodule import SegmentationDataModule
from fastfcn.losses import SegmentationLoss
from fastfcn.metrics import SegmentationMetrics
from fastfcn.models.fastfcn import FastFCN
from fastfcn.sync_norm import CPUSyncBatchNorm, SyncNorm
from fastfcn.types import DataFacts, RawSample
from tests.conftest import FolderMaker
from tests.scripts import TINY, start, two_processes

pytestmark = [
    pytest.mark.slow,
    two_processes,
]

PROCESSES = 2
STEPS = 3
DDP = ("trainer=ddp", "trainer.accelerator=cpu", f"trainer.devices={PROCESSES}")


def norms() -> list[tuple[nn.Module, Tensor]]:
    """BatchNorms with parameters and statistics of their own, each with an input of four samples."""
    torch.manual_seed(0)
    made: list[tuple[nn.Module, Tensor]] = []
    for module, shape in (
        (nn.BatchNorm2d(5), (4, 5, 3, 7)),
        (nn.BatchNorm1d(6), (4, 6, 9)),
        (nn.BatchNorm1d(6), (4, 6)),
        (nn.BatchNorm2d(5, affine=False), (4, 5, 3, 3)),
        (nn.BatchNorm2d(5, momentum=None), (4, 5, 3, 3)),
        (nn.BatchNorm2d(5, track_running_stats=False), (4, 5, 3, 3)),
    ):
        assert isinstance(module, _BatchNorm)
        if module.affine:
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
        made.append((module, 3 + 2 * torch.randn(shape)))
    return made


def through(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Output, gradients and statistics of two steps in training, and the output in evaluation."""
    for _ in range(2):
        x = x.detach().requires_grad_()
        module.zero_grad()
        y = module(x)
        (y**3).sum().backward()  # not linear: with a linear loss the gradient of x would be 0
    assert x.grad is not None
    found = {"output": y.detach(), "grad": x.grad}
    found |= {f"grad of {name}": p.grad for name, p in module.named_parameters() if p.grad is not None}
    found |= {name: value.clone() for name, value in module.named_buffers()}
    if dict(module.named_buffers()):  # without statistics, evaluation is by the batch at hand
        found["evaluation"] = module.eval()(x).detach()
    return found


def model() -> FastFCN:
    """JPU and Encoding in double precision, without dropout, the only thing that chance decides."""
    torch.manual_seed(0)
    overrides = ["upsample.width=16", "head.width=16"]
    made = fastfcn.build_model(backbone="resnet18", num_classes=4, overrides=overrides).double()
    for module in made.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    return made.train()


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(4, 3, 64, 64, dtype=torch.float64, generator=generator),
            torch.randint(0, 4, (4, 64, 64), generator=generator),
        )
        for _ in range(STEPS)
    ]


def train(network: nn.Module, share: slice) -> list[float]:
    """Losses of a few steps on a process's share of each batch."""
    loss, optimizer = SegmentationLoss(), torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for image, mask in batches():
        total = torch.stack(list(loss(network(image[share]), mask[share]).values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    return losses


class Uneven:
    """Seven images of different sizes: two processes cannot have as many each."""

    facts = DataFacts(name="uneven", class_names=tuple("abcd"), palette=((0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0)))

    def __init__(self, split: str) -> None:
        self.split = split

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> RawSample:
        rng = np.random.default_rng(index)
        height, width = 40 + 8 * index, 70 - 5 * index
        mask = rng.integers(-1, 4, (height, width)).astype(np.int16)
        return RawSample(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), mask, str(index))


def evaluated(*, whole: bool) -> tuple[Tensor, list[str]]:
    """The confusion matrix over all processes, and the images that this one saw."""
    network, metric, names = model().float().eval(), SegmentationMetrics(4), []
    datamodule = SegmentationDataModule(Uneven, batch_size=4, crop_size=48, base_size=48)
    for loaded in datamodule.eval_dataloader("val", whole=whole):
        batch = normalise(loaded)
        with torch.inference_mode():
            metric.update(network(batch["image"]).logits.argmax(1), batch["mask"])
        names += batch["name"]
    metric.sync()  # as compute() does; nothing happens in a single process
    return metric.confusion.clone(), names


def work(rank: int, folder: str) -> None:
    """What each of the processes does."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=PROCESSES)
    share = slice(2 * rank, 2 * rank + 2)
    layers = [through(SyncNorm().apply(module), x[share]) for module, x in norms()]
    network = SyncNorm().apply(model())
    converted = sum(isinstance(module, CPUSyncBatchNorm) for module in network.modules())
    left = sum(isinstance(m, _BatchNorm) and not isinstance(m, CPUSyncBatchNorm) for m in network.modules())
    losses = train(DistributedDataParallel(network), share)
    module, x = norms()[0]
    low = SyncNorm().apply(module)
    y = low(x[share].bfloat16())  # as under autocast
    precision = {"dtype": y.dtype == torch.bfloat16, "running_mean": low.running_mean}
    found = {
        "evaluated": {whole: evaluated(whole=whole) for whole in (True, False)},
        "layers": layers,
        "precision": precision,
        "converted": converted,
        "left": left,
        "losses": losses,
        "state": network.state_dict(),
    }
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("ddp")
    spawn(work, args=(str(folder),), nprocs=PROCESSES)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]


def test_low_precision_maps_keep_their_type_and_exact_statistics(found: list[dict[str, Any]]) -> None:
    module, x = norms()[0]
    module(x.bfloat16().float())
    for process in found:
        assert process["precision"]["dtype"]
        torch.testing.assert_close(process["precision"]["running_mean"], module.running_mean, rtol=1e-5, atol=1e-6)


def test_two_halves_are_the_whole_batch(found: list[dict[str, Any]]) -> None:
    for index, (module, x) in enumerate(norms()):
        whole = through(module, x)
        halves = [process["layers"][index] for process in found]
        for name, value in whole.items():
            if name in ("output", "grad", "evaluation"):
                ours = torch.cat([half[name] for half in halves])
            elif name.startswith("grad of"):
                ours = halves[0][name] + halves[1][name]  # DDP's affair: here each has its share
            else:
                assert torch.equal(halves[0][name], halves[1][name])
                ours = halves[0][name]
            assert torch.allclose(ours, value, rtol=1e-5, atol=1e-5), f"{index} {name}"


@pytest.mark.parametrize("whole", [True, False])
def test_each_image_counts_once_to_the_pixel(found: list[dict[str, Any]], whole: bool) -> None:
    confusion, names = evaluated(whole=whole)
    assert names == [str(index) for index in range(7)]
    labelled = sum(int((Uneven("val")[index].mask >= 0).sum()) for index in range(7))
    assert not whole or int(confusion.sum()) == labelled
    for rank, process in enumerate(found):
        theirs, seen = process["evaluated"][whole]
        assert seen == names[rank::PROCESSES]
        assert torch.equal(theirs, confusion)


def test_every_norm_is_synchronised(found: list[dict[str, Any]]) -> None:
    network = model()
    count = sum(isinstance(module, _BatchNorm) for module in network.modules())
    within = sum(isinstance(arm[0].norm, _BatchNorm) for arm in network.upsample.arms)  # type: ignore[union-attr]
    # ResNet-18: 20. JPU: 3 embeddings, 4 arms of two each. Encoding: squeeze, project, codewords. Auxiliary head: 1.
    assert (count, within) == (20 + 3 + 8 + 3 + 1, 4)
    for process in found:
        assert (process["converted"], process["left"]) == (count, 0)


def test_training_on_two_processes_is_that_on_one(found: list[dict[str, Any]]) -> None:
    network = model()
    losses = train(network, slice(0, 4))
    assert losses[0] != pytest.approx(losses[-1], rel=1e-3)  # something is learned
    together = np.mean([process["losses"] for process in found], axis=0)
    assert together.tolist() == pytest.approx(losses, rel=1e-6)  # the presence term is in single precision
    for name, value in network.state_dict().items():
        torch.testing.assert_close(found[0]["state"][name], value, rtol=1e-6, atol=1e-9)
        assert torch.equal(found[0]["state"][name], found[1]["state"][name]), name


def test_conversion_keeps_names_and_mode(found: list[dict[str, Any]]) -> None:
    assert list(found[0]["state"]) == list(model().state_dict())


def test_without_processes_it_is_torchs_own() -> None:
    module = SyncNorm().apply(nn.Sequential(nn.BatchNorm2d(3)))
    assert type(module[0]) is nn.SyncBatchNorm  # type: ignore[index]


def test_train_script(tmp_path: Path, data_dir: Path) -> None:
    overrides = (*TINY, *DDP, f"paths.data_dir={data_dir}", f"hydra.run.dir={tmp_path}/run")
    done = start("train.py", *overrides, cwd=tmp_path).check()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert (results["epochs"], results["steps"]) == (1, 2)
    assert done.out.count("best checkpoint:") == 1
    assert done.out.count("epoch 1/1  validated") == 1
    # Of the process that the user started, not of its child.
    provenance = json.loads((tmp_path / "run/provenance.json").read_text())
    assert "ddp_process" not in provenance["command"]
    assert fastfcn.load_model(results["best_checkpoint"]).num_classes == 11
    assert "Warning" not in done.err
    assert "sync_dist" not in done.err


def test_figures_are_those_of_one_process(tmp_path: Path, data_dir: Path, best: Path, run_dir: Path) -> None:
    overrides = (*DDP, f"ckpt_path={best}", f"hydra.run.dir={tmp_path}")
    start("eval.py", *overrides).check()
    counted = json.loads((tmp_path / "evaluation.json").read_text())
    assert [len(counted["images"]), sum(map(sum, counted["confusion"]))] == [4, 4 * 64 * 64]  # of both processes
    ours, theirs = (json.loads((folder / "results.json").read_text())["test"] for folder in (tmp_path, run_dir))
    for each in ("IoU", "class_boundary_IoU"):
        assert ours.pop(each) == pytest.approx(theirs.pop(each), rel=1e-6)
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_mistake_of_one_process_ends_both(tmp_path: Path, make_folder: FolderMaker) -> None:
    root = make_folder("tiny", ("sky", "road"))
    path = root / "masks/train/2.png"
    mask = np.array(Image.open(path))
    mask[3, 4] = 99
    Image.fromarray(mask).save(path)
    small = [override for override in TINY if not override.startswith(("data.dataset", "trainer="))]
    overrides = (*small, *DDP, "data=folder", f"data.dataset.root={root}", "data.crop_size=64", "data.num_workers=0")
    done = start("train.py", *overrides, f"hydra.run.dir={tmp_path}/run")
    assert done.code not in (0, 1)
    assert "Traceback" not in done.out + done.err
    assert len([line for line in done.err.splitlines() if line.startswith("error: ") and str(path) in line]) == 1
    assert not (tmp_path / "run/results.json").exists()


def test_samples_that_any_process_skipped_are_reported(tmp_path: Path, make_folder: FolderMaker) -> None:
    root = make_folder("tiny", ("sky", "road"))
    damaged = [root / "images/val" / f"{index}.png" for index in range(PROCESSES)]  # one for each process
    for path in damaged:
        path.write_bytes(path.read_bytes()[:200])
    small = [override for override in TINY if not override.startswith(("data.dataset", "trainer="))]
    data = ("data=folder", f"data.dataset.root={root}", "data.on_bad_sample=skip", "data.num_workers=0")
    start("train.py", *small, *DDP, *data, f"hydra.run.dir={tmp_path}/run").check()
    skipped = json.loads((tmp_path / "run/results.json").read_text())["skipped"]
    assert [path.name in sentence for path, sentence in zip(damaged, skipped["val"], strict=True)] == [True, True]
