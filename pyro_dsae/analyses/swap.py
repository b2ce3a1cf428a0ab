"""The appearance of one sequence in the motion of another (Das & Dandi 2018, section III)."""

from __future__ import annotations

import numpy as np

from pyro_dsae.analyses.codes import encode
from pyro_dsae.model import DSAE
from pyro_dsae.sequences import Sequences, to_uint8


def swap(dsae: DSAE, sequences: Sequences, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """decode(f_a, z_b) of the sequences with indices ``a`` and ``b``, both (n,).

    A sequence swapped with itself is its reconstruction. Returns uint8 frames (n, T, H, W, C), of
    which those after the length of b say nothing. ``dsae`` is in eval mode.
    """
    f = encode(dsae, sequences.take(a)).f
    z = encode(dsae, sequences.take(b)).z
    return to_uint8(dsae.decode(f, z))
