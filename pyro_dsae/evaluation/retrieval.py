"""Retrieval: which true sequence, among all that the source can render, a swap is nearest to.

The search is exact. Swaps are rounded to 8 bits, as in a picture file, so that distances are whole
numbers, and sequences that look the same are exactly as far. To compare every swap with every true
sequence pixel by pixel would be trillions of operations; a lower bound leaves few pairs. With P the
orthogonal projection on the span of some true frames of a step, for every step

    |s - t|^2 = |Ps - Pt|^2 + |(s - Ps) - (t - Pt)|^2 >= |Ps - Pt|^2 + (|s - Ps| - |t - Pt|)^2.

The sequence of the least bound is compared first, and those whose bound exceeds its distance are
not the nearest. (Nearest neighbours by lower bounds: Seidl & Kriegel, Optimal Multi-Step k-Nearest
Neighbor Search, 1998.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_dsae.analyses.codes import Codes, batches
from pyro_dsae.evaluation.exact import Render, match_pairs
from pyro_dsae.model import DSAE
from pyro_dsae.sequences import Sequences, to_uint8

DIMENSIONS = 1024  # of the spans of all steps together
BLOCK_BYTES = 16 * 1024 * 1024  # of the sequences that are projected or compared at a time


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
    codes: Codes,
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
        codes: the sequences' posterior means, by :func:`~pyro_dsae.analyses.codes.encode`.
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
    swaps = np.empty(sequences.x.shape, np.uint8)
    for rows in batches(len(sequences)):
        swaps[rows] = to_uint8(dsae.decode(codes.f[rows], codes.z[partner[rows]]))
    wanted = np.hstack([static, dynamic[partner]])
    nearest = nearest_of(swaps, sequences.lengths[partner], candidates, render)
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
    swaps: np.ndarray, lengths: np.ndarray, candidates: np.ndarray, render: Render
) -> list[np.ndarray]:
    """The indices of the candidates that are nearest to each swap: one, or all that look the same.

    Args:
        swaps: uint8 (N, T, H, W, C).
        lengths: of each, int (N,); later frames do not count.
        candidates: labels of all sequences to choose from, int (M, n_factors).
        render: labels (n, n_factors) to their sequences, uint8 (n, T, H, W, C).

    In memory are a block of sequences, or of the bounds of some with all, and of every sequence
    some ``DIMENSIONS`` numbers in double precision.
    """
    padding = np.arange(swaps.shape[1]) >= lengths[:, None]
    swaps = np.where(padding[..., None, None, None], np.uint8(0), swaps)
    size = max(1, BLOCK_BYTES // max(swaps[0].nbytes, 8 * len(swaps), 8 * len(candidates)))
    ours_in_blocks, theirs_in_blocks = (batches(len(of), size) for of in (swaps, candidates))
    drawn = np.random.default_rng(0).permutation(len(candidates))
    spanning = render(candidates[drawn[: max(1, DIMENSIONS // swaps.shape[1])]])
    bases = torch.linalg.qr(_by_step(spanning).mT).Q  # (T, D, K)
    ours = _project((swaps[rows] for rows in ours_in_blocks), bases)
    theirs = _project((render(candidates[rows]) for rows in theirs_in_blocks), bases)
    least, nearest = np.empty(len(swaps)), [np.empty(0, int) for _ in swaps]
    for rows in ours_in_blocks:
        guesses = _bounds(ours.take(rows), theirs, lengths[rows]).argmin(axis=1)
        for i, true in zip(rows, render(candidates[guesses]), strict=True):
            least[i] = _distances(swaps[i], true[None], lengths[i])[0]
    for rows in theirs_in_blocks:
        possible = _bounds(ours, theirs.take(rows), lengths) <= least[:, None]  # (N, n)
        some = possible.any(axis=0)
        if not some.any():
            continue
        rows, possible = rows[some], possible[:, some]
        truth = render(candidates[rows])
        for i in np.flatnonzero(possible.any(axis=1)):
            chosen = np.flatnonzero(possible[i])
            distances = _distances(swaps[i], truth[chosen], lengths[i])
            closest = distances.min()
            if closest < least[i]:
                least[i], nearest[i] = closest, nearest[i][:0]
            if closest == least[i]:
                nearest[i] = np.append(nearest[i], rows[chosen[distances == closest]])
    return nearest


def _distances(swap: np.ndarray, truth: np.ndarray, length: int) -> np.ndarray:
    """Squared distances of a swap (T, H, W, C) to each of truth (n, T, H, W, C), exact, (n,)."""
    difference = torch.from_numpy(truth[:, :length]).float() - torch.from_numpy(swap[:length])
    return difference.square().sum(dim=(1, 2, 3, 4), dtype=torch.float64).numpy()


class _Projected(NamedTuple):
    """Sequences on a basis of K frames for each step, float64.

    coordinates: of each step K and, as one more, the norm of what is left, (N, T (K + 1)).
    squares: squared norms over the first 1, ..., T steps, (N, T).
    """

    coordinates: np.ndarray
    squares: np.ndarray

    def take(self, rows: np.ndarray) -> _Projected:
        return _Projected(*(part[rows] for part in self))


def _by_step(frames: np.ndarray) -> Tensor:
    """Of uint8 (n, T, H, W, C): (T, n, D) in double precision."""
    return torch.from_numpy(frames).flatten(2).transpose(0, 1).double()


def _project(blocks: Iterable[np.ndarray], bases: Tensor) -> _Projected:
    """Sequences in blocks, each uint8 (n, T, H, W, C), on orthonormal bases (T, D, K)."""
    # Far more than the rounding of a product of sequences, so that a bound is never too high.
    rounding = 4 * bases.numel() * torch.finfo(torch.float64).eps
    found = []
    for x in map(_by_step, blocks):
        inside, squares = x @ bases, x.square().sum(dim=-1)  # (T, n, K), (T, n)
        outside = (squares - inside.square().sum(dim=-1)).clamp(min=0) + rounding * squares
        coordinates = torch.cat([inside, outside.sqrt().unsqueeze(-1)], dim=-1)
        found.append((coordinates.transpose(0, 1).flatten(1).numpy(), squares.cumsum(0).T.numpy()))
    return _Projected(*map(np.concatenate, zip(*found, strict=True)))


def _bounds(ours: _Projected, theirs: _Projected, lengths: np.ndarray) -> np.ndarray:
    """Lower bounds of the squared distances of N swaps, 0 after their length, to M sequences."""
    squares = ours.squares[:, -1:] + theirs.squares[:, lengths - 1].T  # (N, M)
    return squares - 2 * (ours.coordinates @ theirs.coordinates.T)
