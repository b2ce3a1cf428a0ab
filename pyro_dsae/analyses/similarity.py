"""Cosine similarity of the codes of pairs of sequences (Das & Dandi 2018, section III).

Where f holds the appearance, pairs of the same appearance are alike in f whatever their motion, and
the reverse for z. The paper shows twelve picked pairs; here they are drawn, and beside them stand
all pairs of a part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyro_dsae.analyses.codes import Codes, at_most
from pyro_dsae.analyses.pairs import all_pairs, auroc, cosines, same
from pyro_dsae.config import ConfigError
from pyro_dsae.sequences import known

TABLE = 12  # pairs that the paper shows


@dataclass(frozen=True)
class Pair:
    """Two sequences, by their indices in the part, and the cosines of their codes."""

    a: int
    b: int
    same_appearance: bool
    same_motion: bool
    cos_f: float
    cos_z: float


@dataclass(frozen=True)
class Spread:
    """Mean and percentiles of a cosine over the pairs of a stratum."""

    mean: float
    percentile_5: float
    percentile_95: float


@dataclass(frozen=True)
class Stratum:
    """All pairs that share, or do not share, appearance and motion."""

    same_appearance: bool
    same_motion: bool
    pairs: int
    cos_f: Spread
    cos_z: Spread


@dataclass(frozen=True)
class Similarity:
    """What the cosines of f and z_1:T say.

    Args:
        sequences: whose pairs were compared.
        table: twelve pairs at most, as many of each stratum.
        strata: same or different appearance times same or different motion; those that have pairs.
        auroc_appearance: probability that cos f is greater for a pair of the same appearance than
            for one of different appearance; None where the part lacks either kind.
        auroc_motion: the same for motion by cos z.
    """

    sequences: int
    table: list[Pair]
    strata: list[Stratum]
    auroc_appearance: float | None
    auroc_motion: float | None


def similarity(codes: Codes, static: np.ndarray, dynamic: np.ndarray, seed: int = 0) -> Similarity:
    """Compare all pairs of the sequences.

    Args:
        codes: of the sequences.
        static: labels of the appearance, int (N, k); -1 is unknown.
        dynamic: labels of the motion, int (N, m), likewise.
        seed: of the twelve pairs, and of the ``AT_MOST`` sequences that are taken of more, as pairs
            grow with their square.

    z is compared over the steps that both sequences have. The strata are of sequences whose labels
    are all known, an AUROC of those whose appearance, or motion, is.

    Raises ConfigError for fewer than two sequences.
    """
    if len(static) < 2:
        raise ConfigError(f"the part has {len(static)} sequence, but a pair needs two; use another")
    taken = at_most(np.arange(len(static)), seed)
    codes, static, dynamic = codes.take(taken), static[taken], dynamic[taken]
    a, b = all_pairs(len(taken))
    cos_f = cosines(codes.f.unsqueeze(1))[a, b]
    cos_z = cosines(codes.z, codes.lengths)[a, b]
    same_appearance = same(static, a, b)
    same_motion = same(dynamic, a, b)
    appears, moves = (told[a] & told[b] for told in (known(static), known(dynamic)))
    strata, members = [], []
    for who in (True, False):
        for what in (True, False):
            of_kind = (same_appearance == who) & (same_motion == what)
            rows = np.flatnonzero(of_kind & appears & moves)
            if rows.size:
                spreads = _spread(cos_f[rows]), _spread(cos_z[rows])
                strata.append(Stratum(who, what, len(rows), *spreads))
                members.append(rows)
    random = np.random.default_rng(seed)
    drawn = [
        row
        for rows in members
        for row in random.choice(rows, min(len(rows), TABLE // len(members)), replace=False)
    ]
    columns = (taken[a], taken[b], same_appearance, same_motion, cos_f, cos_z)
    return Similarity(
        sequences=len(taken),
        table=[Pair(*(column[row].item() for column in columns)) for row in drawn],
        strata=strata,
        auroc_appearance=auroc(cos_f[appears], same_appearance[appears]),
        auroc_motion=auroc(cos_z[moves], same_motion[moves]),
    )


def _spread(values: np.ndarray) -> Spread:
    low, high = np.percentile(values, (5, 95))
    return Spread(float(values.mean(dtype=np.float64)), float(low), float(high))
