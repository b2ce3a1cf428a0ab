"""Views of a sequence, by name: what z, and what f, is inferred from in training.

A view states an assumption about the data: what it changes in the frames is declared to be
appearance, so that z cannot carry it. A view of f changes what is not, so that f cannot. It is
drawn anew at every step; with q(z | v(x)) for the view v at hand, the loss averages bounds that are
each valid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_dsae.networks import per_value, real_steps

FREQUENCY = 4.0  # radians for a channel that goes from 0 to 1: shades of one colour part, too
DARKEST = 0.1  # what is drawn is seen
BLUR = 1 / 6  # of the frame, the widest standard deviation: wider than what is to be hidden

TURNED = 0.3  # radians about each axis, a standard deviation
STRENGTH = 0.2  # standard deviation of the logarithm of a factor

View = Callable[[Tensor, Tensor | None], Tensor]  # of x, and of where it is observed; None for all


def colour(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Frames in colours of which only the shapes are left, shape (B, T, C, H, W), in [0, 1].

    For each sequence one random smooth map from colours to colours, a sine of a random affine map:
    what has one colour keeps one, but it may be any, and light may come out darker than dark. A
    mixture of the channels would not do: it keeps the shading, by which a palette can be told.
    In every other sequence, by chance, the median colour of its first observed frame becomes black:
    most often a plain ground, before which z learns sooner what moves.
    """
    batch, _, channels = x.shape[:3]
    frequency = FREQUENCY * torch.randn(batch, channels, channels, device=x.device, dtype=x.dtype)
    phase = 2 * math.pi * torch.rand(batch, 1, channels, device=x.device, dtype=x.dtype)
    pixels = x.movedim(2, -1)  # (B, T, H, W, C), as it lies in memory
    waves = torch.baddbmm(phase, pixels.flatten(1, 3), frequency).sin_().reshape(pixels.shape)
    drawn = waves.mul_((1 - DARKEST) / 2).add_((1 + DARKEST) / 2)
    first = x[:, 0]
    if mask is not None:
        first = x[torch.arange(batch, device=x.device), mask.int().argmax(dim=1)]
    ground = first.flatten(2).median(dim=-1).values[:, None, None, None]  # (B, 1, 1, 1, C)
    coloured = torch.rand(batch, 1, 1, 1, 1, device=x.device) < 0.5
    return (drawn * (coloured | (pixels != ground).any(dim=-1, keepdim=True))).movedim(-1, 2)


def blurred(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Frames of :func:`colour`, out of focus: where something is, and neither colour nor outline.

    Shape (B, T, C, H, W), in [0, 1]. The width of the blur is drawn for each sequence, so that what
    is left of a shape does not tell its size; from none on, so that sharp frames, from which z is
    inferred after training, are among what it has seen.
    """
    width = BLUR * torch.rand(len(x), 1, 1, device=x.device, dtype=x.dtype)
    down, across = (_gaussian(width * size, size) for size in x.shape[-2:])
    frames = torch.einsum("bhi,btciw->btchw", down, colour(x, mask))
    return torch.einsum("bwi,btchi->btchw", across, frames)


def _gaussian(deviation: Tensor, size: int) -> Tensor:
    """Weights (B, size, size) with which each pixel of a row becomes a mean of all in it.

    deviation: in pixels, shape (B, 1, 1).
    """
    place = torch.arange(size, device=deviation.device, dtype=deviation.dtype)
    steps = (place - place.unsqueeze(-1)) / deviation.clamp_min(1e-3)
    return torch.softmax(-steps.square() / 2, dim=-1)


def worn(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """What an accelerometer and a gyroscope read when another wears them, shape (B, T, 6).

    x has both as vectors: measured from 0, and the axes of one sensor by one scale, as those of the
    source ``watch`` are.

    For each sequence, by chance, on the other side of the body, where the plane of symmetry is that
    of the axes y and z; turned a little, as straps are; and weaker or stronger. A reflection leaves
    of an acceleration what lies in the plane, of an angular velocity what is normal to it. An axis
    that is not observed counts as 0.
    """
    batch, steps, _ = x.shape
    if mask is not None:
        x = x * per_value(mask, x)
    reflected = x.new_ones(2, 3)  # filled on the device: a CUDA graph can hold no copy from a host
    reflected[0, :1].neg_()
    reflected[1, 1:].neg_()
    other_side = torch.rand(batch, 1, 1, 1, device=x.device) < 0.5
    vectors = torch.where(other_side, reflected, 1) * x.reshape(batch, steps, 2, 3)
    # A unit quaternion (w, u) turns v to v + 2 w (u x v) + 2 u x (u x v).
    half = TURNED / 2 * torch.randn(batch, 1, 1, 3, device=x.device, dtype=x.dtype)
    w = (1 + half.square().sum(dim=-1, keepdim=True)).rsqrt()
    u = w * half
    across = 2 * torch.linalg.cross(u.expand_as(vectors), vectors)
    turned = vectors + w * across + torch.linalg.cross(u.expand_as(vectors), across)
    strength = torch.exp(STRENGTH * torch.randn(batch, 1, 1, device=x.device, dtype=x.dtype))
    return strength * turned.reshape(x.shape)


class Seen(NamedTuple):
    """What f is inferred from.

    codes: of frames, shape (B, T, code_dim).
    observed: which frames are, bool (B, T, 1); None where all are.
    lengths: real steps of each sequence, shape (B,); None where all are.
    """

    codes: Tensor
    observed: Tensor | None
    lengths: Tensor | None


def shuffled(seen: Seen) -> Seen:
    """The real steps of each sequence in a random order; padding stays behind them.

    f then cannot tell what the order alone tells: a sense of rotation, a speed.
    """
    codes, observed, lengths = seen
    keys = torch.rand(*codes.shape[:2], device=codes.device)
    if lengths is not None:
        keys = keys + ~real_steps(lengths, codes.shape[1])
    order = keys.argsort(dim=1).unsqueeze(-1)
    moved = None if observed is None else observed.take_along_dim(order, dim=1)
    return Seen(codes.take_along_dim(order, dim=1), moved, lengths)


def partner(seen: Seen) -> Seen:
    """For each sequence the other one of its pair: the first and the second, and so on.

    A pair looks alike and may move apart, which is weak supervision: someone has said who is who.
    What f then knows of a sequence another one of the same appearance has told. The trainer makes
    the pairs, see :meth:`pyro_dsae.sequences.Sequences.paired`. Bouchacourt, Tomioka & Nowozin
    (2018), Multi-Level Variational Autoencoder, learn from groups likewise.

    Raises ValueError when one is left over.
    """
    if len(seen.codes) % 2:
        raise ValueError(
            f"the batch has {len(seen.codes)} sequences, but pairs need an even number"
        )
    other = mates(len(seen.codes), seen.codes.device)
    return Seen(*(None if part is None else part[other] for part in seen))


def mates(count: int, device: torch.device) -> Tensor:
    """The other one of each pair of ``count`` sequences: 1, 0, 3, 2, ..."""
    return torch.arange(count, device=device) ^ 1


StaticView = Callable[[Seen], Seen]

VIEWS: dict[str, View | None] = {  # of z
    "none": None,
    "colour": colour,
    "blurred": blurred,
    "worn": worn,
}
STATIC_VIEWS: dict[str, StaticView | None] = {  # of f
    "none": None,
    "shuffled": shuffled,
    "partner": partner,
}
