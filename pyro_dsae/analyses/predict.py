"""The frames after a context, and how far from the truth they are, step by step.

What Denton & Birodkar (2017), Unsupervised Learning of Disentangled Representations from Video, do
with theirs: f and z of the first frames are inferred, then the prior of z rolls on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyro_dsae.analyses.codes import batches, device_of
from pyro_dsae.analyses.complete import forward_fill
from pyro_dsae.analyses.reconstruct import squared_errors
from pyro_dsae.config import ConfigError
from pyro_dsae.model import DSAE
from pyro_dsae.networks import per_value, step_lengths
from pyro_dsae.sequences import Sequences


@dataclass(frozen=True)
class PredictionErrors:
    """Mean squared errors, one for each step after the context.

    They are those of a pixel in [0, 1]^2, or of a value of a series in units of the channel's
    variance. A step is scored over the sequences that have it, and is None where none has.

    Args:
        sequences: how many are longer than the context, and observed in it.
        mse: of the predicted frames.
        repeat_mse: of the context's last frame, repeated: of each channel its last observed value.
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
        ConfigError: when ``context`` is below 1, or no sequence is longer and observed in it, or
            ``horizon`` below 1.
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
    longer, device = predictable(sequences, context), device_of(dsae)
    if not longer.size:
        raise ConfigError(
            f"context is {context}, but nothing is observed in the first {context} steps of any "
            "longer sequence; use more"
        )
    totals, counts = np.zeros((2, scored)), np.zeros(scored)
    for rows in batches(len(longer)):
        x, mask = sequences.batch(longer[rows], device)
        seen, mask = _context(x, mask, context)
        observed = torch.from_numpy(sequences.observed()[longer[rows]]).to(device)
        last = forward_fill(seen, observed[:, :context])[:, -1:]
        ahead = slice(context, context + scored)
        for total, frames in zip(totals, (_after(dsae, seen, scored, mask), last), strict=True):
            errors, held = squared_errors(frames, x[:, ahead], observed[:, ahead])
            total += errors.sum(dim=0, dtype=torch.float64).cpu().numpy()
        counts += held.sum(dim=0).cpu().numpy()
    mse, repeat_mse = (
        [error / count if count else None for error, count in zip(total, counts, strict=True)]
        + [None] * (horizon - scored)
        for total in totals.tolist()
    )
    return PredictionErrors(len(longer), mse, repeat_mse)


def predictable(sequences: Sequences, context: int) -> np.ndarray:
    """Indices of the sequences that go on after ``context`` steps, and are observed in these."""
    seen = sequences.observed()[:, :context].reshape(len(sequences), -1).any(axis=1)
    return np.flatnonzero(seen & (sequences.lengths > context))


def predict(
    dsae: DSAE, sequences: Sequences, context: int, horizon: int, sample: bool = False
) -> np.ndarray:
    """The ``horizon`` frames after the first ``context`` ones, as they are stored: uint8
    (N, horizon, H, W, C) or float32 (N, horizon, D); with ``sample``, one draw."""
    x, mask = sequences.batch(np.arange(len(sequences)), device_of(dsae))
    seen, mask = _context(x, mask, context)
    return sequences.restore(_after(dsae, seen, horizon, mask, sample))


def _after(
    dsae: DSAE, seen: Tensor, horizon: int, mask: Tensor | None, sample: bool = False
) -> Tensor:
    """The ``horizon`` frames after a context, (B, horizon, ...), observed to its end or not."""
    if mask is None:
        return dsae.predict(seen, horizon, sample=sample)
    missing = seen.shape[1] - step_lengths(mask)  # steps at the end of each context, (B,)
    frames = dsae.predict(seen, int(missing.max()) + horizon, mask, sample)
    ahead = missing.unsqueeze(-1) + torch.arange(horizon, device=seen.device)
    return frames.take_along_dim(per_value(ahead, frames), dim=1)


def _context(x: Tensor, mask: Tensor | None, context: int) -> tuple[Tensor, Tensor | None]:
    """The first ``context`` steps of a batch of longer sequences, and their mask."""
    if mask is not None:
        mask = mask[:, :context]
        mask = None if mask.all() else mask
    return x[:, :context], mask
