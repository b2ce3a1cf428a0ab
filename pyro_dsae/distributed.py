"""Several processes that train one model, each on its share of every batch.

Together they compute what one process computes at the same batch size, up to rounding:
DistributedDataParallel averages the gradients, and :meth:`World.whole_batch` does the same for the
two things that depend on the rest of the batch, batch norm and the random numbers. Not so what an
objective makes of a batch as a whole, such as free bits: that is made of each process's share.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from pyro_dsae.run_folder import TrainingError


@dataclass(frozen=True)
class World:
    """The processes of a training; by itself, the only one.

    Args:
        rank: number of this process; the first, 0, writes all files.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> World:
        """That of torch.distributed, where it was initialised."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def share(self, rows: np.ndarray) -> np.ndarray:
        """What this process takes of the rows of a batch; all shares together are the batch."""
        return np.array_split(rows, self.size)[self.rank]

    def wrap(self, loss: nn.Module, idle: bool) -> nn.Module:
        """A module with the same loss, whose gradients are the mean over the processes.

        Without ``idle`` all parameters have to have a gradient at each step.
        """
        if self.size == 1:
            return loss
        # Batch norm's statistics are those of the whole batch, hence equal already. Gradients lie
        # where they travel from, and are not copied.
        return DistributedDataParallel(
            loss,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            find_unused_parameters=idle,
        )

    def whole_batch(self, sequences: int) -> Any:
        """A context in which a share of a batch of so many sequences is computed as the batch is.

        See :class:`_WholeBatch`.
        """
        if self.size == 1:
            return nullcontext()
        return _WholeBatch(self.share(np.arange(sequences)), sequences)

    def sum(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The sums over the processes of tensors that all of them have."""
        summed = {name: value.detach().clone() for name, value in values.items()}
        if self.size > 1:
            for value in summed.values():
                dist.all_reduce(value)
        return summed

    def largest(self, *values: float) -> list[float]:
        """The largest of each value over the processes. No device waits for it."""
        if self.size == 1:
            return list(values)
        agreed = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(agreed, dist.ReduceOp.MAX)
        return agreed.tolist()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Raises TrainingError, which says what to do, where another process is lost."""
        try:
            yield
        except RuntimeError as error:
            lost = isinstance(error, dist.DistError) or "gloo" in str(error)
            if self.size == 1 or not lost:
                raise
            raise TrainingError(
                f"process {self.rank} of {self.size} lost another one, so the training ends; the "
                "cause is above or below. Go on from the last checkpoint with --resume"
            ) from error


ALONE = World()


def own_device(device: torch.device) -> torch.device:
    """``device``, or where that is any CUDA device, the one for this process of torchrun's."""
    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Take part in the training that torchrun started on several processes, if it did.

    Gradients travel by NCCL between CUDA devices and else by gloo, what the hosts agree on by gloo.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield World()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield World.here()
    finally:
        dist.destroy_process_group()


_IN_PLACE = (torch.Tensor.normal_, torch.Tensor.uniform_)
_OF_A_SHAPE = (torch.rand, torch.randn)
_LIKE = (torch.rand_like, torch.randn_like)
_OF_THE_BATCH = {F.batch_norm, *_IN_PLACE, *_OF_A_SHAPE, *_LIKE}


