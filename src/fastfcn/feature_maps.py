"""Looking into feature maps: as colours, and what one of them holds of another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastfcn.types import UInt8Array

#: Quantiles of a principal component that become the darkest and the brightest value of its colour channel.
RANGE = (0.01, 0.99)

#: Weight of the ridge in `linear_readout`, relative to the mean variance of a source channel.
RIDGE = 1e-3


def principal_colours(features: Tensor, *, like: Tensor | None = None) -> UInt8Array:
    """Paint a feature map by its three strongest principal components, as red, green and blue.

    Positions whose features are alike get colours that are alike. The colours of two maps can be compared only where
    they have the same components.

    Args:
        features: (C, H, W), or (B, C, H, W) for several maps with the same components.
        like: (C, h, w) or (B, C, h, w): the map whose components and brightness are used; None is `features` itself.

    Returns:
        (H, W, 3) or (B, H, W, 3) uint8.

    Raises:
        ValueError: The two maps differ in the number of their channels.
    """
    reference = features if like is None else like
    if reference.shape[-3] != features.shape[-3]:
        raise ValueError(
            f"a map of {features.shape[-3]} channels cannot be painted like one of {reference.shape[-3]}: give maps "
            "of the same layer."
        )
    known = _positions(reference)
    mean = known.mean(dim=0)
    # The eigenvectors of the covariance; of a sign that does not depend on the machine.
    _, vectors = torch.linalg.eigh((known - mean).T @ (known - mean))
    components = vectors.flip(1)[:, :3]
    components = components * components.gather(0, components.abs().argmax(dim=0, keepdim=True)).sign()
    if components.shape[1] < 3:
        components = F.pad(components, (0, 3 - components.shape[1]))
    levels = torch.tensor(RANGE, dtype=known.dtype)
    low, high = torch.quantile((known - mean) @ components, levels, dim=0)
    projected = ((_positions(features) - mean) @ components - low) / (high - low).clamp(min=1e-12)
    pixels = (255 * projected.clamp(0, 1)).round().reshape(*_channels_last(features).shape[:-1], 3)
    return np.asarray(pixels.numpy(), dtype=np.uint8)


def linear_readout(source: Tensor, target: Tensor) -> nn.Conv2d:
    """The 1x1 convolution that tells a target map from a source map with the least squared error (ridge regression).

    How well it does on other images says how much of the target is in the source, up to a linear map.

    Args:
        source: (B, C, H, W).
        target: (B, D, H, W) of the same images.

    Returns:
        A convolution of C to D channels without gradients.
    """
    assert source.shape[-2:] == target.shape[-2:], "a 1x1 convolution keeps the size"
    x, y = _positions(source), _positions(target)
    x_mean, y_mean = x.mean(dim=0), y.mean(dim=0)
    covariance = (x - x_mean).T @ (x - x_mean) / len(x)
    ridge = RIDGE * covariance.diagonal().mean().clamp(min=1e-12)
    covariance.diagonal().add_(ridge)
    weight = torch.linalg.solve(covariance, (x - x_mean).T @ (y - y_mean) / len(x))  # (C, D)
    readout = nn.Conv2d(x.shape[1], y.shape[1], 1).requires_grad_(False)
    readout.weight.copy_(weight.T[:, :, None, None])
    readout.bias.copy_(y_mean - x_mean @ weight)  # type: ignore[union-attr]
    return readout


def explained(prediction: Tensor, target: Tensor, *, positions: Tensor | None = None) -> float:
    """The share of a target map's variance that a prediction explains (R²): 1 is all of it, 0 as good as the mean.

    Args:
        prediction: (B, D, H, W).
        target: (B, D, H, W).
        positions: (H, W) bool: only these positions count; None is all.
    """
    chosen = torch.ones(target.shape[-2:], dtype=torch.bool) if positions is None else positions
    wanted = target.detach().double().cpu()[..., chosen]
    error = (prediction.detach().double().cpu()[..., chosen] - wanted).square().sum()
    spread = (wanted - wanted.mean(dim=(0, 2), keepdim=True)).square().sum()
    return 1 - float(error / spread)


def touched(module: nn.Module, size: Sequence[int], position: Sequence[int]) -> Tensor:
    """Which positions of its input a convolution reads for one position of its output.

    Args:
        module: from (1, C, *size) to a map of as many axes; where the weights are not 0 it is found by its gradient.
        size: of the input, one number for each axis.
        position: of the output, one number for each axis.

    Returns:
        (*size) bool.
    """
    channels = next(part.in_channels for part in module.modules() if isinstance(part, nn.Conv1d | nn.Conv2d))
    x = torch.ones(1, channels, *size, requires_grad=True)
    (gradient,) = torch.autograd.grad(module(x)[(0, slice(None), *position)].sum(), x)
    found: Tensor = gradient[0].abs().sum(dim=0) > 0
    return found


def _channels_last(features: Tensor) -> Tensor:
    return features.movedim(-3, -1)


def _positions(features: Tensor) -> Tensor:
    """(..., C, H, W) -> (positions, C), on the CPU in double precision."""
    return _channels_last(features).detach().double().cpu().reshape(-1, features.shape[-3])
