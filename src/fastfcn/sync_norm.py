"""BatchNorm over all processes of a DDP run, on GPUs and on CPUs."""

from __future__ import annotations

import torch
import torch.distributed as dist
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class SyncBatchNorm(nn.SyncBatchNorm):
    """torch's SyncBatchNorm, which refuses CPU tensors, with the same statistics by gloo on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape, normalised by the statistics of all processes in training."""
        together = self.training and dist.is_initialized() and dist.get_world_size() > 1
        if x.device.type != "cpu" or not together:
            y: Tensor = super().forward(x)
            return y
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1, *([1] * (x.ndim - 2))]
        local_count = x.new_full((1,), x.numel() / x.shape[1])
        summed = all_reduce(torch.cat([x.sum(axes), local_count]))  # differentiable: gradients cross processes too
        count = summed[-1].detach()
        mean = summed[:-1] / count
        centred = x - mean.view(shape)
        var = all_reduce(centred.square().sum(axes)) / count
        self._track(mean.detach(), var.detach() * count / (count - 1))
        y = centred * torch.rsqrt(var + self.eps).view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y

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
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        for module in model.modules():
            if type(module) is nn.SyncBatchNorm:
                module.__class__ = SyncBatchNorm
        return model
