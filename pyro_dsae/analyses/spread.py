"""How far a series may be from where the model puts it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from pyro_dsae.analyses.codes import device_of, seeded
from pyro_dsae.likelihoods import LIKELIHOODS
from pyro_dsae.model import DSAE
from pyro_dsae.sequences import Sequences

DRAWS = 32


def spread(
    dsae: DSAE, sequences: Sequences, draw: Callable[[], np.ndarray], seed: int = 0
) -> np.ndarray:
    """Standard deviation of what ``draw`` gives, (N, T, D), in the units it is stored in.

    It is that over draws of the codes and that of the likelihood around each of them.

    Args:
        sequences: where the units are from.
        draw: one draw of series as they are stored, float32 (N, T, D).
        seed: of the draws.
    """
    with seeded(seed, device_of(dsae)):
        drawn = np.stack([draw() for _ in range(DRAWS)])
    scale = torch.as_tensor(dsae.model.scale).detach().cpu()
    likelihood = LIKELIHOODS[dsae.config.likelihood]
    noise = likelihood(torch.zeros(dsae.config.frame_shape), scale).stddev.numpy()
    if sequences.standard is not None:
        noise = noise * sequences.standard.scale
    return np.sqrt(drawn.var(axis=0) + noise**2)
