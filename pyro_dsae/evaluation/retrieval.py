"""Retrieval: which true sequence, among all that the source can render, a swap is nearest to.

The search is exact. Swaps are rounded to 8 bits, as in a picture file, so that distances are whole
numbers, and sequences that look the same are exactly as far. To compare every swap with every true
sequence pixel by pixel would be trillions of operations; a lower bound leaves few pairs. P, the
mean of each block of pixels, is an orthogonal projection, hence

    |s - t|^2 = |Ps - Pt|^2 + |(s - Ps) - (t - Pt)|^2 >= |Ps - Pt|^2 + (|s - Ps| - |t - Pt|)^2,

and a sequence whose bound exceeds the least distance so far is not the nearest. For what is left a
matrix product gives |s|^2 + |t|^2 - 2 st up to its rounding, a second lower bound, which few but
the nearest stay below, however soft the swap is. (Nearest neighbours by lower bounds: Seidl &
Kriegel, Optimal Multi-Step k-Nearest Neighbor Search, 1998.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from pyro_dsae.analyses.codes import batches, encode
from pyro_dsae.evaluation.exact import Render, match_pairs
from pyro_dsae.model import DSAE
from pyro_dsae.sequences import Sequences, to_uint8

POOL = 4  # side of a block in pixels
CHUNK = 1024  # values whose product is summed in single precision
BLOCK_BYTES = 16 * 1024 * 1024  # of the true sequences compared at a time


@dataclass(frozen=True)
class Retrieval:
    """How often a swap's nearest true sequence is the right one.

    Sequences that look the same over the steps of the swap are equally near, and the swap counts as
    right where one of its nearest is.

    Args:
        top_1: fraction of swaps whose nearest sequence is that of A's appearance in B's motion.
        factors: for each factor, the fraction whose nearest sequence has A's, or B's, class.
        candidates: how many true sequences there are.
        swaps: how many swaps.
    """

    top_1: float
    factors: dict[str, float]
    candidates: int
    swaps: int


def retrieval(
    dsae: DSAE,
    sequences: Sequences,
    static: np.ndarray,
    dynamic: np.ndarray,
    names: Sequence[str],
    candidates: np.ndarray,
    render: Render,
    seed: int = 0,
) -> Retrieval:
    """Retrieve the swaps of all sequences, paired by :func:`match_pairs`, among ``candidates``.

    Args:
        dsae: in eval mode, where it shall run.
        static: labels of the appearance, int (N, k).
        dynamic: labels of the motion, int (N, m).
        names: of these k + m factors.
        candidates: labels of all sequences to choose from, int (M, k + m), each row once.
        render: labels (n, k + m) to the true sequences, uint8 (n, T, H, W, C).
        seed: of the pairs.

    A swap has the length of B, and frames after it do not count. The swaps are in memory at 8 bits.
    Raises PairingError as :func:`match_pairs` does.
    """
    partner = match_pairs(static, dynamic, seed)
    codes = encode(dsae, sequences)
    swaps = np.empty(sequences.x.shape, np.uint8)
    for rows in batches(len(sequences)):
        swaps[rows] = to_uint8(dsae.decode(codes.f[rows], codes.z[partner[rows]]))
    wanted = np.hstack([static, dynamic[partner]])
    nearest = nearest_of(swaps, sequences.lengths[partner], wanted, candidates, render)
    right = np.array(
        [
            np.append((found == row).any(axis=0), (found == row).all(axis=1).any())
            for row, found in zip(wanted, (candidates[rows] for rows in nearest), strict=True)
        ]
    ).mean(axis=0)
    return Retrieval(
        top_1=float(right[-1]),
        factors=dict(zip(names, right[:-1].tolist(), strict=True)),
        candidates=len(candidates),
        swaps=len(swaps),
    )


def nearest_of(
    swaps: np.ndarray,
    lengths: np.ndarray,
    guesses: np.ndarray,
    candidates: np.ndarray,
    render: Render,
) -> list[np.ndarray]:
    """The indices of the candidates that are nearest to each swap: one, or all that look the same.

    Args:
        swaps: uint8 (N, T, H, W, C).
        lengths: of each, int (N,); later frames do not count.
        guesses: labels of one of the candidates for each swap, int (N, n_factors); the nearer, the
            faster.
        candidates: labels of all sequences to choose from, int (M, n_factors).
        render: labels (n, n_factors) to their sequences, uint8 (n, T, H, W, C).
    """
    padding = np.arange(swaps.shape[1]) >= lengths[:, None]
    swaps = np.where(padding[..., None, None, None], np.uint8(0), swaps)
    size = max(1, BLOCK_BYTES // swaps[0].nbytes)
    least = np.empty(len(swaps))
    for rows in batches(len(swaps), size):
        for i, true in zip(rows, render(guesses[rows]), strict=True):
            least[i] = _distances(swaps[i], true[None], lengths[i])[0]
    nearest = [np.empty(0, int) for _ in swaps]
    pooled = [_pool(swaps[rows]) for rows in batches(len(swaps), size)]
    ours = _Pooled(*(np.concatenate(parts) for parts in zip(*pooled, strict=True)))
    for rows in batches(len(candidates), size):
        truth = render(candidates[rows])
        theirs = _pool(truth)
        # Distances are whole numbers, so that rounding in a bound does not matter.
        possible = _bounds(ours, theirs, lengths) < least[:, None] + 1  # (N, n)
        some = np.flatnonzero(possible.any(axis=1))
        few = _Pooled(*(part[some] for part in ours))
        bounds = _product_bounds(swaps[some], truth, few, theirs, lengths[some])
        possible = possible[some] & (bounds < least[some, None] + 1)
        for i, left in zip(some, possible, strict=True):
            if not left.any():
                continue
            chosen = np.flatnonzero(left)
            distances = _distances(swaps[i], truth[chosen], lengths[i])
            closest = distances.min()
            if closest < least[i]:
                least[i], nearest[i] = closest, nearest[i][:0]
            if closest == least[i]:
                nearest[i] = np.append(nearest[i], rows[chosen[distances == closest]])
    return nearest


def _distances(swap: np.ndarray, truth: np.ndarray, length: int) -> np.ndarray:
    """Squared distances of a swap (T, H, W, C) to each of truth (n, T, H, W, C), exact, (n,)."""
    swap, truth = (torch.from_numpy(x).float() for x in (swap[:length], truth[:, :length]))
    return (truth - swap).square().sum(dim=(1, 2, 3, 4), dtype=torch.float64).numpy()


class _Pooled(NamedTuple):
    """Frames and their projections on what is constant over each block of pixels.

    means: float32 (N, T, D), with the norm of the projection. outer, inner: squared norms of the
    projection and of the rest over the first 1, ..., T steps, float64 (N, T).
    """

    means: np.ndarray
    outer: np.ndarray
    inner: np.ndarray


def _pool(frames: np.ndarray) -> _Pooled:
    """Of uint8 (N, T, H, W, C). Sums of whole numbers, which floats hold exactly."""
    side = math.gcd(POOL, *frames.shape[2:4])
    x = torch.from_numpy(frames).flatten(0, 1).permute(0, 3, 1, 2).float()  # (N T, C, H, W)
    means = (side * F.avg_pool2d(x, side)).flatten(1)
    whole, outer = (part.square().sum(dim=1, dtype=torch.float64) for part in (x.flatten(1), means))
    steps = frames.shape[:2]
    return _Pooled(
        means.numpy().reshape(*steps, -1),
        *(part.numpy().reshape(steps).cumsum(axis=1) for part in (outer, whole - outer)),
    )


def _bounds(ours: _Pooled, theirs: _Pooled, lengths: np.ndarray) -> np.ndarray:
    """Lower bounds of the squared distances of N swaps to n sequences, float64 (N, n)."""
    swap, last = np.arange(len(lengths)), lengths - 1
    a, b = (pooled.means.reshape(len(pooled.means), -1) for pooled in (ours, theirs))
    product = (a @ b.T).astype(np.float64)
    product *= 1 + a.shape[1] * np.finfo(a.dtype).eps  # at least the product, however it was summed
    outer = ours.outer[swap, last, None] + theirs.outer[:, last].T - 2 * product
    norms = np.sqrt(ours.inner[swap, last, None]) - np.sqrt(theirs.inner[:, last].T)
    return outer + norms**2


def _product_bounds(
    swaps: np.ndarray, truth: np.ndarray, ours: _Pooled, theirs: _Pooled, lengths: np.ndarray
) -> np.ndarray:
    """Tighter ones, by the product of all pixels; swaps are 0 after their length."""
    a, b = (frames.reshape(len(frames), truth[0].size) for frames in (swaps, truth))
    product = np.zeros((len(a), len(b)))
    for start in range(0, a.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        product += a[:, part].astype(np.float32) @ b[:, part].astype(np.float32).T
    product *= 1 + CHUNK * np.finfo(np.float32).eps
    swap, last = np.arange(len(lengths)), lengths - 1
    squares = (ours.outer + ours.inner)[swap, last, None] + (theirs.outer + theirs.inner)[:, last].T
    return squares - 2 * product