class _WholeBatch(TorchFunctionMode):
    """Batch norm and random numbers as if this process's rows had the whole batch around them.

    Every process draws for the whole batch from the same seed and keeps its own rows. That holds
    for a tensor whose first axis is this process's sequences, made by ``rand``, ``randn``, their
    ``_like``, ``normal_`` or ``uniform_``, which is all that this package and the normal of Pyro
    use. Other random functions, and those with a generator of their own, draw the same for every
    process.

    Args:
        rows: the numbers of this process's sequences in the batch, consecutive.
        sequences: how many the batch has.
    """

    def __init__(self, rows: np.ndarray, sequences: int) -> None:
        super().__init__()
        self.rows, self.sequences = slice(int(rows[0]), int(rows[-1]) + 1), sequences
        self.own = len(rows)

    def __torch_function__(
        self, function: Callable, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        own_generator = kwargs.get("generator") is not None
        if function not in _OF_THE_BATCH or own_generator:  # the first: nearly all of a step
            return function(*args, **kwargs)
        if function is F.batch_norm:
            return _batch_norm(*args, **kwargs)
        if function in _IN_PLACE:
            kept, *how = args
            if self._has_own_rows(kept.shape):
                whole = kept.new_empty(self.sequences, *kept.shape[1:])
                return kept.copy_(function(whole, *how, **kwargs)[self.rows])
        if function in _OF_A_SHAPE:
            shape = args if isinstance(args[0], int) else tuple(args[0])
            if self._has_own_rows(shape):
                return function(self.sequences, *shape[1:], **kwargs)[self.rows]
        if function in _LIKE and self._has_own_rows(args[0].shape):
            whole = args[0].new_empty(self.sequences, *args[0].shape[1:])
            return function(whole, **kwargs)[self.rows]
        return function(*args, **kwargs)

    def _has_own_rows(self, shape: tuple[int, ...]) -> bool:
        return len(shape) > 0 and shape[0] == self.own


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``torch.nn.functional.batch_norm``, in training over the x of all processes."""
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    y, mean, variance, count = _BatchNorm.apply(x, weight, bias, eps)
    if running_mean is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean), momentum)
            unbiased = variance * count / (count - 1)
            running_var.lerp_(unbiased.to(running_var), momentum)
    return y


class _BatchNorm(torch.autograd.Function):
    """x (*, C, ...) normalised by the statistics of all processes.

    torch.nn.SyncBatchNorm is for CUDA alone. Here torch's own kernels normalise and sum, and only
    the sums of each channel travel: once forward, and once backward since every x is in them.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        channels, count = x.shape[1], x.numel() // x.shape[1]
        precise = torch.promote_types(x.dtype, torch.float32)
        mean = x.new_zeros(channels, dtype=precise)
        variance = torch.zeros_like(mean)
        torch.batch_norm_update_stats(x, mean, variance, 1.0)  # momentum 1: those of x
        mean, variance = mean.double(), variance.double() * (count - 1) / count
        counts = torch.full_like(mean, count)
        moments = torch.stack([mean, variance + mean**2, torch.ones_like(mean)]) * counts
        dist.all_reduce(moments)
        whole = moments[2, 0]
        mean, variance = moments[0] / whole, moments[1] / whole
        variance = (variance - mean**2).clamp_min(0)
        statistics = mean.to(precise), variance.to(precise)
        ctx.save_for_backward(x, weight, *statistics, whole)
        ctx.eps = eps
        y = torch.native_batch_norm(x, weight, bias, *statistics, False, 0.0, eps)[0]
        ctx.mark_non_differentiable(mean, variance, whole)
        return y, mean, variance, whole

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, variance, whole = ctx.saved_tensors
        scale = torch.ones_like(mean) if weight is None else weight
        inverse = torch.rsqrt(variance + ctx.eps)
        dx, d_weight, d_bias = torch.ops.aten.native_batch_norm_backward(
            dy, x, scale, mean, variance, mean, inverse, False, ctx.eps, [True, True, True]
        )  # with the statistics held fixed: dx is scale * inverse * dy
        sums = torch.stack([d_weight, d_bias]).double()
        dist.all_reduce(sums)
        # Less their means over the whole batch: of dy * normalised x, times that x, and of dy.
        slope, shift = -scale * inverse * (sums / whole).to(mean)
        means = torch.native_batch_norm(x, slope, shift, mean, variance, False, 0.0, ctx.eps)[0]
        needed = weight is not None
        return dx.add_(means), d_weight if needed else None, d_bias if needed else None, None
