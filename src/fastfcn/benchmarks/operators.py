"""What a computation asks of the chip, operator by operator: arithmetic and bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class Operator(NamedTuple):
    """One call of one operator.

    Attributes:
        name: as torch's dispatcher has it, e.g. ``aten.convolution``.
        flops: of convolutions and matrix products, a multiply-add counting as two; 0 for all else.
        bytes: what it must read and write at least: each input once, each output once.
    """

    name: str
    flops: int
    bytes: int


class Shares(NamedTuple):
    """The op-by-op roofline of a computation, seconds.

    Attributes:
        arithmetic: sum over the operators that the matrix rate bounds, of their flops over that rate.
        bytes: sum over all others, of their bytes over the copy rate.
        operators: number of them that do any work.
    """

    arithmetic: float
    bytes: float
    operators: int

    @property
    def total(self) -> float:
        """The shortest time in which these operators can run one after the other at the measured rates."""
        return self.arithmetic + self.bytes


class OperatorCounter(TorchDispatchMode):
    """Records every operator that computes something while it is active; views and empty tensors are none.

    An operator that torch composes of others is counted as those. What ``torch.compile``, a CUDA graph or another
    runtime has fused or hidden is not seen: count the same computation in eager mode.

    Attributes:
        found: the operators in order.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[Operator] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator, and note it."""
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet not in flop_registry:
            with self:
                composed = func.decompose(*args, **kwargs)
            if composed is not NotImplemented:
                return composed
        out = func(*args, **kwargs)
        inputs, outputs = list(_tensors((args, kwargs))), list(_tensors(out))
        if not _views(func, outputs, inputs):
            flops = _flops(packet, args, kwargs, out)
            moved = sum(map(extent, inputs)) + sum(map(extent, outputs))
            if str(packet) in _OVERWRITES:
                moved -= sum(map(extent, outputs))  # the output stands among the inputs, and is not read
            self.found.append(Operator(str(packet), flops, moved))
        return out


def _flops(packet: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    if str(packet) == "mkldnn._linear_pointwise":  # oneDNN's product (fastfcn.models.products), which torch leaves out
        return 2 * int(args[0].numel()) * int(args[1].shape[0])
    if packet not in flop_registry:
        return 0
    if packet is torch.ops.aten.convolution_backward:
        # torch's formula for it (2.15) takes a convolution in groups for a dense one: a depthwise one of 1536 channels
        # would count 1536 times too much. Each of the two gradients takes as many multiplications as the convolution.
        grad_out, x, weight, transposed, wanted = args[0], args[1], args[2], args[7], args[10]
        positions = x.numel() if transposed else grad_out.numel()
        return int(2 * positions * weight[0].numel() * sum(wanted[:2]))
    return int(flop_registry[packet](*args, **kwargs, out_val=out))


def count(call: Callable[[], object]) -> list[Operator]:
    """The operators of one call, made once, without inference mode's shortcuts around the dispatcher."""
    with OperatorCounter() as counter:
        call()
    found: list[Operator] = counter.found
    return found


def roofline(operators: list[Operator], *, flops_per_second: float, bytes_per_second: float) -> Shares:
    """For each operator the larger of its arithmetic time and its byte time, summed by which of the two it is."""
    arithmetic = moving = 0.0
    for operator in operators:
        computing, copying = operator.flops / flops_per_second, operator.bytes / bytes_per_second
        if computing >= copying:
            arithmetic += computing
        else:
            moving += copying
    return Shares(arithmetic, moving, len(operators))


def extent(tensor: Tensor) -> int:
    """Bytes of the elements that a tensor has in memory: what is expanded lies there once."""
    elements = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        elements *= size if stride != 0 else min(size, 1)
    return elements * tensor.element_size()


#: Operators that hand out memory and touch none of it.
_NO_WORK = frozenset(
    {"aten.empty", "aten.empty_like", "aten.new_empty", "aten.empty_strided", "aten.new_empty_strided"}
)

#: Operators in place that do not read what they write to.
_OVERWRITES = frozenset({"aten.copy_", "aten.fill_", "aten.zero_"})


def _views(func: Any, outputs: list[Tensor], inputs: list[Tensor]) -> bool:
    """Whether an operator only looks at memory in another way."""
    if str(func._overloadpacket) in _NO_WORK:
        return True
    # A view's result aliases an argument and the operator writes to none of its arguments.
    aliases = [result.alias_info for result in func._schema.returns]
    if aliases and all(alias is not None and not alias.is_write for alias in aliases):
        return True
    # `detach`, `_reshape_alias` and their like have been seen without an alias in their schema.
    storages = {tensor.untyped_storage()._cdata for tensor in inputs}
    writes = any(
        argument.alias_info is not None and argument.alias_info.is_write for argument in func._schema.arguments
    )
    return not writes and bool(outputs) and all(out.untyped_storage()._cdata in storages for out in outputs)


def _tensors(tree: object) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.layout is torch.strided)
