"""Hidden frames filled in from the observed ones, and how far from the truth they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pyro_dsae.analyses.codes import batches, device_of
from pyro_dsae.analyses.reconstruct import frame_errors
from pyro_dsae.config import ConfigError
from pyro_dsae.model import DSAE
from pyro_dsae.sequences import Sequences, to_uint8


@dataclass(frozen=True)
class CompletionErrors:
    """Mean squared errors a pixel in [0, 1]^2 over all hidden frames.

    Args:
        hidden: how many frames are hidden.
        mse: of the completed frames.
        nearest_mse: of the nearest observed frame before, or the first after where there is none.
    """

    hidden: int
    mse: float
    nearest_mse: float


def hide(lengths: np.ndarray, missing: float, seed: int = 0) -> np.ndarray:
    """A mask (N, T) of the observed steps of sequences of these ``lengths`` (N,).

    In each sequence random steps are hidden, ``missing`` of them, but one at least and never all.

    Raises:
        ConfigError: when ``missing`` is not between 0 and 1, or all sequences have one step.
    """
    if not 0 < missing < 1:
        raise ConfigError(f"missing is {missing}, but must be between 0 and 1")
    if lengths.max() < 2:
        raise ConfigError(f"missing is {missing}, but no sequence has two steps to hide one of")
    observed = np.arange(lengths.max()) < lengths[:, None]
    rng = np.random.default_rng(seed)
    for row, steps in zip(observed, lengths, strict=True):
        count = min(max(1, round(missing * steps)), steps - 1)
        row[rng.permutation(steps)[:count]] = False
    return observed


def completion_errors(dsae: DSAE, sequences: Sequences, observed: np.ndarray) -> CompletionErrors:
    """The errors over all frames that ``observed`` (N, T) hides. ``dsae`` is in eval mode."""
    device, totals = device_of(dsae), np.zeros(2)
    hidden = _hidden(sequences.lengths, observed)
    for rows in batches(len(sequences)):
        x, _ = sequences.batch(rows, device)
        x = x[:, : observed.shape[1]]
        completed = dsae.complete(x, torch.from_numpy(observed[rows]).to(device))
        nearest = torch.from_numpy(nearest_observed(observed[rows])).to(device)
        scored = torch.from_numpy(hidden[rows]).to(device)
        repeated = x.take_along_dim(nearest[..., None, None, None], dim=1)
        for i, frames in enumerate((completed, repeated)):
            totals[i] += frame_errors(frames, x)[scored].sum(dtype=torch.float64).item()
    mse, nearest_mse = (totals / hidden.sum()).tolist()
    return CompletionErrors(int(hidden.sum()), mse, nearest_mse)


def complete(dsae: DSAE, sequences: Sequences, observed: np.ndarray) -> np.ndarray:
    """uint8 frames (N, T, H, W, C) with those that ``observed`` (N, T) hides filled in."""
    device = device_of(dsae)
    x, _ = sequences.batch(np.arange(len(sequences)), device)
    return to_uint8(dsae.complete(x[:, : observed.shape[1]], torch.from_numpy(observed).to(device)))


def nearest_observed(observed: np.ndarray) -> np.ndarray:
    """For each step (N, T) the last observed one up to it, or the first of all where none is."""
    steps = np.where(observed, np.arange(observed.shape[1]), -1)
    before = np.maximum.accumulate(steps, axis=1)
    return np.where(before < 0, observed.argmax(axis=1)[:, None], before)


def _hidden(lengths: np.ndarray, observed: np.ndarray) -> np.ndarray:
    return ~observed & (np.arange(observed.shape[1]) < lengths[:, None])
