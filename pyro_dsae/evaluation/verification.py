"""Speaker verification: do two sequences have the same static group, by the cosine of their codes?

The equal error rate of f is best at 0. That of z, averaged over the steps so that it needs no
alignment, is best at one half, where z says nothing about who it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyro_dsae.analyses.codes import Codes
from pyro_dsae.analyses.pairs import all_pairs, cosines, equal_error_rate, same


@dataclass(frozen=True)
class Verification:
    """Equal error rates over all pairs of a part.

    Args:
        sequences: how many there are.
        pairs: all of them.
        same_pairs: those of the same static group.
        eer_f: equal error rate of the cosine of f; None where either kind of pair is missing.
        eer_z: the same of the mean z.
    """

    sequences: int
    pairs: int
    same_pairs: int
    eer_f: float | None
    eer_z: float | None


def verification(codes: Codes, static: np.ndarray) -> Verification:
    """Verify every pair of N sequences; memory grows with N^2.

    Args:
        codes: of the sequences.
        static: labels of who or what a sequence shows, shape (N, k).
    """
    a, b = all_pairs(len(static))
    belong = same(static, a, b)
    return Verification(
        sequences=len(static),
        pairs=len(belong),
        same_pairs=int(belong.sum()),
        eer_f=equal_error_rate(cosines(codes.f.unsqueeze(1))[a, b], belong),
        eer_z=equal_error_rate(cosines(codes.mean_z.unsqueeze(1))[a, b], belong),
    )
