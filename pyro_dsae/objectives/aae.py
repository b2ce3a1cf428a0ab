"""Adversarial autoencoder: the codes of all data together follow the prior, not those of each x.

Makhzani et al. (2016), Adversarial Autoencoders, section 2. In place of the KL two discriminators
tell codes from draws of the prior, and the guide learns to be taken for it:

    L = -E_q log p(x | f, z) + beta_f softplus(T_f(f)) + beta_z softplus(T_z(f, z_1:T)),    ~ q

with the logits T_f of log q(f) / p(f) and T_z of log q(f, z_1:T) / (p(f) p(z_1:T)), where q(f) and
q(f, z_1:T) are the averages over the data. softplus(T) = -log(1 - D) is the loss of Goodfellow et
al. (2014) that does not saturate. That f is seen by T_z as well asks for q(f, z_1:T) =
q(f) q(z_1:T): exactly where a swap is nothing new to the decoder.

p(z_1:T) is drawn from the model's prior. Where that has parameters, they are fitted by maximum
likelihood of the guide's codes, which is the p that is nearest to q in KL(q || p); a discriminator
teaches them nothing.

This is no bound: what the codes say about x costs nothing. ``kl_f`` and ``kl_z`` are logged alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn import functional as F

from pyro_dsae.model import DSAE
from pyro_dsae.networks import step_lengths
from pyro_dsae.objectives.discriminators import (
    SequenceDiscriminator,
    StaticDiscriminator,
    accuracy,
    logistic_loss,
)
from pyro_dsae.objectives.elbo import detached, kl_terms, parts_of, traces
from pyro_dsae.objectives.objective import Objective, held, latents

if TYPE_CHECKING:
    from pyro_dsae.training import TrainingConfig


class AdversarialAutoencoder(Objective):
    """-reconstruction + beta_f softplus(T_f) + beta_z softplus(T_z) - log p(z_1:T), routed.

    The guide has the gradient of all but the last term, the prior of z that of the last one, the
    discriminators that of their own logistic losses. beta_f and beta_z are ``kl_f_weight`` and
    ``kl_z_weight``; they are large, for a logit is small beside the nats of all pixels.
    """

    bound = False
    defaults = {"training": {"kl_f_weight": 30.0, "kl_f_growth": 1.0, "kl_z_weight": 30.0}}
    learning_rate = 1e-3

    def __init__(self, dsae: DSAE, config: TrainingConfig, sequences: int) -> None:
        super().__init__(dsae, config, sequences)
        static_dim, hidden_dim = dsae.config.static_dim, dsae.config.hidden_dim
        self.networks["static"] = StaticDiscriminator(static_dim, hidden_dim)
        self.networks["sequence"] = SequenceDiscriminator(
            static_dim, dsae.config.dynamic_dim, hidden_dim
        )

    def forward(
        self, x: Tensor, mask: Tensor | None, kl_f_weight: float, kl_z_weight: float
    ) -> Tensor:
        model, static, sequence = self.dsae.model, *self.networks.values()
        lengths = None if mask is None else step_lengths(mask)
        model_trace, guide_trace = traces(model, self.dsae.guide, x, mask)
        parts = parts_of(model_trace, kl_terms(model_trace, guide_trace))
        f, z = latents(guide_trace)
        with held(static, sequence):
            match_f = F.softplus(static(f)).sum()
            match_z = F.softplus(sequence(f, z, lengths)).sum()
        f_seen, z_seen = f.detach(), z.detach()
        with torch.no_grad():
            f_prior, z_prior = model.draw(*x.shape[:2])
        logits_f = static(f_seen), static(f_prior)
        logits_z = sequence(f_seen, z_seen, lengths), sequence(f_prior, z_prior, lengths)
        discriminators = logistic_loss(*logits_f) + logistic_loss(*logits_z)
        likelihood = self._log_prior(z_seen, lengths)
        self.parts = detached(parts) | {
            "match_f": match_f.detach(),
            "match_z": match_z.detach(),
            "log_prior": likelihood.detach(),
            "discriminator_loss": discriminators.detach(),
            "static_accuracy": len(x) * accuracy(*logits_f),
            "sequence_accuracy": len(x) * accuracy(*logits_z),
        }
        return (
            kl_f_weight * match_f
            + kl_z_weight * match_z
            - parts["reconstruction"]
            - likelihood
            + discriminators
        )

    def _log_prior(self, z: Tensor, lengths: Tensor | None) -> Tensor:
        """log p(z_1:T) of codes (B, T, dynamic_dim), in nats, summed over the batch."""
        found = []

        def score(name: str, prior: dist.Distribution) -> Tensor:
            t = int(name.removeprefix("z_"))
            real = 1.0 if lengths is None else (lengths > t).to(z.dtype)
            found.append((prior.log_prob(z[:, t]) * real).sum())
            return z[:, t]

        self.dsae.model.draw_dynamic(z[:, 0], z.shape[1], None, score)
        return torch.stack(found).sum()
