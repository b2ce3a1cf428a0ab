"""The codes of many sequences, and the frames of many codes, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pyro_dsae.model import DSAE
from pyro_dsae.sequences import Sequences

BATCH = 32  # sequences at a time
AT_MOST = 4000  # sequences, where the cost grows faster than their number


@dataclass(frozen=True)
class Codes:
    """Codes of N sequences, posterior means or draws, on the model's device.

    Args:
        f: the static codes, shape (N, static_dim).
        z: the dynamic codes, shape (N, T, dynamic_dim); after a sequence's length they say nothing.
        lengths: real steps of each sequence, int (N,).
    """

    f: Tensor
    z: Tensor
    lengths: np.ndarray

    @property
    def mean_z(self) -> Tensor:
        """z averaged over the real steps, shape (N, dynamic_dim)."""
        return self._mean(self.z)

    @property
    def spread_z(self) -> Tensor:
        """``mean_z`` and the standard deviation over the real steps, shape (N, 2 dynamic_dim).

        What moves about one place all the time has its mean there, however it moves.
        """
        mean = self.mean_z
        variance = self._mean((self.z - mean.unsqueeze(1)).square())
        return torch.cat([mean, variance.sqrt()], dim=-1)

    def take(self, rows: np.ndarray) -> Codes:
        """The codes of some sequences."""
        return Codes(self.f[rows], self.z[rows], self.lengths[rows])

    def _mean(self, values: Tensor) -> Tensor:
        """Over the real steps, (N, T, D) to (N, D)."""
        steps = np.arange(values.shape[1]) < self.lengths[:, None]  # (N, T)
        weights = torch.from_numpy(steps / self.lengths[:, None]).to(values)
        return (weights.unsqueeze(-1) * values).sum(dim=1)


def device_of(module: nn.Module) -> torch.device:
    """Where a model lies."""
    return next(module.parameters()).device


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers from ``seed``; the caller's are left alone."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def encode(dsae: DSAE, sequences: Sequences, seed: int | None = None) -> Codes:
    """The codes of every sequence. ``dsae`` is in eval mode.

    They are the posterior means or, with a ``seed``, one draw from q.
    """
    device, sample, codes = device_of(dsae), seed is not None, []
    with seeded(seed, device) if sample else nullcontext():
        for rows in batches(len(sequences)):
            codes.append(dsae.encode(*sequences.batch(rows, device), sample=sample))
    f, z = (torch.cat(parts) for parts in zip(*codes, strict=True))
    return Codes(f, z, sequences.lengths)


def at_most(rows: np.ndarray, seed: int) -> np.ndarray:
    """``AT_MOST`` of the rows, drawn, in their order; all of them where there are no more."""
    drawn = np.random.default_rng(seed).permutation(len(rows))[:AT_MOST]
    return rows[np.sort(drawn)]


def batches(count: int, size: int = BATCH) -> list[np.ndarray]:
    """The indices 0 ... count - 1 in batches."""
    return np.split(np.arange(count), range(size, count, size))
