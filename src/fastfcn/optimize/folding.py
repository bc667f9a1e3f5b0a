"""BatchNorm folded into the convolution before it, found by the flow of the data and not by names."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

#: Side of the image that the network is followed with; every level of the pyramid has several positions in it.
SIDE = 224


def fold_batch_norms(model: nn.Module) -> int:
    """Fold, in place, each BatchNorm that reads nothing but a convolution which nothing else reads.

    ``y = g (w * x - m) / s + b`` is a convolution by ``w g / s`` with the bias ``b - m g / s``. Which norm follows
    which convolution is seen in a forward pass on the meta device, which computes nothing, so any module will do.

    Args:
        model: in evaluation mode.

    Returns:
        How many were folded.
    """
    shadow = copy.deepcopy(model).to("meta")
    flow = _Flow(shadow)
    with flow, torch.no_grad():
        output = shadow(torch.empty(1, 3, *_size(model), device="meta"))
    pairs = flow.pairs(output)
    for conv_name, norm_name in pairs:
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        model.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
        # timm's norms hold the activation behind them.
        behind = [getattr(norm, name) for name in ("drop", "act") if isinstance(getattr(norm, name, None), nn.Module)]
        model.set_submodule(norm_name, nn.Sequential(*behind) if behind else nn.Identity())
    return len(pairs)


def _size(model: nn.Module) -> tuple[int, int]:
    """A size that the model takes; Swin and its like take one."""
    backbone = getattr(model, "backbone", None)
    facts: Mapping[str, Any] = getattr(getattr(backbone, "net", None), "default_cfg", None) or {}
    height, width = tuple(facts.get("input_size", (3, SIDE, SIDE)))[-2:]
    return int(height), int(width)


class _Flow(TorchFunctionMode):
    """Writes down which convolution's output is read by which functions."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.convs = {id(m.weight): name for name, m in model.named_modules() if type(m) is nn.Conv2d}
        self.norms = {
            id(m.running_mean): name
            for name, m in model.named_modules()
            if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None and _foldable(m)
        }
        self.made: dict[int, str] = {}  # by the id of a tensor, the convolution that made it
        self.readers: dict[int, list[str | None]] = {}  # and who reads it: a norm, or None for anything else
        self.calls: Counter[str] = Counter()
        self.alive: list[Tensor] = []  # an id names one tensor as long as that lives

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, dict(kwargs))) if isinstance(leaf, Tensor)]
        norm = None
        if func in (F.batch_norm, torch.batch_norm):
            norm = next((self.norms[id(t)] for t in tensors if id(t) in self.norms), None)
            if norm is not None:
                self.calls[norm] += 1
        if getattr(func, "__name__", "") not in ("__get__", "dim", "size"):  # which ask for no values
            for tensor in tensors:
                if id(tensor) in self.made:
                    self.readers[id(tensor)].append(norm)
        result = func(*args, **kwargs)
        if func in (F.conv2d, torch.conv2d):
            conv = next((self.convs[id(t)] for t in tensors if id(t) in self.convs), None)
            if conv is not None:
                self.calls[conv] += 1
                self.made[id(result)] = conv
                self.readers[id(result)] = []
                self.alive.append(result)
        return result

    def pairs(self, output: object) -> list[tuple[str, str]]:
        """Names of the convolutions and norms to fold."""
        given = {id(leaf) for leaf in tree_leaves(output) if isinstance(leaf, Tensor)}
        found = []
        for tensor, conv in self.made.items():
            readers = self.readers[tensor]
            if len(readers) == 1 and readers[0] is not None and tensor not in given:
                norm = readers[0]
                if self.calls[conv] == 1 and self.calls[norm] == 1:
                    found.append((conv, norm))
        return found


def _foldable(norm: nn.BatchNorm2d) -> bool:
    """Whether it is a plain BatchNorm, or timm's with an activation; of others nothing is known."""
    return type(norm) is nn.BatchNorm2d or type(norm).__name__ == "BatchNormAct2d"
