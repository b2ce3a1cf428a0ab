"""The frames after a context, and how far from the truth they are, step by step.

What Denton & Birodkar (2017), Unsupervised Learning of Disentangled Representations from Video, do
with theirs: f and z of the first frames are inferred, then the prior of z rolls on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pyro_dsae.analyses.codes import batches, device_of
from pyro_dsae.analyses.reconstruct import frame_errors
from pyro_dsae.config import ConfigError
from pyro_dsae.model import DSAE
from pyro_dsae.sequences import Sequences, to_float, to_uint8


@dataclass(frozen=True)
class PredictionErrors:
    """Mean squared errors a pixel in [0, 1]^2, one for each step after the context.

    A step is scored over the sequences that have it, and is None where none has.

    Args:
        sequences: how many are longer than the context.
        mse: of the predicted frames.
        repeat_mse: of the context's last frame, repeated.
    """

    sequences: int
    mse: list[float | None]
    repeat_mse: list[float | None]


def prediction_errors(
    dsae: DSAE, sequences: Sequences, context: int, horizon: int | None = None
) -> PredictionErrors:
    """The errors of ``horizon`` frames after the first ``context`` ones, over all sequences.

    ``dsae`` is in eval mode.

    Args:
        context: frames the model sees.
        horizon: frames to predict; None for all that the longest sequence has.

    Raises:
        ConfigError: when ``context`` is below 1 or no sequence is longer, or ``horizon`` below 1.
    """
    longest = int(sequences.lengths.max())
    if not 1 <= context < longest:
        raise ConfigError(
            f"context is {context}, but must be at least 1 and below the longest sequence, which "
            f"has {longest} steps"
        )
    if horizon is not None and horizon < 1:
        raise ConfigError(f"horizon is {horizon}, but must be at least 1")
    horizon = longest - context if horizon is None else horizon
    scored = min(horizon, longest - context)
    longer, device = np.flatnonzero(sequences.lengths > context), device_of(dsae)
    totals = np.zeros((2, scored))
    for rows in batches(len(longer)):
        x, _ = sequences.batch(longer[rows], device)
        truth = x[:, context : context + scored]
        predicted = dsae.predict(x[:, :context], scored)
        lengths = torch.from_numpy(sequences.lengths[longer[rows]]).to(device)
        there = lengths.unsqueeze(-1) > torch.arange(context, context + scored, device=device)
        for total, frames in zip(totals, (predicted, x[:, context - 1 : context]), strict=True):
            errors = frame_errors(frames, truth) * there
            total += errors.sum(dim=0, dtype=torch.float64).cpu().numpy()
    counts = (sequences.lengths[longer, None] > np.arange(context, context + scored)).sum(axis=0)
    mse, repeat_mse = ([*map(float, total / counts)] for total in totals)
    beyond = [None] * (horizon - scored)
    return PredictionErrors(len(longer), mse + beyond, repeat_mse + beyond)


def predict(dsae: DSAE, frames: np.ndarray, horizon: int) -> np.ndarray:
    """uint8 context frames (N, T, H, W, C) to the next ones (N, horizon, H, W, C)."""
    return to_uint8(dsae.predict(to_float(frames, device_of(dsae)), horizon))
