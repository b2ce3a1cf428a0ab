"""All pairs of N sequences: how alike their codes are, and how well that tells who is the same.

Memory grows with N^2.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from pyro_dsae.sequences import numbered


def all_pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The indices a < b of all pairs of ``count`` sequences, both (P,)."""
    return np.triu_indices(count, k=1)


def cosines(codes: Tensor, lengths: np.ndarray | None = None) -> np.ndarray:
    """Cosines of the flattened codes (N, T, D) over the steps that both sequences have, (N, N).

    Args:
        lengths: real steps of each sequence, int (N,); None where all are.
    """
    codes = codes.cpu().double().numpy()  # the squares of squares of small ones would be 0
    if lengths is None:
        lengths = np.full(len(codes), codes.shape[1])
    steps = np.arange(codes.shape[1]) < lengths[:, None]  # (N, T)
    codes = codes * steps[..., None]
    flat = codes.reshape(len(codes), -1)
    squares = np.square(codes).sum(axis=-1) @ steps.T
    norms = np.sqrt(squares * squares.T)  # squares: of row's codes over column's steps
    return flat @ flat.T / np.maximum(norms, np.finfo(codes.dtype).tiny)


def same(labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether pairs share all their labels (N, k), bool (P,)."""
    numbers = numbered(labels)
    return numbers[a] == numbers[b]


def roc(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The fractions of the negatives and of the positives that score at least a threshold.

    Args:
        scores: shape (P,).
        positive: bool (P,).

    Returns both for every distinct threshold from above all scores down, from 0 to 1, or None where
    there is no positive or no negative.
    """
    hits = np.count_nonzero(positive)
    if not 0 < hits < len(positive):
        return None
    order = np.argsort(-scores)
    ends = np.flatnonzero(np.diff(scores[order], append=np.nan))  # scores that tie share a point
    found = np.cumsum(positive[order])[ends]
    false = (ends + 1 - found) / (len(positive) - hits)
    return np.append(0.0, false), np.append(0.0, found / hits)


def auroc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """Probability that a positive scores higher than a negative, where a tie counts one half.

    The area under :func:`roc`; arguments and None as there.
    """
    if (rates := roc(scores, positive)) is None:
        return None
    false, true = rates
    return float((np.diff(false) * (true[1:] + true[:-1]) / 2).sum())


def equal_error_rate(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """Where as large a fraction of the negatives is accepted as of the positives is rejected.

    Between two points of :func:`roc` it is interpolated; arguments and None as there.
    """
    if (rates := roc(scores, positive)) is None:
        return None
    false, true = rates
    excess = false + true - 1  # of false acceptance over false rejection, rises from -1 to 1
    after = int(np.argmax(excess >= 0))
    weight = -excess[after - 1] / (excess[after] - excess[after - 1])
    return float(false[after - 1] + weight * (false[after] - false[after - 1]))
