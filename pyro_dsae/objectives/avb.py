"""Adversarial variational Bayes: a posterior of any shape, its density ratio by a discriminator.

Mescheder, Nowozin & Geiger (2017), algorithm 1 with adaptive contrast. The guide gets
noise as an input, so q(f, z_1:T | x) can be drawn from but has no density. With r(f, z | x) the
product of normals r(f | x) and r(z_t | z_<t, f, x), of the means and variances that q's factors
have over the noise, for any r

    KL(q(f | x) || p(f)) = E_q [T_f + log r(f | x) - log p(f)],    T_f = log q(f | x) / r(f | x)

and the same of f with z_1:T, where the logits T of a discriminator between draws from q and from r
estimate the ratio. It is near 0 the nearer q is to r, so that there is little to estimate. So r
has to know z_<t: beside an r of x alone a guide that carries z_1 from step to step, larger every
time, is told from it at once, and no logit grows as fast as the ratio. KL_z was then estimated at
-3,700 nats a sequence. By the chain rule KL_z is the one of both less the one of f. The loss is

    L = -E_q log p(x | f, z) + beta_f KL_f + beta_z KL_z.

**Bias.** ``kl_f``, ``kl_z`` and ``elbo`` of training are estimates: discriminators that lag behind
tell q and r apart too little, so the KL of f, and that of f with z, come out too small and the ELBO
too high; those that are too sure err the other way, and ``kl_z``, a difference, either way.

A guide lives off that lag if it may. Means that follow the noise, with small deviations, look like
the prior to r, and tell the decoder all: on Sprites KL_z was estimated at 0 nats and was 1,514
with the noise given, for a logistic loss that is right in all cases asks for no larger logits. But
with the noise given q is normal, and its KL larger than that of q, by the information of the codes
about the noise. So no KL is taken to be lower than that less ``SPARED`` = 5 nats:

    log q(f | x) ~ max(T_f + log r(f | x), log q(f | x, noise) - SPARED),    on average over a batch

and the same of f with z_1:T. Whatever the discriminators say, the ELBO is then too high by 5 nats a
sequence at most (with beta_f = beta_z = 1), and noise that says more is paid for. The bound that
is taken on held-out data, ``validation_elbo`` and in ``dsae evaluate``, is with the noise given,
and so is never too high.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from pyro_dsae.config import ConfigError
from pyro_dsae.guides import Guide, Reading
from pyro_dsae.model import DSAE
from pyro_dsae.networks import real_steps
from pyro_dsae.objectives.discriminators import (
    SequenceDiscriminator,
    StaticDiscriminator,
    accuracy,
    logistic_loss,
)
from pyro_dsae.objectives.objective import Objective, held

if TYPE_CHECKING:
    from pyro_dsae.training import TrainingConfig

DRAWS = 8  # of the noise, for the means and variances of q
SPARED = 5.0  # nats a sequence; two normals that far apart overlap little, and can still be learnt


class AVB(Objective):
    """-reconstruction + beta_f KL_f + beta_z KL_z, the KL terms by the ratios of discriminators.

    The model and the guide have the gradient of this, the discriminators that of their logistic
    losses; T has no gradient but that of its inputs, since E_q dT = 0 (proposition 2). beta_f and
    beta_z are ``kl_f_weight`` and ``kl_z_weight``.

    ``contrast_f`` and ``contrast_z`` are E T_f and that of both, in nats: what r misses.
    ``noise_f`` and ``noise_z``, of f and of both, are how far the KL with the noise given is above
    the estimate by T: above ``SPARED`` the former, less that, is taken.

    Raises ConfigError when the guide gets no noise.
    """

    bound = False
    defaults = {"model": {"noise_dim": 16}}
    learning_rate = 1e-3

    def __init__(self, dsae: DSAE, config: TrainingConfig, sequences: int) -> None:
        super().__init__(dsae, config, sequences)
        if not dsae.config.noise_dim:
            raise ConfigError(
                "noise_dim is 0, but objective 'avb' is for a guide with noise; use 16, for example"
            )
        static_dim, dynamic_dim = dsae.config.static_dim, dsae.config.dynamic_dim
        hidden_dim, code_dim = dsae.config.hidden_dim, dsae.config.code_dim
        self.networks["static"] = StaticDiscriminator(static_dim, hidden_dim, code_dim)
        self.networks["sequence"] = SequenceDiscriminator(
            static_dim, dynamic_dim, hidden_dim, 2 * code_dim
        )

    def forward(
        self, x: Tensor, mask: Tensor | None, kl_f_weight: float, kl_z_weight: float
    ) -> Tensor:
        dsae, static, sequence = self.dsae, *self.networks.values()
        reading = dsae.guide.read(x, mask)
        lengths = reading.lengths
        posteriors: dict[str, dist.Distribution] = {}  # with the noise given

        def draw(name: str, q: dist.Distribution) -> Tensor:
            posteriors[name] = q
            return q.rsample()

        f, z = dsae.guide.walk(reading, draw)
        contrast = moments(dsae.guide, reading, f, z)
        seen, summary = context(reading)

        data = _by_site(f, z)
        model_trace = poutine.trace(poutine.condition(dsae.model, data)).get_trace(x, mask)
        model_trace.compute_log_prob()
        sites = model_trace.nodes
        reconstruction = sites["x"]["log_prob_sum"]
        log_p_f = sites["f"]["log_prob_sum"]
        log_p_z = torch.stack([sites[name]["log_prob_sum"] for name in data if name != "f"]).sum()

        (f_mean, f_scale), (z_mean, z_scale) = contrast
        real = 1 if lengths is None else real_steps(lengths, z.shape[1])
        log_r_f = dist.Normal(f_mean, f_scale).log_prob(f).sum()
        log_r_z = (dist.Normal(z_mean, z_scale).log_prob(z).sum(dim=-1) * real).sum()
        log_given = {name: posteriors[name].log_prob(value) for name, value in data.items()}
        given_f = log_given.pop("f").sum()
        given_both = given_f + (torch.stack([*log_given.values()], dim=1) * real).sum()
        # In units of r, which is N(0, I) then.
        f_unit, z_unit = (f - f_mean) / f_scale, (z - z_mean) / z_scale
        with held(static, sequence):
            ratio_f = static(f_unit, summary).sum()
            ratio_both = sequence(f_unit, z_unit, lengths, seen).sum()
        log_q_f, log_q_both = ratio_f + log_r_f, ratio_both + log_r_f + log_r_z
        noise_f, noise_both = given_f - log_q_f, given_both - log_q_both
        kl_f = torch.maximum(log_q_f, given_f - len(x) * SPARED) - log_p_f
        kl_both = torch.maximum(log_q_both, given_both - len(x) * SPARED) - log_p_f - log_p_z
        kl_z = kl_both - kl_f

        f_seen, z_seen = f_unit.detach(), z_unit.detach()
        f_r, z_r = torch.randn_like(f_seen), torch.randn_like(z_seen)
        logits_f = static(f_seen, summary), static(f_r, summary)
        logits_both = (sequence(f_seen, z_seen, lengths, seen), sequence(f_r, z_r, lengths, seen))
        discriminators = logistic_loss(*logits_f) + logistic_loss(*logits_both)
        self.parts = {
            "reconstruction": reconstruction.detach(),
            "kl_f": kl_f.detach(),
            "kl_z": kl_z.detach(),
            "contrast_f": ratio_f.detach(),
            "contrast_z": ratio_both.detach(),
            "noise_f": noise_f.detach(),
            "noise_z": noise_both.detach(),
            "discriminator_loss": discriminators.detach(),
            "static_accuracy": len(x) * accuracy(*logits_f),
            "sequence_accuracy": len(x) * accuracy(*logits_both),
        }
        return kl_f_weight * kl_f + kl_z_weight * kl_z - reconstruction + discriminators


Moments = tuple[Tensor, Tensor]  # means and standard deviations


@torch.no_grad()
def moments(
    guide: Guide, reading: Reading, f: Tensor, z: Tensor, draws: int = DRAWS
) -> tuple[Moments, Moments]:
    """Means and deviations over the noise of q(f | x), (B, static_dim), and of every
    q(z_t | z_<t, f, x), (B, T, dynamic_dim), at the f and the z_<t that are given.

    By the law of total variance over an even number of ``draws`` of the noise, the same for all
    sequences and at every call: r is a function of x and z_<t alone, or the logits would be those
    of an average over r, and too near 0. No gradient is taken through it, nor needed: with exact
    logits E_q [T + log r] does not depend on r.
    """
    fixed = torch.Generator(reading.codes.device).manual_seed(0)
    given = _by_site(f, z)
    found: dict[str, dist.Normal] = {}

    def draw(name: str, q: dist.Independent) -> Tensor:  # (draws, B, *)
        if name in given:
            found[name] = q.base_dist
            return given[name].expand(draws, *given[name].shape)
        shape = (draws // 2, 1, *q.event_shape)
        half = torch.randn(shape, generator=fixed, dtype=q.mean.dtype, device=q.mean.device)
        return torch.cat([half, -half]).expand(draws, *q.mean.shape)

    guide.walk(reading, draw)
    means, scales = {}, {}
    for name, q in found.items():
        means[name] = q.loc.mean(dim=0)
        within, between = q.scale.square().mean(dim=0), q.loc.var(dim=0, correction=0)
        scales[name] = (within + between).sqrt()
    steps = [name for name in found if name != "f"]
    of_z = tuple(torch.stack([each[name] for name in steps], dim=1) for each in (means, scales))
    return (means["f"], scales["f"]), of_z


def context(reading: Reading) -> tuple[Tensor, Tensor]:
    """What discriminators see of x: of f and z (B, T, 2 code_dim), of f alone (B, code_dim).

    Those of f and z see what f is inferred from as well, which under a view is not what z is: the
    logits would else be those of an average over q(f | x). For the same reason the part that f is
    inferred from is zero where static dropout has p(f) in the place of q(f | x).
    """
    (static_codes, _, lengths), kept = reading.static, reading.kept
    summary = static_codes.mean(dim=1)
    if lengths is not None:
        summary = static_codes.sum(dim=1) / lengths.unsqueeze(-1)
    if kept is not None:
        summary = summary * kept
    both = torch.cat([reading.codes, summary.unsqueeze(1).expand_as(reading.codes)], dim=-1)
    return both.detach(), summary.detach()


def _by_site(f: Tensor, z: Tensor) -> dict[str, Tensor]:
    """f (B, static_dim) and every z_t (B, dynamic_dim), by the names that programs give them."""
    return {"f": f} | {f"z_{t}": z[:, t] for t in range(z.shape[1])}
