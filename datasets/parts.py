"""Which sequences are for training and which for testing."""

from collections.abc import Sequence

import numpy as np

from pyro_dsae.datasets.hdf5 import DataError
from pyro_dsae.datasets.source import OptionError, check_seed

PARTS = ("train", "validation", "test")
EARLY, LATE = 0.6, 2 / 3  # of a group's sequences: train up to the one, test from the other


def grouped(names: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """A number for the group of each sequence, int (N,).

    names: of the groups (N,). owners: what each is cut from, int (N,): where the name is empty or
        NaN, the group is that of the owner.
    """
    known, groups = np.unique(names, return_inverse=True)
    unnamed = np.isnan(names) if names.dtype.kind == "f" else names.astype(str) == ""
    return np.unique(np.where(unnamed, len(known) + owners, groups), return_inverse=True)[1]


def drawn(groups: np.ndarray, fraction: float, seed: int) -> dict[str, np.ndarray]:
    """Parts "train" and "test", the latter with ``fraction`` of the groups (N,), seeded.

    Raises OptionError unless both get a group, and for a seed that is none.
    """
    check_seed(seed)
    if not 0 < fraction < 1:
        raise OptionError(f"test-fraction is {fraction}, but must be between 0 and 1")
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    count = round(fraction * len(names))
    if not 0 < count < len(names):
        raise OptionError(
            f"test-fraction = {fraction} of {len(names)} groups is {count}, but both parts need "
            "one; choose another fraction, or bring more"
        )
    test = np.isin(groups, names[:count])
    return {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}


def within_groups(groups: np.ndarray, overlap: int = 0) -> dict[str, np.ndarray] | None:
    """Parts "train" and "test" that share all groups: early and late sequences of each (N,).

    What lies between is in neither. None where no group has enough.

    overlap: how many of the next sequences share steps with one; so many lie between at least.
    """
    train, test = [], []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        stop = int(np.ceil(EARLY * len(rows)))
        train += rows[:stop].tolist()
        test += rows[max(int(np.ceil(LATE * len(rows))), stop + overlap) :].tolist()
    return {"train": np.sort(train), "test": np.sort(test)} if test else None


def named(where: str, names: Sequence[str], groups: np.ndarray) -> dict[str, np.ndarray]:
    """The indices of each part that ``names`` (N,) names.

    where: what gives the names, for the errors. groups: (N,), none of which may be in two parts.
    Raises DataError for another name, for no sequence to train or to test, and for a group that is
    torn apart.
    """
    found = {part: np.flatnonzero(np.asarray(names) == part) for part in PARTS}
    for name in names:
        if name not in PARTS:
            raise DataError(f"{where} is {name!r}, but must be one of: {', '.join(PARTS)}")
    for part in ("train", "test"):
        if not found[part].size:
            raise DataError(f"{where} names no sequence for {part}")
    for group in np.unique(groups):
        held = {names[n] for n in np.flatnonzero(groups == group)}
        if len(held) > 1:
            raise DataError(
                f"{where} tears a group of {(groups == group).sum()} sequences apart, into "
                f"{' and '.join(sorted(held))}; choose other parts, or another group"
            )
    return {part: rows for part, rows in found.items() if rows.size}
