"""Sequences through the model and back, and how far they come from where they were."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pyro_dsae.analyses.codes import Codes, batches, device_of
from pyro_dsae.model import DSAE
from pyro_dsae.networks import per_value
from pyro_dsae.sequences import Sequences


def reconstruction_mse(dsae: DSAE, sequences: Sequences, codes: Codes) -> float:
    """Mean squared error a value of decode(f, z) against x, over all that is observed.

    That is a pixel in [0, 1]^2, or a value of a series in units of the channel's variance.
    """
    total, count, device = 0.0, 0, device_of(dsae)
    for rows in batches(len(sequences)):
        x, mask = sequences.batch(rows, device)
        errors, counts = squared_errors(dsae.decode(codes.f[rows], codes.z[rows]), x, mask)
        total += errors.sum(dtype=torch.float64).item()
        count += int(counts.sum())
    return total / count


def squared_errors(x: Tensor, y: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Squared errors of the values in ``mask``, summed over each frame, and how many these are.

    Args:
        x, y: (B, T, ...), which may broadcast.
        mask: bool (B, T) or (B, T, D); None for all values.

    Returns both (B, T).
    """
    errors = (x - y).square()
    if mask is None:
        mask = torch.ones(errors.shape[:2], dtype=torch.bool, device=errors.device)
    held = per_value(mask, errors).expand_as(errors)
    return (errors * held).flatten(2).sum(dim=-1), held.flatten(2).sum(dim=-1)


def frame_errors(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error a pixel of each frame, (*, C, H, W) against the same to (*)."""
    return (x - y).square().mean(dim=(-3, -2, -1))


def picture_mse(picture: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared error a pixel in [0, 1]^2 of one 8-bit sequence, uint8 (T, H, W, C)."""
    return float(np.square((picture.astype(np.float64) - truth) / 255).mean())


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in dB of pixels in [0, 1]; infinite without an error."""
    return -10 * math.log10(mse) if mse else math.inf
