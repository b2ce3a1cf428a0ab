"""Speaker verification: do two sequences have the same static group, by the cosine of their codes?

The equal error rate of f is best at 0. That of z, averaged over the steps so that it needs no
alignment, is one half where z says nothing at all. Where every one of M motions is there once for
each who, no pair of one who shares its motion, so a z that knows the motion alone has M / (2M - 1),
which is the best there. A cosine looks through any scaling: codes that hardly differ, of units that
are not active, are verified as well as any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyro_dsae.analyses.codes import Codes, at_most
from pyro_dsae.analyses.pairs import all_pairs, cosines, equal_error_rate, same
from pyro_dsae.sequences import known


@dataclass(frozen=True)
class Rates:
    """Equal error rates over all pairs of sequences whose labels are known.

    Args:
        sequences: how many there are.
        pairs: all of them.
        same_pairs: those of the same labels.
        eer_f: equal error rate of the cosine of f; None where either kind of pair is missing.
        eer_z: the same of the mean z.
    """

    sequences: int
    pairs: int
    same_pairs: int
    eer_f: float | None
    eer_z: float | None


@dataclass(frozen=True)
class Verification(Rates):
    """Where the same is what shares all its labels, and:

    Args:
        factors: by the name of a factor, where the same is what shares that one.
    """

    factors: dict[str, Rates]


def verification(
    codes: Codes, static: np.ndarray, names: Sequence[str] = (), seed: int = 0
) -> Verification:
    """Verify every pair of the sequences.

    Args:
        codes: of the sequences.
        static: labels of who or what a sequence shows, int (N, k); -1 is unknown.
        names: of these factors; without any, none is verified by itself.
        seed: of the ``AT_MOST`` sequences that are taken of more, as pairs grow with their square.
    """
    taken = at_most(np.arange(len(static)), seed)
    codes, static = codes.take(taken), static[taken]
    alike = cosines(codes.f.unsqueeze(1)), cosines(codes.mean_z.unsqueeze(1))

    def rates(labels: np.ndarray) -> Rates:
        rows = np.flatnonzero(known(labels))
        a, b = (rows[ends] for ends in all_pairs(len(rows)))
        belong = same(labels, a, b)
        eer_f, eer_z = (equal_error_rate(scores[a, b], belong) for scores in alike)
        return Rates(len(rows), len(belong), int(belong.sum()), eer_f, eer_z)

    return Verification(
        **vars(rates(static)),
        factors={name: rates(static[:, n : n + 1]) for n, name in enumerate(names)},
    )
