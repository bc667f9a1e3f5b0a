"""The recipe's optimizer and schedule (section 4.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from fastfcn.errors import UserError
from fastfcn.parts import OF_THE_BACKBONE, PARTS, parameters_of, written_out

#: Where torch has a kernel for a whole step of SGD.
FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")


def poly(step: int, total_steps: int, *, power: float = 0.9) -> float:
    """The "poly" factor of the learning rate: ``(1 - step / total_steps) ** power``, 0 from the last step on.

    Args:
        step: iterations done.
        total_steps: iterations of the whole training.
        power: 0.9 in the paper.
    """
    return float(max(0.0, 1.0 - step / total_steps) ** power)


@dataclass(frozen=True, kw_only=True)
class SGDPoly:
    """SGD with weight decay on everything, a higher rate off the backbone, and the poly schedule per iteration.

    Attributes:
        lr: of the backbone, for a global batch of ``reference_batch`` images.
        momentum: of SGD.
        weight_decay: on all parameters, norms and biases too, as the original has it.
        new_lr_factor: learning rate of everything but the backbone, relative to it.
        layer_decay: each stage of the backbone, from the last to the stem, has the rate of the one behind it times
            this; c5 has ``lr``. None: all have ``lr``.
        factors: learning rates relative to ``lr`` of parts by name (`fastfcn.parts`), which count before
            ``layer_decay`` and ``new_lr_factor``.
        power: of the schedule.
        reference_batch: the rate is scaled by the global batch over this number; None: it is taken as it stands.
        fused: one kernel for the whole step; None: where torch has it, else a kernel for all parameters per operation.

    Raises:
        UserError: ``factors`` names what is no part.
    """

    lr: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 1e-4
    new_lr_factor: float = 10.0
    layer_decay: float | None = None
    factors: Mapping[str, float] | None = None
    power: float = 0.9
    reference_batch: int | None = 16
    fused: bool | None = None

    def __post_init__(self) -> None:
        written_out(self.factors or (), key="optim.factors")

    def build(
        self, model: nn.Module, *, global_batch: int, total_steps: int, clipped_in_mixed_precision: bool = False
    ) -> tuple[SGD, LambdaLR]:
        """Make the optimizer and its schedule, to be stepped after every optimizer step.

        Args:
            model: its child ``backbone`` gets the plain rate, every other parameter the higher one.
            global_batch: images per optimizer step, over all processes and accumulated batches.
            total_steps: optimizer steps of the whole training.
            clipped_in_mixed_precision: whether gradients are clipped under autocast, which Lightning refuses for a
                fused optimizer.

        Raises:
            UserError: a rate that is not positive, or a fused step where there can be none.
        """
        if self.lr <= 0:
            raise UserError(f"optim.lr={self.lr}: choose a positive learning rate (0.001 for Pascal Context).")
        scale = global_batch / self.reference_batch if self.reference_batch else 1.0
        groups = self._by_part(model, scale) if self.layer_decay or self.factors else self._in_two(model, scale)
        groups = [group for group in groups if group["params"]]  # a frozen backbone leaves none
        fused = self._fused([value for group in groups for value in group["params"]], clipped_in_mixed_precision)
        how = {"fused": fused, "foreach": not fused}
        optimizer = SGD(groups, lr=self.lr * scale, momentum=self.momentum, weight_decay=self.weight_decay, **how)

        def keep_how(loaded: Optimizer) -> None:
            # A checkpoint tells how the run that wrote it made a step; the device and precision of this one decide.
            for group in loaded.param_groups:
                group.update(how)

        optimizer.register_load_state_dict_post_hook(keep_how)
        optimizer.register_load_state_dict_pre_hook(_check_groups)
        return optimizer, LambdaLR(optimizer, lambda step: poly(step, total_steps, power=self.power))

    def _in_two(self, model: nn.Module, scale: float) -> list[dict[str, Any]]:
        """Backbone and all else, as in the paper."""
        old, new = split_parameters(model)
        return [
            {"params": old, "lr": self.lr * scale, "name": "backbone"},
            {"params": new, "lr": self.lr * scale * self.new_lr_factor, "name": "rest"},
        ]

    def _by_part(self, model: nn.Module, scale: float) -> list[dict[str, Any]]:
        """A group for each part that has trainable parameters."""
        key = "optim.factors" if self.factors else "optim.layer_decay"
        factors = dict.fromkeys(PARTS, self.new_lr_factor)
        for depth, part in enumerate(reversed(OF_THE_BACKBONE)):
            factors[part] = (self.layer_decay or 1.0) ** depth
        # The whole backbone first, so that a part of it may be told otherwise.
        for name, factor in sorted((self.factors or {}).items(), key=lambda item: item[0] != "backbone"):
            for part in written_out([name], key=key):
                factors[part] = factor
        whole = not self.layer_decay and not set(self.factors or ()) & set(OF_THE_BACKBONE)
        return [
            {"params": parameters, "lr": self.lr * scale * factors[part], "name": part}
            for part, parameters in parameters_of(model, key=key, whole=whole).items()
        ]

    def _fused(self, parameters: list[nn.Parameter], clipped_in_mixed_precision: bool) -> bool:
        if self.fused and clipped_in_mixed_precision:
            raise UserError(
                "optim.fused=true: a fused step takes no clipped gradients in mixed precision; leave it out, or "
                "trainer.gradient_clip_val."
            )
        possible = all(p.is_floating_point() and p.device.type in FUSED_DEVICES for p in parameters)
        return possible and not clipped_in_mixed_precision if self.fused is None else self.fused


def _check_groups(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Refuse the state of an optimizer of other parameters, of which torch says only that sizes differ."""
    own, theirs = (
        [len(group["params"]) for group in groups] for groups in (optimizer.param_groups, state["param_groups"])
    )
    if own != theirs:
        raise UserError(
            f"The checkpoint's optimizer has {sum(theirs)} parameters in {len(theirs)} groups, this one {sum(own)} in "
            f"{len(own)}: go on with the freeze, optim.layer_decay and optim.factors of then, or begin a training of "
            "its own with its weights by init_from=..."
        )


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trainable parameters of the child ``backbone``, and all others."""

    def trainable(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        return [p for p in parameters if p.requires_grad]

    backbone = trainable(model.get_submodule("backbone").parameters())
    known = {id(p) for p in backbone}
    return backbone, [p for p in trainable(model.parameters()) if id(p) not in known]
