"""The switches of fast inference, and the network that they make."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fastfcn.errors import UserError
from fastfcn.models.fastfcn import FastFCN
from fastfcn.models.layers import full_precision
from fastfcn.optimize import rewriting
from fastfcn.optimize.folding import fold_batch_norms
from fastfcn.optimize.running import Runner
from fastfcn.optimize.winograd import F2, F4
from fastfcn.types import SegmentationOutput

#: Number types of the optimised network.
Dtype = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Optimize:
    """Rewrites a trained network for speed; each switch stands for itself.

    The logits agree with the network's own to 1e-4 of the largest in float32. In bfloat16 they are rounded, and the
    classes agree on 99.5% of the pixels.

    Attributes:
        drop_branches: Leave out what no logit depends on: the auxiliary head and the presence output.
        fold_bn: Fold BatchNorm into the convolution before it.
        commute: Do a 1x1 convolution before the bilinear resize in front of it, where nothing stands between.
        depthwise: Sum nine shifted maps instead of a dilated depthwise convolution; only with `compile`, which makes
            one loop of it.
        winograd: 3x3 convolutions of 256 channels and more by Winograd's minimal filtering, 4 times fewer
            multiplications in float32 and 2.25 times in bfloat16; only on a CPU, for a GPU's library chooses itself.
        onednn: Multiply matrices in float32 by oneDNN, Winograd's and those of 1x1 convolutions, where torch would call
            another library that is slower on some processors; only on a CPU.
        channels_last: Keep images, weights and maps in NHWC memory.
        dtype: `float32`, `bfloat16`, or `auto`: bfloat16 where the chip multiplies in it. The encoding layer, the gate
            behind it, and the classifier stay in float32.
        compile: torch.compile for each shape of images that comes again, on a CPU with frozen weights; needs a C++
            compiler.
        cuda_graphs: On a GPU, replay each shape's kernels as one CUDA graph.
        autotune: Let the compiler time several kernels for each step; compiling then takes minutes.

    Raises:
        UserError: `dtype` is none of the three.
    """

    drop_branches: bool = True
    fold_bn: bool = True
    commute: bool = True
    depthwise: bool = True
    winograd: bool = True
    onednn: bool = True
    channels_last: bool = True
    dtype: Dtype = "auto"
    compile: bool = True
    cuda_graphs: bool = True
    autotune: bool = False

    def __post_init__(self) -> None:
        """Refuse a number type that does not exist."""
        if self.dtype not in ("auto", "float32", "bfloat16"):
            raise UserError(f"optimize.dtype={self.dtype}: choose auto, float32 or bfloat16.")

    def __call__(self, model: FastFCN, *, full_size: bool = True) -> Optimized:
        """Rewrite a copy of a network; the network itself stays as it is.

        Args:
            model: on the device where the copy is to run.
            full_size: Whether the copy's logits have the size of the image, or stay at the head's resolution.

        Raises:
            UserError: `compile` is wanted and there is no C++ compiler.
        """
        with torch.inference_mode(mode=False), torch.no_grad():
            return Optimized(copy.deepcopy(model).eval().requires_grad_(False), self, full_size=full_size)

    def wanted(self, on: bool) -> Optimize | None:
        """These switches where `inference.optimize` is on, else None.

        Raises:
            UserError: it is off and a switch was set, which would change nothing.
        """
        default = asdict(Optimize())
        changed = [f"optimize.{key}={value}" for key, value in asdict(self).items() if value != default[key]]
        changed = [item.replace("True", "true").replace("False", "false") for item in changed]  # as they were written
        if changed and not on:
            raise UserError(f"{changed[0]} changes nothing without inference.optimize=true: add it.")
        return self if on else None


class Optimized:
    """A rewritten network: image -> SegmentationOutput with logits alone, in float32.

    Args:
        model: a copy, in evaluation mode; it is changed in place.
        switches: how.
        full_size: Whether the logits have the size of the image, or stay at the head's resolution.

    Attributes:
        network: what runs, image -> logits.
        applied: What was done, for the results beside which it stands.
    """

    def __init__(self, model: FastFCN, switches: Optimize, *, full_size: bool = True) -> None:
        device = next(model.parameters()).device
        dtype = _chosen(switches.dtype, device)
        on_cpu, compiled = device.type == "cpu", switches.compile
        model.float()
        if switches.drop_branches:
            rewriting.drop_dead_branches(model)
        folded = fold_batch_norms(model) if switches.fold_bn else 0
        if switches.commute:
            rewriting.convolve_before_resize(model)
        if switches.depthwise and compiled:
            rewriting.shift_depthwise(model)
        if switches.winograd and on_cpu:
            rewriting.filter_minimally(model, F4 if dtype == torch.float32 else F2, onednn=switches.onednn)
        if dtype == torch.bfloat16:
            rewriting.to_half(model, dtype)
        if switches.onednn and on_cpu and not compiled:  # the compiler makes such products itself
            rewriting.multiply_pointwise(model)
        self.layout = torch.channels_last if switches.channels_last else torch.contiguous_format
        self.dtype = dtype
        self.network = Logits(model.to(memory_format=self.layout), full_size=full_size)
        self.run = Runner(self.network, compiled=compiled, cuda_graphs=switches.cuda_graphs, autotune=switches.autotune)
        self.applied: dict[str, Any] = {
            **asdict(switches),
            "fold_bn": folded,
            "depthwise": switches.depthwise and compiled,
            "winograd": switches.winograd and on_cpu,
            "onednn": switches.onednn and on_cpu,
            "dtype": str(dtype).removeprefix("torch."),
            "cuda_graphs": self.run.cuda_graphs,
        }

    def __call__(self, image: Tensor) -> SegmentationOutput:
        """(B, 3, H, W), normalised, of any number type and layout -> logits (B, C, H, W) float32."""
        with torch.no_grad(), full_precision(image):
            return SegmentationOutput(self.run(image.to(self.dtype).contiguous(memory_format=self.layout)))


class Logits(nn.Module):
    """A network without its other outputs.

    Args:
        model: image -> SegmentationOutput.
        full_size: Whether the logits have the size of the image.
    """

    def __init__(self, model: FastFCN, *, full_size: bool) -> None:
        super().__init__()
        self.model = model
        self.full_size = full_size

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, C, H, W) float32."""
        output: SegmentationOutput = self.model(image, full_size=self.full_size)
        return output.logits.float()


def _chosen(dtype: Dtype, device: torch.device) -> torch.dtype:
    """The number type; `auto` is bfloat16 where the device multiplies matrices in it."""
    if dtype != "auto":
        return torch.bfloat16 if dtype == "bfloat16" else torch.float32
    if device.type == "cuda":
        with torch.cuda.device(device):
            able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if able else torch.float32
