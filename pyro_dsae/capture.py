"""A step of training as one CUDA graph: the GPU runs its kernels and never waits for Python.

A step is hundreds of small kernels around a few large ones, and launching them takes longer than
running them. This is PyTorch's recipe for capturing a whole step, of which the warm-up are the
first steps of the training itself, so the numbers are those of the same steps without a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyro_dsae.run_folder import TrainingError

WARM_UP = 3  # steps before the capture, in which cuDNN chooses its algorithms and Adam its state


class Captured:
    """``step``, replayed from a CUDA graph whenever it gets a whole batch.

    Args:
        step: from a batch x (B, T, C, H, W), and what else is the same for every whole batch, to
            tensors, by whatever side effects on tensors that stay where they are. It reads no value
            on the host.
        sequences: B of a whole batch; a smaller one runs as it is.
    """

    def __init__(self, step: Callable[..., dict[str, Tensor]], sequences: int) -> None:
        self.step, self.sequences = step, sequences
        self.warm = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, x: Tensor, *same: Any) -> dict[str, Tensor]:
        """The tensors of one step; those of a replay change with the next one."""
        if len(x) != self.sequences:
            return self.step(x, *same)
        if self.warm < WARM_UP:
            self.warm += 1
            return self._aside(x, *same)
        if self.graph is None:
            self._capture(x, *same)
        self.x.copy_(x)
        self.graph.replay()
        return dict(self.outputs)  # the caller's to change

    def _aside(self, x: Tensor, *same: Any) -> dict[str, Tensor]:
        """A step on a stream of its own, as what is captured later has to have run before."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            outputs = self.step(x, *same)
        torch.cuda.current_stream().wait_stream(stream)
        return outputs

    def _capture(self, x: Tensor, *same: Any) -> None:
        self.x = x.clone()
        self.graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self.graph):
                self.outputs = self.step(self.x, *same)  # recorded, not run
        except RuntimeError as error:
            raise TrainingError(
                f"the step cannot be captured in a CUDA graph ({str(error).splitlines()[0]}); "
                "run it without one: --cuda-graph off (cuda_graph='off')"
            ) from error
