"""The bound: the ELBO with its parts, and the importance-weighted bound, which it is K = 1 of.

    L_K = E log (1/K) sum_k p(x, f_k, z_k) / q(f_k, z_k | x),    (f_k, z_k) ~ q

rises with K to the log evidence: Burda, Grosse & Salakhutdinov, Importance Weighted Autoencoders
(2016). L_K - L_1 for a large K estimates the inference gap, the KL from q to the posterior.
Active units are theirs as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyro
import torch
from pyro import poutine
from torch import Tensor

from pyro_dsae.analyses.codes import BATCH, batches, device_of, seeded
from pyro_dsae.distributed import ALONE, World
from pyro_dsae.model import DSAE
from pyro_dsae.networks import observed_steps
from pyro_dsae.objectives.elbo import AnalyticELBO, per_sequence
from pyro_dsae.sequences import Sequences

ACTIVE = 0.01  # variance of the posterior mean over the data above which a unit counts as active
FRAMES = 2048  # that are decoded at once for the importance-weighted bound, or one draw's


@dataclass(frozen=True)
class BoundScores:
    """The bound on a part, in nats a sequence.

    Args:
        sequences: how many the ELBO, its parts and the active units are over: all.
        elbo: ``reconstruction - kl_f - kl_z``.
        reconstruction: E_q log p(x | f, z).
        kl_f: KL(q(f | x) || p(f)).
        kl_z: the same of z_1:T, summed over the steps.
        active_f: units of f that say something about x; see :func:`active_units`.
        active_z: the same for z_t, over all observed steps of all sequences.
        weighted_sequences: how many the importance-weighted bound is over, drawn with the seed.
        particles: its K.
        weighted_bound: L_K.
        weighted_bound_error: its standard error over sequences; None of a single one.
        gain: L_K - L_1 of the same sequences and draws: with a large K, the inference gap.
        gain_error: its standard error over sequences, likewise.
    """

    sequences: int
    elbo: float
    reconstruction: float
    kl_f: float
    kl_z: float
    active_f: int
    active_z: int
    weighted_sequences: int
    particles: int
    weighted_bound: float
    weighted_bound_error: float | None
    gain: float
    gain_error: float | None


def bound_scores(
    dsae: DSAE, sequences: Sequences, particles: int = 64, at_most: int = 64, seed: int = 0
) -> BoundScores:
    """The ELBO of all sequences, and L_K of ``at_most`` random ones. ``dsae`` is in eval mode.

    Args:
        particles: K.
        at_most: each of these sequences is decoded K times.
        seed: of the noise and of the choice.
    """
    with seeded(seed, device_of(dsae)):
        parts, active = elbo_parts(dsae, sequences)
    chosen = np.random.default_rng(seed).permutation(len(sequences))[:at_most]
    found = bounds(dsae, sequences.take(chosen), (1, particles), seed=seed)
    bound, bound_error = mean_and_error(found[particles])
    gain, gain_error = mean_and_error(found[particles] - found[1])
    return BoundScores(
        sequences=len(sequences),
        **parts,
        **active,
        weighted_sequences=len(chosen),
        particles=particles,
        weighted_bound=bound,
        weighted_bound_error=bound_error,
        gain=gain,
        gain_error=gain_error,
    )


@torch.no_grad()
def elbo_parts(
    dsae: DSAE,
    sequences: Sequences,
    batch_size: int = BATCH,
    world: World = ALONE,
) -> tuple[dict[str, float], dict[str, int]]:
    """The ELBO and its parts in nats a sequence, and the active units, over all sequences.

    The first has ``elbo``, ``reconstruction``, ``kl_f`` and ``kl_z``, from one draw for each
    sequence; the second ``active_f`` and ``active_z``. ``dsae`` is in eval mode.

    Args:
        world: the processes that share the work, of which each gets the result.
    """
    objective = AnalyticELBO()
    totals: dict[str, Tensor] = {}
    means: dict[str, list[Tensor]] = {"f": [], "z": []}
    for rows in batches(len(sequences), batch_size):
        own = world.share(rows)
        if not len(own):
            continue
        x, mask = sequences.batch(own, device_of(dsae))
        with world.whole_batch(len(rows)):
            objective.loss(dsae.model, dsae.guide, x, mask)
        for name, value in objective.parts.items():
            totals[name] = totals.get(name, 0) + value.double()
        f, z = dsae.encode(x, mask)
        means["f"].append(f)
        means["z"].append(z.flatten(0, 1) if mask is None else z[observed_steps(mask)])
    active = {
        f"active_{name}": active_units(torch.cat(values), world) for name, values in means.items()
    }
    return per_sequence(world.sum(totals), len(sequences)), active


def active_units(means: Tensor, world: World = ALONE) -> int:
    """How many units' posterior means (N, D) have a variance over the data above ``ACTIVE``.

    Args:
        world: the processes that have a part of the means each.
    """
    count = means.new_full((), len(means), dtype=torch.float64)
    sums = world.sum({"count": count, "means": means.double().sum(dim=0)})
    centred = means - sums["means"] / sums["count"]
    variance = world.sum({"of": (centred**2).sum(dim=0)})["of"] / sums["count"]
    return int((variance > ACTIVE).sum())


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
    seed: int = 0,
) -> dict[int, Tensor]:
    """L_k of every sequence for every k in ``particles``: float64 (N,), in nats a sequence.

    All k share the same draws, as many as the largest, so each must divide that. Sequences are
    taken ``batch_size`` at a time, draws as many as make ``FRAMES`` frames. The caller's random
    numbers are left alone.
    """
    at_once = max(1, FRAMES // (batch_size * sequences.steps))
    device = device_of(dsae)
    found: dict[int, list[Tensor]] = {k: [] for k in particles}
    with seeded(seed, device):
        for rows in batches(len(sequences), batch_size):
            x, mask = sequences.batch(rows, device)
            weights = log_weights(dsae, x, mask, max(particles), at_once)
            for k, values in found.items():
                values.append(importance_weighted(weights, k).cpu())
    return {k: torch.cat(values) for k, values in found.items()}


def mean_and_error(values: Tensor) -> tuple[float, float | None]:
    """The mean over sequences (N,) and its standard error, None of a single one.

    For the gap between two bounds take their difference first: both share the spread of the data.
    """
    several = len(values) > 1
    return values.mean().item(), (values.std() / len(values) ** 0.5).item() if several else None


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
