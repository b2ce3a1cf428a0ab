"""Hidden values filled in from the observed ones, and how far from the truth they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyro_dsae.analyses.codes import batches, device_of
from pyro_dsae.analyses.reconstruct import squared_errors
from pyro_dsae.config import ConfigError, one_of
from pyro_dsae.model import DSAE
from pyro_dsae.networks import per_value
from pyro_dsae.sequences import Sequences


@dataclass(frozen=True)
class CompletionErrors:
    """Mean squared errors over all hidden values.

    They are those of a pixel in [0, 1]^2, or of a value of a series in squares of the channel's
    scale, see :class:`~pyro_dsae.sequences.Standard`.

    Args:
        hidden: how many frames, or values of a series, are hidden.
        mse: of the completed ones.
        nearest_mse: of the nearest observed one before, or the first after where there is none; of
            a channel that is hidden all along, the mean of the train part, or 0 of a vector's.
        mean_mse: of the mean of those observed in the sequence; else the same.
    """

    hidden: int
    mse: float
    nearest_mse: float
    mean_mse: float


HIDDEN = {"values": None, "steps": 1, "channels": 0}  # what is hidden: the axis that goes with it


def hide(observed: np.ndarray, missing: float, seed: int = 0, what: str = "values") -> np.ndarray:
    """``observed``, bool (N, T) or (N, T, D), without some of what is observed.

    In each sequence it is a random ``missing`` of it that is hidden, but one at least, never all.

    Args:
        what: "values", each by itself, "steps", with all their channels, or "channels", with all
            their steps. Of frames, (N, T), a step is a value, and there are no channels.

    Raises:
        ConfigError: when ``missing`` is not between 0 and 1, ``what`` is not one of these, or
            nothing can be hidden.
    """
    if not 0 < missing < 1:
        raise ConfigError(f"missing is {missing}, but must be between 0 and 1")
    one_of("what", what, HIDDEN)
    left = observed.copy() if observed.ndim == 3 else observed[..., None].copy()
    if what == "channels" and observed.ndim == 2:
        raise ConfigError("what is 'channels', but of frames all channels are there or none")
    rng = np.random.default_rng(seed)
    for row in left:
        units = row if HIDDEN[what] is None else row.any(axis=HIDDEN[what], keepdims=True)
        places = np.flatnonzero(units)
        count = min(max(1, round(missing * len(places))), len(places) - 1)
        gone = np.zeros(units.size, bool)
        gone[rng.permutation(places)[:count]] = True
        row &= ~gone.reshape(units.shape)
    left = left.reshape(observed.shape)
    if (left == observed).all():
        raise ConfigError(f"missing is {missing}, but of no sequence two {what} are observed")
    return left


def completion_errors(dsae: DSAE, sequences: Sequences, left: np.ndarray) -> CompletionErrors:
    """The errors over all that is observed but not ``left``, as :func:`hide` gives it.

    ``dsae`` is in eval mode.
    """
    device, totals, count = device_of(dsae), np.zeros(3), 0
    hidden = sequences.observed() & ~left
    for rows in batches(len(sequences)):
        x, _ = sequences.batch(rows, device)
        mask, scored = (torch.from_numpy(part[rows]).to(device) for part in (left, hidden))
        for i, filled in enumerate(
            (dsae.complete(x, mask), forward_fill(x, mask), observed_mean(x, mask))
        ):
            errors, counts = squared_errors(filled, x, scored)
            totals[i] += errors.sum(dtype=torch.float64).item()
        count += int(counts.sum())
    return CompletionErrors(int(hidden.sum()), *(totals / count).tolist())


def complete(
    dsae: DSAE, sequences: Sequences, left: np.ndarray, sample: bool = False
) -> np.ndarray:
    """The sequences as they are stored, uint8 (N, T, H, W, C) or float32 (N, T, D), with all that
    is not ``left``, bool (N, T) or (N, T, D), filled in; with ``sample``, by one draw."""
    device = device_of(dsae)
    x, _ = sequences.batch(np.arange(len(sequences)), device)
    return sequences.restore(dsae.complete(x, torch.from_numpy(left).to(device), sample))


def fill(dsae: DSAE, sequences: Sequences) -> np.ndarray:
    """All sequences as they are stored, with what is missing in them filled in: uint8
    (N, T, H, W, C) or float32 (N, T, D), zero after a sequence's length. ``dsae`` is in eval mode.

    Raises ConfigError when nothing is missing.
    """
    real = np.arange(sequences.steps) < sequences.lengths[:, None]  # (N, T)
    observed = sequences.observed()
    if (observed == real.reshape(*real.shape, *(1,) * (observed.ndim - 2))).all():
        raise ConfigError("nothing is missing in these sequences")
    filled = [complete(dsae, sequences.take(rows), observed[rows]) for rows in batches(len(real))]
    x = np.concatenate(filled)
    x[~real] = 0
    return x


def forward_fill(x: Tensor, mask: Tensor) -> Tensor:
    """x (B, T, ...) with the nearest value in ``mask`` up to each step, or the first of all.

    It is 0 where a channel has none.
    """
    nearest = torch.from_numpy(nearest_observed(mask.cpu().numpy())).to(x.device)
    seen = torch.where(per_value(mask, x), x, 0)
    return seen.take_along_dim(per_value(nearest, x), dim=1)


def observed_mean(x: Tensor, mask: Tensor) -> Tensor:
    """The mean over time of the values of x (B, T, ...) in ``mask``, (B, 1, ...); 0 without any."""
    held = per_value(mask, x)
    return (x * held).sum(dim=1, keepdim=True) / held.sum(dim=1, keepdim=True).clamp(min=1)


def nearest_observed(observed: np.ndarray) -> np.ndarray:
    """For each step (N, T) the last observed one up to it, or the first of all where none is.

    The same for each channel of (N, T, D).
    """
    steps = np.arange(observed.shape[1]).reshape(-1, *(1,) * (observed.ndim - 2))
    before = np.maximum.accumulate(np.where(observed, steps, -1), axis=1)
    return np.where(before < 0, observed.argmax(axis=1)[:, None], before)
