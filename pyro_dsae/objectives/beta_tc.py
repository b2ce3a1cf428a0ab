"""beta-TCVAE: the KL taken apart, and the total correlation of a code's units weighted more.

Chen, Li, Grosse & Duvenaud (2018), Isolating Sources of Disentanglement in VAEs, equation 2:

    KL = I(n; f) + KL(q(f) || prod_d q(f_d)) + sum_d KL(q(f_d) || p(f_d))

with n the index of a sequence and q(f) = E_n q(f | x_n): index-code mutual information, total
correlation and dimension-wise KL. The same of each z_t, summed over the steps. There n stands for
the sequence and the z_<t drawn for it, so that q(z_t) = E_n q(z_t | z_<t, x_n) is z_t's marginal;
against the lstm prior, which knows z_<t, the third term is E log prod_d q(z_t,d) / p(z_t | z_<t)
and can be negative. The three add up to the KL either way.

q(f) and q(f_d) are estimated from the other sequences of the batch, see :func:`aggregated`.

**Bias.** The log of an estimate is none of the log. With narrow posteriors each code is explained
by its own sequence alone, in q(f) sooner than in the q(f_d), and a total correlation comes out
where there is none, the larger the more units and the fewer sequences. Of 64 independent units with
posterior deviations of .1 under a unit prior, N = 8,550 and B = 8, that of 0 is estimated as 262
nats by stratified sampling and as 669 by weighted sampling, whose excess depends less on the
deviations: the gradients by the logarithm of all are -167 and -26, that of the KL is -63. So
beta-TC is in part a price on narrow posteriors. Of two units, with all sequences in the batch, the
estimate is good.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pyro.poutine import Trace
from torch import Tensor

from pyro_dsae.config import ConfigError, one_of
from pyro_dsae.objectives.elbo import AnalyticELBO, Bound

if TYPE_CHECKING:
    from pyro_dsae.training import TrainingConfig


def weighted(batch: int, sequences: int) -> Tensor:
    """Log weights (B, B) of minibatch-weighted sampling: 1 / (N B) for each.

    log q comes out too low by log N where the posteriors overlap, a constant without a gradient.
    """
    return torch.full((batch, batch), -math.log(sequences * batch))


def stratified(batch: int, sequences: int) -> Tensor:
    """Log weights (B, B) of minibatch-stratified sampling, appendix C.2.

    1 / N for a code's own sequence, 1 / (B - 1) for the others but one, which gets the rest of 1:
    an unbiased estimate of q. Without another sequence, all weight is on the code's own.
    """
    if batch == 1:
        return torch.zeros(1, 1)
    others = batch - 1
    weights = torch.full((batch, batch), 1 / others)
    rows = torch.arange(batch)
    weights[rows, rows] = 1 / sequences
    weights[rows, rows - 1] = max(0, sequences - others) / (sequences * others)
    return weights.log()


SAMPLING = {"weighted": weighted, "stratified": stratified}
TERMS = ("index_mi", "tc", "dimension_kl")


def aggregated(log_q: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """log q(f) and log q(f_d) at the codes of a batch, in nats, shapes (B,) and (B, D).

    Args:
        log_q: log q(f_d | x_n) of code b, shape (B, B, D), with n in the second place.
        log_weights: of n for b, shape (B, B); a key of :data:`SAMPLING` makes them.
    """
    joint = (log_q.sum(dim=-1) + log_weights).logsumexp(dim=1)
    return joint, (log_q + log_weights.unsqueeze(-1)).logsumexp(dim=1)


class TotalCorrelationELBO(AnalyticELBO):
    """-ELBO + tc_f TC_f + tc_z TC_z, where TC_z is the sum over the steps.

    With the true TC, which is not negative, this is a bound; what a batch estimates may be.

    The ELBO's own KL is analytic and holds each of the three terms once, so tc = beta - 1.
    ``parts`` has them at the samples besides: ``index_mi``, ``tc`` and ``dimension_kl``, each of f
    and of z.

    Args:
        sequences: N, over which n is distributed.
        tc_f, tc_z: weights.
        sampling: a key of :data:`SAMPLING`.
    """

    def __init__(self, sequences: int, tc_f: float, tc_z: float, sampling: str) -> None:
        super().__init__()
        self.sequences, self.sampling = sequences, SAMPLING[sampling]
        self.weights = {"f": tc_f, "z": tc_z}

    def particle(self, model_trace: Trace, guide_trace: Trace) -> Tensor:
        loss = super().particle(model_trace, guide_trace)
        terms: dict[str, Tensor] = {}
        for name, site in guide_trace.nodes.items():
            if name == "f" or name.startswith("z_"):
                prior = model_trace.nodes[name]["fn"]
                for term, value in self._decomposed(site, prior).items():
                    key = f"{term}_{name[0]}"
                    terms[key] = terms.get(key, 0) + value
        for code, weight in self.weights.items():
            loss = loss + weight * terms[f"tc_{code}"]
        self.parts = self.parts | {name: value.detach() for name, value in terms.items()}
        return loss

    def _decomposed(self, site: dict[str, Any], prior: Any) -> dict[str, Tensor]:
        """The three terms of one site, in nats, summed over the sequences that have it."""
        value, q = site["value"], site["fn"].base_dist
        log_p, loc, scale = prior.log_prob(value), q.loc, q.scale
        if isinstance(site["mask"], Tensor):
            value, log_p, loc, scale = (each[site["mask"]] for each in (value, log_p, loc, scale))
        if not len(value):  # no sequence of the batch is so long
            return dict.fromkeys(TERMS, log_p.sum())
        # Of every code under the posterior of every sequence: (B, B, D).
        log_q = torch.distributions.Normal(loc, scale).log_prob(value.unsqueeze(1))
        # Of all sequences as many as of the batch's are so long, by this batch's measure.
        sequences = max(len(value), round(self.sequences * len(value) / len(site["value"])))
        joint, marginals = aggregated(log_q, self.sampling(len(value), sequences).to(value))
        own = log_q.diagonal().sum(dim=0)  # (B,)
        terms = own - joint, joint - marginals.sum(dim=-1), marginals.sum(dim=-1) - log_p
        return {name: term.sum() for name, term in zip(TERMS, terms, strict=True)}


class BetaTC(Bound):
    """-ELBO + tc_f TC_f + tc_z TC_z, the KL in the ELBO weighted as the config says."""

    estimates = False

    @dataclass(frozen=True)
    class Options:
        """Weights beside those of the KL.

        Args:
            tc_f: of TC_f: beta - 1 in the paper, whose best beta on images is about 6.
            tc_z: of TC_z.
            sampling: how q(f) is estimated, a key of :data:`SAMPLING`.
        """

        tc_f: float = 1.0
        tc_z: float = 1.0
        sampling: str = "weighted"

        def __post_init__(self) -> None:
            one_of("sampling", self.sampling, SAMPLING)
            for field in ("tc_f", "tc_z"):
                if not getattr(self, field) >= 0:
                    raise ConfigError(
                        f"{field} is {getattr(self, field)}, but must not be negative"
                    )

    def make_estimator(self, config: TrainingConfig, sequences: int) -> TotalCorrelationELBO:
        options = self.options
        return TotalCorrelationELBO(sequences, options.tc_f, options.tc_z, options.sampling)
