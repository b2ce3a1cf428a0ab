"""The likelihood p(x_t | f, z_t) around the decoder's output, by name.

Its scale is the trade between reconstruction and KL: with a fixed one it is the user's, a learned
one is the model's own root mean square error (Rybkin, Daniilidis & Levine 2021, Simple and
Effective VAE Training with Calibrated Decoders).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn import functional as F


def _on_device(scale: float, loc: Tensor) -> Tensor:
    """The scale as a tensor, filled where ``loc`` lies: a CUDA graph can hold no copy of a host's
    number, which PyTorch's distributions would make of it."""
    return loc.new_full((), scale)


class IsotropicNormal(dist.Normal):
    """A normal with one fixed scale for all values."""

    def __init__(self, loc: Tensor, scale: float) -> None:
        super().__init__(loc, _on_device(scale, loc))
        self.one_scale = scale

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> IsotropicNormal:
        return IsotropicNormal(self.loc.expand(batch_shape), self.one_scale)

    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> dist.Distribution:
        axes = len(self.batch_shape)
        if reinterpreted_batch_ndims is not None:
            axes = reinterpreted_batch_ndims
        return IsotropicFrames(self, axes) if axes else self


class IsotropicFrames(dist.Independent):
    """Independent values of an :class:`IsotropicNormal` as one event.

    The density is that of ``dist.Normal``, from the sum of squares alone: what ``dist.Normal``
    computes once a pixel is as much work as a convolution.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        base, axes = self.base_dist, range(-self.reinterpreted_batch_ndims, 0)
        squares = F.mse_loss(*torch.broadcast_tensors(base.loc, value), reduction="none")
        constant = math.log(base.one_scale) + 0.5 * math.log(2 * math.pi)
        return (
            -0.5 / base.one_scale**2 * squares.sum(tuple(axes))
            - self.event_shape.numel() * constant
        )


def normal(loc: Tensor, scale: float | Tensor) -> dist.Distribution:
    """Independent normal values: with a fixed scale the l2 loss of Das & Dandi (2018), section III.

    Args:
        loc: means of the frames, any shape.
        scale: standard deviation in units of x, one for all values or one for each channel (D,).
    """
    return dist.Normal(loc, scale) if isinstance(scale, Tensor) else IsotropicNormal(loc, scale)


def laplace(loc: Tensor, scale: float | Tensor) -> dist.Distribution:
    """Independent Laplace values, the l1 loss: more forgiving of few large errors.

    Args:
        loc: means of the frames, any shape.
        scale: mean absolute deviation in units of x, one for all values or one for each channel.
    """
    return dist.Laplace(loc, scale if isinstance(scale, Tensor) else _on_device(scale, loc))


def bernoulli(loc: Tensor, scale: float | Tensor) -> dist.Distribution:
    """Independent values that are 0 or 1, with mean ``loc``; there is no scale.

    For binary frames only. Of grey values the cross entropy is no density: it does not integrate to
    1, so the loss would bound nothing, and could not be compared with another likelihood's.
    """
    return dist.Bernoulli(loc)


LIKELIHOODS = {"normal": normal, "laplace": laplace, "bernoulli": bernoulli}
