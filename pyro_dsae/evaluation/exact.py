"""Exact scores: a swap against the true sequence of A's appearance in B's motion.

For a pair (A, B) the swap is decode(f_A, z_B), and the truth is rendered, so no trained judge is
needed. The swap ratio is the swap's mean squared error over the reconstruction's: 1 is perfect
disentanglement whatever the sharpness, but of a model that shows motions at all. One that always
draws the same picture has a ratio of 1 as well. Whose motion a swap shows is read off its nearest
sequence among all motions of A's appearance. All codes are posterior means, and all sequences
count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyro_dsae.analyses.codes import BATCH, Codes, device_of
from pyro_dsae.analyses.reconstruct import frame_errors, psnr, reconstruction_mse
from pyro_dsae.evaluation import UnmeasurableError
from pyro_dsae.model import DSAE
from pyro_dsae.sequences import Sequences, numbered, to_float

Render = Callable[[np.ndarray], np.ndarray]  # labels (N, n_factors) to uint8 (N, T, H, W, C)


class PairingError(UnmeasurableError):
    """Sequences cannot be paired so that every pair differs in appearance and in motion."""


@dataclass(frozen=True)
class Origin:
    """Whose class of a dynamic factor the swaps show, where A's differs from B's.

    Args:
        from_B: fraction of the swaps whose nearest true sequence of A's appearance has B's class.
        from_A: the same of A's.
        pairs: how many there are; without any both are None.
    """

    from_B: float | None  # noqa: N815
    from_A: float | None  # noqa: N815
    pairs: int


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
        factors: the same for every dynamic factor by itself, by name.
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
    factors: dict[str, Origin]
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
    codes: Codes,
    static: np.ndarray,
    dynamic: np.ndarray,
    factors: Mapping[str, int],
    render: Render,
    seed: int = 0,
) -> ExactScores:
    """Score the reconstructions and the swaps of all sequences, paired by :func:`match_pairs`.

    Args:
        dsae: in eval mode, where it shall run.
        codes: the sequences' posterior means, by :func:`~pyro_dsae.analyses.codes.encode`.
        static: labels of the appearance, int (N, k).
        dynamic: labels of the motion, int (N, m).
        factors: how many classes each of the m dynamic factors has, by name; their product are the
            motions.
        render: labels (n, k + m), static first, to the true sequences, uint8 (n, T, H, W, C).
        seed: of the pairs.

    A swap has the length of B, and frames after it do not count. Memory is bounded by one batch and
    the motions of one appearance. Raises PairingError as :func:`match_pairs` does.
    """
    partner = match_pairs(static, dynamic, seed)
    reconstruction = reconstruction_mse(dsae, sequences, codes)
    classes = tuple(factors.values())
    motions = np.indices(classes).reshape(len(classes), -1).T  # (M, m)
    swapped = dynamic[partner]
    target = np.ravel_multi_index(swapped.T, classes)
    lengths, device = sequences.lengths[partner], device_of(dsae)
    total, who = 0.0, numbered(static)
    # Of each pair, for every factor and for the motion as a whole: whether it is A's, and B's.
    is_a, is_b = np.zeros((2, len(sequences), len(classes) + 1), bool)
    for appearance in range(who.max() + 1):  # so that its motions are rendered once
        members = np.flatnonzero(who == appearance)
        looks = np.repeat(static[members[:1]], len(motions), axis=0)
        truth = to_float(render(np.hstack([looks, motions])), device)  # (M, T, C, H, W)
        for rows in np.split(members, range(BATCH, len(members), BATCH)):
            swaps = dsae.decode(codes.f[rows], codes.z[partner[rows]])
            for steps in np.unique(lengths[rows]):
                chosen = lengths[rows] == steps
                found, true = swaps[torch.from_numpy(chosen).to(device), :steps], truth[:, :steps]
                errors = frame_errors(found, true[target[rows[chosen]]])
                total += errors.sum(dtype=torch.float64).item()
                nearest = _nearest(found, true)
                for shown, labels in ((is_a, dynamic), (is_b, swapped)):
                    shown[rows[chosen]] = _shows(nearest, motions, labels[rows[chosen]])
    swap = total / int(lengths.sum())
    is_a &= ~is_b  # what looks like both is right
    near_a, near_b = (float(shown[:, -1].mean()) for shown in (is_a, is_b))
    return ExactScores(
        reconstruction_mse=reconstruction,
        reconstruction_psnr=psnr(reconstruction),
        swap_mse=swap,
        swap_psnr=psnr(swap),
        swap_ratio=_ratio(swap, reconstruction),
        near_B=near_b,
        near_A=near_a,
        near_other=float((~is_a & ~is_b)[:, -1].mean()),
        factors={
            name: _origin(is_a[:, n], is_b[:, n], dynamic[:, n] != swapped[:, n])
            for n, name in enumerate(factors)
        },
        pairs=len(sequences),
    )


def _nearest(swaps: Tensor, truth: Tensor) -> np.ndarray:
    """Which of truth (M, ...) each of the swaps (n, ...) is nearest to, bool (n, M)."""
    # Without matrix products, so that motions that look the same are exactly as far.
    distances = torch.cdist(
        swaps.flatten(1), truth.flatten(1), compute_mode="donot_use_mm_for_euclid_dist"
    )  # (n, M)
    return (distances == distances.amin(dim=1, keepdim=True)).cpu().numpy()


def _shows(nearest: np.ndarray, motions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether one of the nearest motions has the class of each factor, and of all, (n, m + 1).

    Args:
        nearest: bool (n, M).
        motions: labels of the motions, int (M, m).
        labels: what is looked for, int (n, m).
    """
    alike = motions == labels[:, None]  # (n, M, m)
    alike = np.concatenate([alike, alike.all(axis=2, keepdims=True)], axis=2)
    return (alike & nearest[..., None]).any(axis=1)


def _origin(is_a: np.ndarray, is_b: np.ndarray, differ: np.ndarray) -> Origin:
    """Of all pairs, bool (N,) each; those that ``differ`` count."""
    if not differ.any():
        return Origin(None, None, 0)
    return Origin(float(is_b[differ].mean()), float(is_a[differ].mean()), int(differ.sum()))


def _ratio(swap: float, reconstruction: float) -> float:
    if reconstruction:
        return swap / reconstruction
    return math.inf if swap else 1.0
