"""Sequences through the model and back, and how far they come from where they were."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pyro_dsae.analyses.codes import Codes, batches, device_of
from pyro_dsae.model import DSAE
from pyro_dsae.sequences import Sequences


def reconstruction_mse(dsae: DSAE, sequences: Sequences, codes: Codes) -> float:
    """Mean squared error a pixel of decode(f, z) against x, over all real frames, in [0, 1]^2."""
    total, device = 0.0, device_of(dsae)
    for rows in batches(len(sequences)):
        x, mask = sequences.batch(rows, device)
        errors = frame_errors(dsae.decode(codes.f[rows], codes.z[rows]), x)
        total += (errors if mask is None else errors[mask]).sum(dtype=torch.float64).item()
    return total / int(sequences.lengths.sum())


def frame_errors(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error a pixel of each frame, (*, C, H, W) against the same to (*)."""
    return (x - y).square().mean(dim=(-3, -2, -1))


def picture_mse(picture: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared error a pixel in [0, 1]^2 of one 8-bit sequence, uint8 (T, H, W, C)."""
    return float(np.square((picture.astype(np.float64) - truth) / 255).mean())


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in dB of pixels in [0, 1]; infinite without an error."""
    return -10 * math.log10(mse) if mse else math.inf
