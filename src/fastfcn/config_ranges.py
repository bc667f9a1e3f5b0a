"""In what range the numbers of a configuration may lie."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from fastfcn.errors import UserError

#: What a 32-bit whole number holds; sizes and counts beyond it are slips of the keyboard.
LARGEST = 2**31 - 1


class Range(NamedTuple):
    """The numbers from a lowest to a highest one, both included unless said otherwise; never nan.

    Attributes:
        low: the lowest.
        high: the highest.
        open_low: the lowest itself is left out.
        open_high: the highest itself is left out.
    """

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: object) -> bool:
        assert isinstance(value, int | float)
        if not isinstance(value, int) and not math.isfinite(value):
            return False
        above = value > self.low or (value == self.low and not self.open_low)
        return above and (value < self.high or (value == self.high and not self.open_high))

    def words(self, value: float) -> str:
        """What follows "a number" in words, for a value that is out of the range."""
        low = f"above {self.low:g}" if self.open_low else f"of at least {self.low:g}"
        if value > self.low and not math.isfinite(value):
            return f"{low} that is finite"
        if self.high == math.inf or (self.high == LARGEST and value <= LARGEST):
            return low
        return f"{low} and {f'less than {self.high:g}' if self.open_high else f'at most {self.high:.12g}'}"


#: What holds where nothing else is said below: sizes and counts; weights, times and rates.
WHOLE = Range(1, LARGEST)
REAL = Range(0)

_FROM_ZERO = Range(0, LARGEST)
_FROM_MINUS_ONE = Range(-1, LARGEST)
_POSITIVE = Range(0, open_low=True)

#: By the last part of the key, or the last two, in targets of this project and for the keys of the scripts themselves.
OWN: Mapping[str, Range] = {
    "seed": Range(0, 2**32 - 1),
    "lr": _POSITIVE,
    "momentum": Range(0, 1, open_high=True),
    "new_lr_factor": _POSITIVE,
    "layer_decay": Range(0, 1, open_low=True),
    "factors": _POSITIVE,
    "class_weights": REAL,
    "ohem_threshold": Range(0, 1, open_low=True),
    "cat_max_ratio": Range(0, 1, open_low=True),
    "class_crops": Range(0, 1),
    "decay": Range(0, 1, open_high=True),
    "min_delta": REAL,
    "flip": Range(0, 1),
    "val_share": Range(0, 1, open_low=True, open_high=True),
    "agreement": Range(0, 1),
    "blur": Range(0, 1),
    "scale": _POSITIVE,
    "scales": _POSITIVE,
    "num_workers": Range(0, 16 * (os.cpu_count() or 1)),
    "workers": _FROM_ZERO,
    "halo": _FROM_ZERO,
    "alpha": Range(0, 1),
    "processes": _FROM_ZERO,
    "max_bad_samples": _FROM_ZERO,
    "ignore_index": Range(0, 2**16 - 1),
    "ignore_color": Range(0, 255),
    "palette": Range(0, 255),
    "seconds": _POSITIVE,
    "progress.seconds": REAL,
    "draw_predictions.images": _FROM_ZERO,
    "warmup": _FROM_ZERO,
    "retries": _FROM_ZERO,
    "skip": _FROM_ZERO,
    "timeout": _POSITIVE,
    "minutes": _POSITIVE,
    "hours": _POSITIVE,
    "trial": _FROM_ZERO,
    "prune_after": _FROM_ZERO,
    "startup_trials": _FROM_ZERO,
    "port": Range(1, 2**16 - 1),
    "side": Range(32, LARGEST),
    "keep": Range(2, LARGEST),
}

#: By the key, in pytorch_lightning.Trainer.
TRAINER: Mapping[str, Range] = {
    "max_epochs": _FROM_MINUS_ONE,
    "min_epochs": _FROM_ZERO,
    "max_steps": _FROM_MINUS_ONE,
    "min_steps": _FROM_ZERO,
    "num_nodes": WHOLE,
    "accumulate_grad_batches": WHOLE,
    "gradient_clip_val": REAL,
    "check_val_every_n_epoch": WHOLE,
    "num_sanity_val_steps": _FROM_MINUS_ONE,
    "log_every_n_steps": _FROM_ZERO,
    "limit_train_batches": _POSITIVE,
    "limit_val_batches": REAL,
    "limit_test_batches": REAL,
    "overfit_batches": REAL,
    "val_check_interval": _POSITIVE,
    "reload_dataloaders_every_n_epochs": _FROM_ZERO,
}

#: By the key, in pytorch_lightning.callbacks.ModelCheckpoint.
CHECKPOINTS: Mapping[str, Range] = {
    "save_top_k": _FROM_MINUS_ONE,
    "every_n_train_steps": _FROM_ZERO,
    "every_n_epochs": WHOLE,
}

_OF_LIGHTNING: Mapping[str, Mapping[str, Range]] = {
    "pytorch_lightning.Trainer": TRAINER,
    "pytorch_lightning.callbacks.ModelCheckpoint": CHECKPOINTS,
}


#: Values of trainer.precision that no layer that counts in float32 (the encoding layer's, BatchNorm's) goes with.
HALF_WEIGHTS = ("16-true", "bf16-true", "transformer-engine", "transformer-engine-float16")


def range_of(target: str | None, key: str, kind: type) -> Range | None:
    """The range of a number.

    Args:
        target: whose argument it is; None for a script's own key.
        key: as on the command line.
        kind: int or float.

    Returns:
        None where any number will do, as for targets of others.
    """
    *_, group, name = ("", *key.split("."))
    if target is None or target.partition(".")[0] == "fastfcn":
        return OWN.get(f"{group}.{name}", OWN.get(name, WHOLE if kind is int else REAL))
    return _OF_LIGHTNING.get(target, {}).get(name)


def check_trainer(options: Mapping[str, Any], *, timed: bool) -> None:
    """Refuse what Lightning's Trainer takes, but what no training of this project can do.

    Args:
        options: the Trainer's arguments.
        timed: whether a callback keeps the time, beside which Lightning does not hear ``max_time``.

    Raises:
        UserError: such an option; it is named.
    """
    epochs, steps = options.get("max_epochs"), options.get("max_steps", -1)
    if epochs == 0 or steps == 0:
        key = "max_epochs" if epochs == 0 else "max_steps"
        raise UserError(f"trainer.{key}=0 trains nothing: choose at least 1, or fit=false to test alone.")
    if epochs == -1 and steps == -1:
        raise UserError(
            "trainer.max_epochs=-1 has no end, at which the poly schedule arrives at 0: choose at least 1, or "
            "+trainer.max_steps=..."
        )
    if timed and options.get("max_time") is not None:
        raise UserError(
            f"trainer.max_time={options['max_time']} goes unheard beside callbacks.timer: give it as "
            "+callbacks.timer.duration=..."
        )
    _check_devices(options.get("accelerator", "auto"), options.get("devices", "auto"))
    if options.get("use_distributed_sampler"):
        raise UserError(
            "trainer.use_distributed_sampler=true: the data module deals the images to the processes itself, each "
            "exactly once; leave it false."
        )
    if options.get("precision") in HALF_WEIGHTS:
        raise UserError(
            f"trainer.precision={options['precision']} keeps the weights in half precision, in which small steps are "
            "lost: choose bf16-mixed, 16-mixed or 32-true."
        )


def _check_devices(accelerator: object, devices: object) -> None:
    """Refuse GPUs that are not there, which Lightning tells without their keys."""
    import torch  # takes seconds where nothing else has needed it

    here = torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") and not here and not torch.backends.mps.is_available():
        raise UserError(
            f"trainer.accelerator={accelerator}: there is no GPU here that torch {torch.__version__} can use; choose "
            "trainer=default, which takes what the machine has, or trainer=cpu."
        )
    cores = os.cpu_count() or 1
    if accelerator == "cpu" or not here:
        text = "1" if devices == "auto" else str(devices)
        count = int(text) if text.isdigit() else 0
        if not 1 <= count <= cores:
            raise UserError(
                f"trainer.devices={devices}: on a CPU it is the number of processes; this machine has {cores} cores, "
                "choose from 1 to as many."
            )
    elif (isinstance(devices, int) and (devices == 0 or devices > here)) or (
        isinstance(devices, list) and not (devices and all(isinstance(one, int) and 0 <= one < here for one in devices))
    ):
        raise UserError(
            f"trainer.devices={devices}: there are {here} GPUs here; give how many of them, or a list of their numbers "
            f"from 0 to {here - 1}."
        )
