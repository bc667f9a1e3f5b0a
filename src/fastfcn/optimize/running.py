"""A network compiled for the shapes that come again, and replayed from CUDA graphs on a GPU."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fastfcn import compiler
from fastfcn.errors import UserError

#: Shapes of images that get a compiled form of their own; more would take minutes and memory for little.
MAX_SHAPES = 8

#: The call of a shape from which on it is compiled: where images differ in size, most sizes never come again.
COMPILED_FROM = 2

Forward = Callable[[Tensor], Tensor]


class Runner:
    """Runs a network image -> logits; a shape's second image compiles it for that shape.

    Args:
        network: in evaluation mode, on its device.
        compiled: by torch.compile; on a CPU with the weights frozen into the program.
        cuda_graphs: On a GPU, replay each shape's kernels as one graph.
        autotune: Let the compiler time several kernels for each step and keep the fastest.
    """

    def __init__(self, network: nn.Module, *, compiled: bool, cuda_graphs: bool, autotune: bool) -> None:
        self.network = network
        self.device = next(network.parameters()).device
        self.cuda_graphs = cuda_graphs and self.device.type == "cuda"
        self.calls: Counter[tuple[int, ...]] = Counter()
        self.programs: dict[tuple[int, ...], Forward] = {}
        self.told = False
        self.compiled: Forward | None = None
        if compiled:
            if self.device.type == "cpu":
                compiler.need("optimize.compile=true", otherwise="optimize.compile=false")
            self.compiled = torch.compile(network, dynamic=False)
            self.options = {"freezing": self.device.type == "cpu", "max_autotune": autotune}

    def __call__(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, C, H, W)."""
        shape = tuple(image.shape)
        if shape not in self.programs:
            if self.compiled is None and not self.cuda_graphs:
                return self._plain(image)
            self.calls[shape] += 1
            if self.calls[shape] < COMPILED_FROM:
                return self._plain(image)
            if len(self.programs) == MAX_SHAPES:
                if not self.told:
                    warnings.warn(f"{MAX_SHAPES} shapes of images are compiled, others run uncompiled.", stacklevel=2)
                    self.told = True
                return self._plain(image)
            self.programs[shape] = self._program(image)
        return self.programs[shape](image)

    def _plain(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(image)
        return logits

    def _program(self, image: Tensor) -> Forward:
        forward: Forward = self._plain
        if self.compiled is not None:
            forward = self._compiled
            try:
                forward(image)
            except Exception as error:
                # torch wraps it, and tells in the first line what it was.
                if "CppCompileError" not in f"{type(error).__name__}: {error}".splitlines()[0]:
                    raise
                raise UserError(
                    "the C++ compiler could not build the optimised network: choose optimize.compile=false, or install "
                    "g++ and Python's headers; HYDRA_FULL_ERROR=1 shows what it says."
                ) from error
        return _Graph(forward, image) if self.cuda_graphs else forward

    def _compiled(self, image: Tensor) -> Tensor:
        from torch._dynamo import config as capturing
        from torch._inductor import config as compiling

        assert self.compiled is not None
        # As an option of torch.compile, freezing packs no weights (torch 2.15): it must be set where the compiler runs.
        # Every network has a program for each of its shapes, and torch counts those of all networks together.
        with (
            compiling.patch(self.options),
            capturing.patch(recompile_limit=1000, accumulated_recompile_limit=1000),
        ):
            return self.compiled(image)


class _Graph:
    """The kernels of one forward pass as a CUDA graph: launched at once, on the same memory each time.

    Args:
        forward: what is captured.
        image: an example.
    """

    def __init__(self, forward: Forward, image: Tensor) -> None:
        self.image = image.clone()
        stream = torch.cuda.Stream(image.device)
        stream.wait_stream(torch.cuda.current_stream(image.device))
        with torch.cuda.stream(stream):  # libraries choose their algorithms and take their memory before the capture
            for _ in range(3):
                forward(self.image)
        torch.cuda.current_stream(image.device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits = forward(self.image)

    def __call__(self, image: Tensor) -> Tensor:
        """The same shape as the example."""
        self.image.copy_(image)
        self.graph.replay()
        return self.logits.clone()  # the next replay writes to the same place
