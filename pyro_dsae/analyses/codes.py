"""The codes of many sequences, and the frames of many codes, a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyro_dsae.model import DSAE
from pyro_dsae.sequences import Sequences

BATCH = 32  # sequences at a time


@dataclass(frozen=True)
class Codes:
    """Posterior means of N sequences, on the model's device.

    Args:
        f: the static codes, shape (N, static_dim).
        z: the dynamic codes, shape (N, T, dynamic_dim); after a sequence's length they say nothing.
        lengths: real steps of each sequence, int (N,).
    """

    f: Tensor
    z: Tensor
    lengths: np.ndarray


def device_of(dsae: DSAE) -> torch.device:
    """Where the model lies."""
    return next(dsae.parameters()).device


def encode(dsae: DSAE, sequences: Sequences) -> Codes:
    """The codes of every sequence. ``dsae`` is in eval mode."""
    device, codes = device_of(dsae), []
    for rows in batches(len(sequences)):
        codes.append(dsae.encode(*sequences.batch(rows, device)))
    f, z = (torch.cat(parts) for parts in zip(*codes, strict=True))
    return Codes(f, z, sequences.lengths)


def batches(count: int) -> list[np.ndarray]:
    """The indices 0 ... count - 1 in batches."""
    return np.split(np.arange(count), range(BATCH, count, BATCH))
