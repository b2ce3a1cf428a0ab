"""Retrieval: which true sequence, among all that the source can render, a swap is nearest to.

The search is exact. Swaps are rounded to 8 bits, as in a picture file, so that distances are whole
numbers, and sequences that look the same are exactly as far. To compare every swap with every true
sequence pixel by pixel would be trillions of operations; a lower bound leaves few pairs. P, the
orthogonal projection on the span of some of the true sequences, keeps most of them all, hence

    |s - t|^2 = |Ps - Pt|^2 + |(s - Ps) - (t - Pt)|^2 >= |Ps - Pt|^2 + (|s - Ps| - |t - Pt|)^2

is close, and a sequence whose bound exceeds the distance of the one with the least bound is not the
nearest. (Nearest neighbours by lower bounds: Seidl & Kriegel, Optimal Multi-Step k-Nearest Neighbor
Search, 1998.)
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

SPAN = 256  # true sequences, drawn at random, whose span is projected on,
SPAN_BYTES = 256 * 1024 * 1024  # or as many as fit in this in double precision
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

    Beside blocks of sequences there are in memory the basis of the span, and the bounds of a block
    of swaps.
    """
    nearest = [np.empty(0, int)] * len(swaps)
    for steps in np.unique(lengths):
        rows = np.flatnonzero(lengths == steps)
        found = _nearest(swaps[rows, :steps], candidates, render)
        for i, indices in zip(rows, found, strict=True):
            nearest[i] = indices
    return nearest


def _nearest(swaps: np.ndarray, candidates: np.ndarray, render: Render) -> list[np.ndarray]:
    """Of swaps of one length, uint8 (N, steps, H, W, C)."""

    def true(rows: np.ndarray) -> np.ndarray:
        return render(candidates[rows])[:, : swaps.shape[1]]

    def blocks(count: int) -> list[np.ndarray]:
        return batches(count, max(1, BLOCK_BYTES // swaps[0].nbytes))

    fitting = max(1, SPAN_BYTES // (8 * swaps[0].size))
    spanning = np.random.default_rng(0).permutation(len(candidates))[: min(SPAN, fitting)]
    basis = torch.linalg.qr(_flat(true(spanning)).T).Q  # (D, at most SPAN)
    ours = _project((swaps[rows] for rows in blocks(len(swaps))), basis)
    theirs = _project((true(rows) for rows in blocks(len(candidates))), basis)
    least, nearest = np.empty(len(swaps)), [np.empty(0, int) for _ in swaps]
    for rows in blocks(len(swaps)):
        guesses = _bounds(ours.take(rows), theirs).argmin(axis=1)
        least[rows] = _distances(swaps[rows], true(guesses))
    for rows in blocks(len(candidates)):
        possible = _bounds(ours, theirs.take(rows)) <= least[:, None]  # (N, n)
        some = possible.any(axis=0)
        if not some.any():
            continue
        rows, possible = rows[some], possible[:, some]
        truth = true(rows)
        for i in np.flatnonzero(possible.any(axis=1)):
            chosen = np.flatnonzero(possible[i])
            distances = _distances(swaps[i], truth[chosen])
            closest = distances.min()
            if closest < least[i]:
                least[i], nearest[i] = closest, nearest[i][:0]
            if closest == least[i]:
                nearest[i] = np.append(nearest[i], rows[chosen[distances == closest]])
    return nearest


def _distances(swaps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Squared distances of sequences (n, T, H, W, C), or of one, to each of truth, exact, (n,)."""
    difference = torch.from_numpy(truth).float() - torch.from_numpy(swaps)
    return difference.square().sum(dim=(1, 2, 3, 4), dtype=torch.float64).numpy()


class _Projected(NamedTuple):
    """Sequences on a basis of K. Float64: inside (N, K); outside (N,) is the norm of the rest, and
    squares (N,) that of the whole, squared."""

    inside: np.ndarray
    outside: np.ndarray
    squares: np.ndarray

    def take(self, rows: np.ndarray) -> _Projected:
        return _Projected(*(part[rows] for part in self))


def _flat(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(frames).flatten(1).double()


def _project(blocks: Iterable[np.ndarray], basis: Tensor) -> _Projected:
    """Sequences in blocks, each uint8 (n, T, H, W, C), on an orthonormal basis (D, K)."""
    # More than the rounding of a product of two sequences can come to, so that a bound is never too
    # high.
    rounding = 4 * basis.numel() * torch.finfo(torch.float64).eps
    found = []
    for x in map(_flat, blocks):
        inside, squares = x @ basis, x.square().sum(dim=1)
        outside = (squares - inside.square().sum(dim=1)).clamp(min=0) + rounding * squares
        found.append((inside.numpy(), outside.sqrt().numpy(), squares.numpy()))
    return _Projected(*map(np.concatenate, zip(*found, strict=True)))


def _bounds(ours: _Projected, theirs: _Projected) -> np.ndarray:
    """Lower bounds of the squared distances of N sequences to M, float64 (N, M)."""
    product = ours.inside @ theirs.inside.T + np.outer(ours.outside, theirs.outside)
    return ours.squares[:, None] + theirs.squares - 2 * product
