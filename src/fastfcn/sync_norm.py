"""BatchNorm over all processes of a DDP run, on GPUs and on CPUs."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; gradients cross the processes by the same sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Any shape, the same in all processes."""
        return SumOverProcesses._sum(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Every process's x has a part in every process's sum."""
        return SumOverProcesses._sum(grad)

    @staticmethod
    def _sum(x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


class CPUSyncBatchNorm(_BatchNorm):
    """What torch's SyncBatchNorm does, by gloo on a CPU.

    torch's own refuses CPU tensors, and DDP on a CPU refuses a model that holds one.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape, normalised by the statistics of all processes in training."""
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            y: Tensor = super().forward(x)
            return y
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1, *([1] * (x.ndim - 2))]
        dtype = x.dtype
        x = x.to(torch.promote_types(dtype, torch.float32))  # sums of many low-precision values lose their end
        local_count = x.new_full((1,), x.numel() / x.shape[1])
        summed: Tensor = SumOverProcesses.apply(torch.cat([x.sum(axes), local_count]))
        count = summed[-1].detach()
        mean = summed[:-1] / count
        centred = x - mean.view(shape)
        var: Tensor = SumOverProcesses.apply(centred.square().sum(axes)) / count
        self._track(mean.detach(), var.detach() * count / (count - 1))
        y = centred * torch.rsqrt(var + self.eps).view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Take maps and vectors alike."""

    def _track(self, mean: Tensor, unbiased_var: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(unbiased_var, momentum)


class SyncNorm(TorchSyncBatchNorm):
    """Lightning's plugin that makes every BatchNorm of the model synchronised, inside JPU's separable convolutions too.

    The original code left those unsynchronised.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Convert every BatchNorm; parameters, buffers and their names stay."""
        if not (dist.is_initialized() and dist.get_backend() == "gloo"):
            converted: nn.Module = super().apply(model)
            return converted
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.__class__ = CPUSyncBatchNorm
        return model
