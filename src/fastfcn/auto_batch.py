"""What a training does where its memory does not suffice: it makes its batches in parts, or says what to change."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import override

from fastfcn.agreement import Agreed
from fastfcn.errors import UserError
from fastfcn.micro_batches import parts
from fastfcn.sync_norm import CPUSyncBatchNorm
from fastfcn.types import Batch
from fastfcn.whole_files import write_text

#: How errors of too little memory read that have no type of their own: of a CPU, and of libraries on a GPU.
_WORDS = (
    "out of memory",
    "DefaultCPUAllocator: can't allocate",
    "DefaultCPUAllocator: not enough memory",
    "ALLOC_FAILED",
)

#: Where it is kept that a part was still too large.
_FILE = "auto_batch.json"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or (isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS))


class AutoBatch(Callback):
    """Finds how many images of a batch fit into the memory at once, and has each batch made in parts of so many.

    Before the first step each process tries forward and backward pass on a part of that step's batch, by itself, and
    halves the part until it fits; the smallest part of all processes counts for all. The batch stays what it is: its
    images, its loss, the steps of an epoch and the learning rate. But each part is normalised by its own statistics
    (under DDP those of the processes' parts together), and dropout draws for each part. The checkpoint keeps the
    number, so that a run that goes on is what it would have been.

    Where the memory does not suffice later all the same (other programs on the GPU), the run ends, and ``resume=auto``
    goes on with parts of half the size.

    Args:
        enabled: else nothing is tried; the callback then only knows where a training was when memory ran out.
        directory: of the run.
    """

    def __init__(self, *, directory: str, enabled: bool = False) -> None:
        self.enabled = enabled
        self.file = Path(directory) / _FILE
        #: Images at once in each process; None where that is not known yet.
        self.images: int | None = None
        #: What was done when an exception ended it: train, validate, test.
        self.stage = "train"
        self._tried = False

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"images": self.images}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.images = state_dict["images"]

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if not self.enabled or self._tried:
            return
        self._tried = True
        known = [self.images, self._remembered(), len(batch["mask"])]
        images = min(number for number in known if number is not None)
        while images and not fits(trainer, pl_module, batch, images):
            images = -(-images // 2) if images > 1 else 0
        agreed = -Agreed(torch.tensor(-images, device=trainer.strategy.root_device)).read()
        if not agreed:
            raise UserError(f"auto_batch=true: not even one image fits. {sentence(trainer, 'train', at_once=1)}")
        if agreed < len(batch["mask"]) and trainer.is_global_zero and agreed != self.images:
            count = len(parts(batch, agreed))
            print(f"each batch is made in {count} parts, of at most {agreed} images per process", flush=True)
        self.images = agreed
        pl_module.images_at_once = agreed if agreed < len(batch["mask"]) else None  # type: ignore[assignment]

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.stage = str(getattr(trainer.state.stage, "value", "train"))
        smaller = self.enabled and self.images is not None and self.images > 1
        if self.stage == "train" and smaller and is_out_of_memory(exception):
            assert self.images is not None
            write_text(self.file, json.dumps({"images": -(-self.images // 2)}) + "\n")

    def _remembered(self) -> int | None:
        """What a run before in this directory found too much, halved."""
        try:
            return max(1, int(json.loads(self.file.read_text(encoding="utf-8"))["images"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.file} cannot be read ({error}): remove it.") from error


def fits(trainer: pl.Trainer, module: Any, batch: Batch, images: int) -> bool:
    """Try the first images of a batch, forward and backward, without the other processes and without leaving a trace.

    Args:
        trainer: of the training.
        module: of the training; its gradients are None before and after.
        batch: on the device.
        images: how many.
    """
    device = batch["image"].device
    buffers = [(value, value.detach().clone()) for value in module.buffers()]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            reserve = _missing_state(trainer, device)
            with trainer.precision_plugin.train_step_context(), _alone(module):
                terms = module.loss_terms(parts(batch, images)[0], batch)
            torch.stack(list(terms.values())).sum().backward()
            del reserve
            return True
        except (RuntimeError, MemoryError, ValueError) as error:
            # Of a part of one image a globally pooled map cannot be normalised: none smaller than the one before.
            if not is_out_of_memory(error) and "than 1 value per channel" not in _whole_text(error):
                raise
            return False
        finally:
            module.zero_grad(set_to_none=True)
            for value, before in buffers:
                value.copy_(before)
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()


def _whole_text(error: BaseException) -> str:
    return f"{error} {error.__cause__}"


def _missing_state(trainer: pl.Trainer, device: torch.device) -> list[Tensor]:
    """Memory for what the optimizer makes at its first step: a momentum of each parameter."""
    return [
        torch.empty_like(parameter, device=device)
        for optimizer in trainer.optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
        if group.get("momentum") and parameter not in optimizer.state
    ]


class _Alone(_BatchNorm):
    """A synchronised BatchNorm by itself."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Take maps and vectors alike."""


@contextmanager
def _alone(module: Any) -> Iterator[None]:
    """Let a module's forward pass and loss ask nothing of other processes, which may try another number of images."""
    norms: list[tuple[nn.Module, type]] = [
        (norm, type(norm)) for norm in module.modules() if isinstance(norm, CPUSyncBatchNorm | nn.SyncBatchNorm)
    ]
    for norm, _ in norms:
        norm.__class__ = _Alone
    module.loss.eval()
    try:
        yield
    finally:
        module.loss.train()
        for norm, kind in norms:
            norm.__class__ = kind


@contextmanager
def explained(trainer: pl.Trainer, stage: str) -> Iterator[None]:
    """Tell it in a sentence where memory does not suffice for a stage: validate or test."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if (sentence := told(error, trainer, stage)) is not None:
            raise sentence from error
        raise


def told(error: BaseException, trainer: pl.Trainer, stage: str | None = None) -> UserError | None:
    """The sentence for a run that memory has ended; None for any other error.

    Args:
        error: that has ended it.
        trainer: of the run.
        stage: train, validate or test; None is where the callback of a training has seen it.
    """
    if not is_out_of_memory(error):
        return None
    callback = next((each for each in trainer.callbacks if isinstance(each, AutoBatch)), None)  # type: ignore[attr-defined]
    if stage is None:
        stage = callback.stage if callback is not None else "train"
    at_once = callback.images if callback is not None and callback.enabled else None
    again = ""
    if stage == "train" and at_once is not None and at_once > 1:
        again = " resume=auto goes on with half of that at a time."
    return UserError(f"Out of memory. {sentence(trainer, stage, at_once=at_once)}{again}")


def sentence(trainer: pl.Trainer, stage: str, *, at_once: int | None) -> str:
    """What filled the memory, and the settings to change.

    Args:
        trainer: of the run.
        stage: train, validate or test.
        at_once: images of a process at a time; None is its whole batch.
    """
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    batch_size, crop, device = data.batch_size, data.crop_size, trainer.strategy.root_device
    local = batch_size // trainer.world_size
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "the host"
    if stage != "train":
        return (
            f"The evaluation ({stage}) has filled the memory of {where}, at data.crop_size={crop}: lower "
            "data.eval_batch_size (1), evaluate in windows (inference=slide) or on the CPU (src/eval.py)."
        )
    shares = f", {local} per process" if trainer.world_size > 1 else ""
    parted = f", {at_once} at a time" if at_once is not None and at_once < local else ""
    offer = "" if at_once is not None else "auto_batch=true makes the same batch in parts that fit; or "
    return (
        f"Training steps of data.batch_size={batch_size} images{shares}{parted}, data.crop_size={crop}, "
        f"trainer.precision={trainer.precision} fill the memory of {where}: {offer}activation_checkpointing=true, "
        f"trainer.precision=bf16-mixed, data.batch_size={max(1, batch_size // 2)} with "
        f"trainer.accumulate_grad_batches={2 * trainer.accumulate_grad_batches}, or a smaller data.crop_size."
    )
