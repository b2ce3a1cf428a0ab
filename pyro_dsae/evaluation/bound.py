"""The importance-weighted bound, which the ELBO is the case K = 1 of.

    L_K = E log (1/K) sum_k p(x, f_k, z_k) / q(f_k, z_k | x),    (f_k, z_k) ~ q

rises with K to the log evidence: Burda, Grosse & Salakhutdinov, Importance Weighted Autoencoders
(2016). L_K - L_1 for a large K estimates the inference gap, the KL from q to the posterior.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyro
import torch
from pyro import poutine
from torch import Tensor

from pyro_dsae.model import DSAE
from pyro_dsae.sequences import Sequences


@torch.no_grad()
def log_weights(
    dsae: DSAE, x: Tensor, mask: Tensor | None = None, particles: int = 64, at_once: int = 16
) -> Tensor:
    """log p(x, f, z) - log q(f, z | x) of draws from q, in nats, float64 (particles, B).

    The networks compute in eval mode and are left in the mode they were in.

    Args:
        x: frames in [0, 1], shape (B, T, C, H, W).
        mask: bool (B, T), True where a frame is observed.
        particles: draws from q for each sequence.
        at_once: draws in memory at a time; the memory goes with at_once * B * T frames.
    """
    chunks = []
    with _evaluating(dsae):
        for start in range(0, particles, at_once):
            # A plate on the left of the sequences: all draws in one pass through the networks.
            with pyro.plate("particles", min(at_once, particles - start), dim=-2):
                guide = poutine.trace(dsae.guide).get_trace(x, mask)
                model = poutine.trace(poutine.replay(dsae.model, guide)).get_trace(x, mask)
            chunks.append(_log_prob(model) - _log_prob(guide))
    return torch.cat(chunks)


def importance_weighted(weights: Tensor, k: int) -> Tensor:
    """An unbiased estimate of L_k from :func:`log_weights` (K, B), in nats a sequence, shape (B,).

    The mean over K / k groups of draws, so that one set of draws serves every k. Raises ValueError
    unless k divides K.
    """
    if k < 1 or len(weights) % k:
        raise ValueError(f"k is {k}, but must divide the {len(weights)} draws")
    groups = weights.reshape(-1, k, *weights.shape[1:])
    return (groups.logsumexp(dim=1) - math.log(k)).mean(dim=0)


def bounds(
    dsae: DSAE,
    sequences: Sequences,
    particles: Sequence[int] = (1, 64),
    *,
    batch_size: int = 16,
    at_once: int = 16,
    seed: int = 0,
) -> dict[int, Tensor]:
    """L_k of every sequence for every k in ``particles``: float64 (N,), in nats a sequence.

    All k share the same draws, as many as the largest, so each must divide that. Sequences are
    taken ``batch_size`` at a time, draws ``at_once``. The caller's random numbers are left alone.
    """
    device = next(dsae.parameters()).device
    devices = [device] if device.type == "cuda" else []
    found: dict[int, list[Tensor]] = {k: [] for k in particles}
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        for start in range(0, len(sequences), batch_size):
            indices = np.arange(start, min(start + batch_size, len(sequences)))
            x, mask = sequences.batch(indices, device)
            weights = log_weights(dsae, x, mask, max(particles), at_once)
            for k, values in found.items():
                values.append(importance_weighted(weights, k).cpu())
    return {k: torch.cat(values) for k, values in found.items()}


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """The mean over sequences (N,) and its standard error.

    For the gap between two bounds take their difference first: both share the spread of the data.
    """
    return values.mean().item(), (values.std() / len(values) ** 0.5).item()


def bits_per_dimension(nats: float, dimensions: int, levels: int = 256) -> float:
    """A log density of values in [0, 1] as bits for each value of integer data.

    Args:
        nats: log density, such as a bound, of ``dimensions`` values v = level / (levels - 1).
        dimensions: observed values, such as T C H W of a whole sequence.
        levels: 256 for 8-bit data, whose levels are 1 / 255 apart.

    The change of variables from v to its level divides the density by levels - 1, and a level's
    probability is the density times a width of 1: -nats / (dimensions ln 2) + log2(levels - 1).
    That holds where the density is flat over a level, a scale well above 1 / 255; below it, the
    figure is no code length.
    """
    return -nats / (dimensions * math.log(2)) + math.log2(levels - 1)


@contextmanager
def _evaluating(dsae: DSAE) -> Iterator[None]:
    training = [module for module in dsae.modules() if module.training]
    dsae.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _log_prob(trace: poutine.Trace) -> Tensor:
    """log p of a trace for each draw and sequence."""
    trace.compute_log_prob()
    return sum(
        site["log_prob"].double() for site in trace.nodes.values() if site["type"] == "sample"
    )
