"""The appearance of one sequence in the motion of another (Das & Dandi 2018, section III)."""

from __future__ import annotations

import numpy as np

from pyro_dsae.analyses.codes import device_of
from pyro_dsae.model import DSAE
from pyro_dsae.sequences import Sequences


def swap(
    dsae: DSAE, sequences: Sequences, a: np.ndarray, b: np.ndarray, sample: bool = False
) -> np.ndarray:
    """decode(f_a, z_b) of the sequences with indices ``a`` and ``b``, both (n,).

    A sequence swapped with itself is its reconstruction. Returns them as they are stored, uint8
    (n, T, H, W, C) or float32 (n, T, D); what is after the length of b says nothing. ``dsae`` is in
    eval mode. With ``sample`` the codes are one draw from q, not its means.
    """
    device = device_of(dsae)
    f, _ = dsae.encode(*sequences.batch(a, device), sample)
    _, z = dsae.encode(*sequences.batch(b, device), sample)
    return sequences.restore(dsae.decode(f, z))
