"""Exact scores: a swap against the true sequence of A's appearance in B's motion.

For a pair (A, B) the swap is decode(f_A, z_B), and the truth is rendered, so no trained judge is
needed. The swap ratio is the swap's mean squared error over the reconstruction's: 1 is perfect
disentanglement whatever the sharpness. Whose motion a swap shows is read off its nearest sequence
among all motions of A's appearance. All codes are posterior means, and all sequences count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyro_dsae.analyses.codes import BATCH, device_of, encode
from pyro_dsae.analyses.reconstruct import frame_errors, psnr, reconstruction_mse
from pyro_dsae.model import DSAE
from pyro_dsae.sequences import Sequences, numbered, to_float

Render = Callable[[np.ndarray], np.ndarray]  # labels (N, n_factors) to uint8 (N, T, H, W, C)


class PairingError(ValueError):
    """Sequences cannot be paired so that every pair differs in appearance and in motion."""


@dataclass(frozen=True)
class ExactScores:
    """Scores over all sequences of a part, each A once and B once.

    Args:
        reconstruction_mse: mean squared error a pixel in [0, 1], over all real frames.
        reconstruction_psnr: the same in dB.
        swap_mse: of the swaps against their true sequences.
        swap_psnr: the same in dB.
        swap_ratio: ``swap_mse / reconstruction_mse``; 1 where both are 0.
        near_B: fraction of swaps whose nearest true sequence of A's appearance has B's motion.
        near_A: the same for A's own motion.
        near_other: the rest.
        pairs: how many there are.
    """

    reconstruction_mse: float
    reconstruction_psnr: float
    swap_mse: float
    swap_psnr: float
    swap_ratio: float
    near_B: float  # noqa: N815
    near_A: float  # noqa: N815
    near_other: float
    pairs: int


def match_pairs(static: np.ndarray, dynamic: np.ndarray, seed: int) -> np.ndarray:
    """A random partner B for each sequence A that differs from it in appearance and in motion.

    Args:
        static: labels of the appearance, shape (N, k).
        dynamic: labels of the motion, shape (N, m).

    Returns a permutation, shape (N,): every sequence is A once and B once.
    Raises PairingError when there is none.
    """
    who, what, random = numbered(static), numbered(dynamic), np.random.default_rng(seed)
    partner = random.permutation(len(who))
    same = (who == who[partner]) | (what == what[partner])
    owner = np.full(len(who), -1)  # whose partner a sequence is
    owner[partner[~same]] = np.flatnonzero(~same)
    for start in np.flatnonzero(same):
        # An augmenting path, breadth first: partners are passed on until one is free.
        reached_by, queue, free = np.full(len(who), -1), [start], -1
        while queue and free < 0:
            a = queue.pop(0)
            fits = (who != who[a]) & (what != what[a]) & (reached_by < 0)
            found = random.permutation(np.flatnonzero(fits))
            reached_by[found] = a
            queue += owner[found].tolist()
            free = next((b for b in found if owner[b] < 0), -1)
        if free < 0:
            raise PairingError(
                f"these {len(who)} sequences cannot be paired so that every pair differs in "
                f"appearance ({who.max() + 1} of them) and in motion ({what.max() + 1} of them)"
            )
        while free >= 0:
            a = reached_by[free]
            owner[free] = a
            partner[a], free = free, -1 if a == start else partner[a]
    return partner


def unlike(static: np.ndarray, dynamic: np.ndarray, a: np.ndarray, seed: int) -> np.ndarray:
    """A random partner for each of the sequences ``a`` (n,), as different from it as there are.

    In appearance and in motion, or else in one of them; arguments as in :func:`match_pairs`, for
    data of which it can pair only some.
    """
    who, what, random = numbered(static), numbered(dynamic), np.random.default_rng(seed)
    partner = []
    for i in a:
        differs = (who != who[i]).astype(int) + (what != what[i])
        partner.append(random.choice(np.flatnonzero(differs == differs.max())))
    return np.array(partner)


def exact_scores(
    dsae: DSAE,
    sequences: Sequences,
    static: np.ndarray,
    dynamic: np.ndarray,
    classes: Sequence[int],
    render: Render,
    seed: int = 0,
) -> ExactScores:
    """Score the reconstructions and the swaps of all sequences, paired by :func:`match_pairs`.

    Args:
        dsae: in eval mode, where it shall run.
        static: labels of the appearance, int (N, k).
        dynamic: labels of the motion, int (N, m).
        classes: how many classes each of the m dynamic factors has; their product are the motions.
        render: labels (n, k + m), static first, to the true sequences, uint8 (n, T, H, W, C).
        seed: of the pairs.

    A swap has the length of B, and frames after it do not count. Memory is bounded by one batch and
    the motions of one appearance. Raises PairingError as :func:`match_pairs` does.
    """
    partner = match_pairs(static, dynamic, seed)
    codes = encode(dsae, sequences)
    reconstruction = reconstruction_mse(dsae, sequences, codes)
    motions = np.indices(classes).reshape(len(classes), -1).T  # (M, m)
    own, swapped = (np.ravel_multi_index(rows.T, classes) for rows in (dynamic, dynamic[partner]))
    lengths, device = sequences.lengths[partner], device_of(dsae)
    total, near_a, near_b = 0.0, 0, 0
    who = numbered(static)
    for appearance in range(who.max() + 1):  # so that its motions are rendered once
        members = np.flatnonzero(who == appearance)
        looks = np.repeat(static[members[:1]], len(motions), axis=0)
        truth = to_float(render(np.hstack([looks, motions])), device)  # (M, T, C, H, W)
        for rows in np.split(members, range(BATCH, len(members), BATCH)):
            swaps = dsae.decode(codes.f[rows], codes.z[partner[rows]])
            for steps in np.unique(lengths[rows]):
                chosen = lengths[rows] == steps
                found, true = swaps[torch.from_numpy(chosen).to(device), :steps], truth[:, :steps]
                errors = frame_errors(found, true[swapped[rows][chosen]])
                total += errors.sum(dtype=torch.float64).item()
                is_a, is_b = _whose(found, true, own[rows][chosen], swapped[rows][chosen])
                near_a, near_b = near_a + is_a, near_b + is_b
    swap, pairs = total / int(lengths.sum()), len(sequences)
    return ExactScores(
        reconstruction_mse=reconstruction,
        reconstruction_psnr=psnr(reconstruction),
        swap_mse=swap,
        swap_psnr=psnr(swap),
        swap_ratio=_ratio(swap, reconstruction),
        near_B=near_b / pairs,
        near_A=near_a / pairs,
        near_other=(pairs - near_a - near_b) / pairs,
        pairs=pairs,
    )


def _whose(swaps: Tensor, truth: Tensor, own: np.ndarray, swapped: np.ndarray) -> tuple[int, int]:
    """How many swaps (n, ...) have A's and how many B's motion as the nearest of truth (M, ...)."""
    # Without matrix products, so that motions that look the same are exactly as far.
    distances = torch.cdist(
        swaps.flatten(1), truth.flatten(1), compute_mode="donot_use_mm_for_euclid_dist"
    )  # (n, M)
    nearest = (distances == distances.amin(dim=1, keepdim=True)).cpu().numpy()
    row = np.arange(len(own))
    is_b = nearest[row, swapped]
    return int((nearest[row, own] & ~is_b).sum()), int(is_b.sum())


def _ratio(swap: float, reconstruction: float) -> float:
    if reconstruction:
        return swap / reconstruction
    return math.inf if swap else 1.0
