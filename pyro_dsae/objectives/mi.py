"""f and z that say different things: less mutual information, and contrast between views.

After Bai, Wang & Gomes (2021), Contrastively Disentangled Sequential VAE. A penalty on
I(f; z_1:T), and two terms that ask f to be the same for a sequence in another order of time, and
z_1:T for one of another appearance:

    L = -ELBO + mi max(I(f; z_1:T), 0) + contrast_f C_f + contrast_z C_z

I is not estimated from posterior densities within a batch, as there: with narrow posteriors each
code is explained by its own sequence alone, and that estimate is a constant. It comes from a
discriminator of pairs (f, z_1:T) against shuffled ones, whose logit T is the log ratio

    I(f; z_1:T) = E_q(f, z) T,    T = log q(f, z_1:T) / (q(f) q(z_1:T)).

A discriminator that lags behind what the guide does may put it below 0. The loss takes it for 0
there, or the guide would be paid for deceiving.

C is InfoNCE (van den Oord et al. 2018, equation 4): the cross entropy of naming, by cosines of
posterior means, which of a batch's views is of the same sequence. log B - C bounds the information
of the code about the sequence from below.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from pyro_dsae.config import ConfigError
from pyro_dsae.guides import Reading
from pyro_dsae.model import DSAE
from pyro_dsae.networks import encoded, real_steps, visible
from pyro_dsae.objectives.discriminators import SequenceDiscriminator, accuracy, logistic_loss
from pyro_dsae.objectives.elbo import detached, kl_terms, parts_of, traces
from pyro_dsae.objectives.objective import Objective, held, latents
from pyro_dsae.views import shuffled

if TYPE_CHECKING:
    from pyro_dsae.training import TrainingConfig


class MutualInformation(Objective):
    """-ELBO + mi max(I(f; z_1:T), 0) + contrast_f C_f + contrast_z C_z.

    The other order of time is one of frame codes, and the other appearance is the guide's own view,
    against the sequence as it is; frames are encoded once more for that where f has an encoder of
    its own.

    Raises ConfigError when the guide has no view of z, or one of f.
    """

    # Under a view alone z falls silent, and f says all: see docs/apart.md.
    defaults = {"model": {"dynamic_view": "colour", "static_dropout": 0.5}}
    learning_rate = 1e-3

    @dataclass(frozen=True)
    class Options:
        """Weights of the terms, in nats, and how sharp the contrast is.

        Args:
            mi: of the mutual information of f and z_1:T.
            contrast_f: of the contrast of f with that of the sequence in another order.
            contrast_z: of the contrast of z_1:T with that of the sequence in another appearance.
            temperature: by which cosines are divided.
        """

        mi: float = 10.0
        contrast_f: float = 10.0
        contrast_z: float = 10.0
        temperature: float = 0.5

        def __post_init__(self) -> None:
            for field in ("mi", "contrast_f", "contrast_z"):
                if not getattr(self, field) >= 0:
                    raise ConfigError(
                        f"{field} is {getattr(self, field)}, but must not be negative"
                    )
            if not self.temperature > 0:
                raise ConfigError(f"temperature is {self.temperature}, but must be positive")

    def __init__(self, dsae: DSAE, config: TrainingConfig, sequences: int) -> None:
        super().__init__(dsae, config, sequences)
        if dsae.guide.view is None:
            raise ConfigError(
                "dynamic_view is 'none', but objective 'mi' contrasts z with that of a view; use "
                "one, such as 'colour' of frames"
            )
        if dsae.guide.static_view is not None:
            raise ConfigError(
                f"static_view is {dsae.config.static_view!r}, but objective 'mi' contrasts f with "
                "that of another order itself; use 'none'"
            )
        sizes = dsae.config.static_dim, dsae.config.dynamic_dim, dsae.config.hidden_dim
        self.networks["pairs"] = SequenceDiscriminator(*sizes)

    def forward(
        self, x: Tensor, mask: Tensor | None, kl_f_weight: float, kl_z_weight: float
    ) -> Tensor:
        reading = self.dsae.guide.read(x, mask)
        model_trace, guide_trace = traces(
            self.dsae.model, lambda *_: self.dsae.guide.program(reading), x, mask
        )
        parts = parts_of(model_trace, kl_terms(model_trace, guide_trace))
        f, z = latents(guide_trace)
        another = partial(torch.roll, shifts=1, dims=0)
        lengths = reading.lengths
        other = None if lengths is None else another(lengths)
        pairs = self.networks["pairs"]
        with held(pairs):
            information = pairs(f, z, lengths).sum()
        f_seen, z_seen = f.detach(), z.detach()
        together = pairs(f_seen, z_seen, lengths)
        apart = pairs(f_seen, another(z_seen), other)
        # A sequence alone is no other's to be shuffled with.
        discriminators = logistic_loss(together, apart) if len(x) > 1 else 0 * together.sum()
        contrast_f, contrast_z = self._contrast(x, mask, reading)
        self.parts = detached(parts) | {
            "mi": information.detach(),
            "contrast_f": contrast_f.detach(),
            "contrast_z": contrast_z.detach(),
            "discriminator_loss": discriminators.detach(),
            "pairs_accuracy": len(x) * accuracy(together, apart),
        }
        return (
            kl_f_weight * parts["kl_f"]
            + kl_z_weight * parts["kl_z"]
            - parts["reconstruction"]
            + self.options.mi * information.clamp(min=0)
            + self.options.contrast_f * contrast_f
            + self.options.contrast_z * contrast_z
            + discriminators
        )

    def _contrast(self, x: Tensor, mask: Tensor | None, reading: Reading) -> tuple[Tensor, Tensor]:
        """C_f and C_z, in nats, summed over the batch."""
        guide = self.dsae.guide
        whole = reading._replace(kept=None)  # static dropout would leave nothing to compare
        # What z sees without the view; f's own encoder, if it has one, says nothing of that.
        as_it_is = whole.static.codes
        if guide.static_encoder is not None:
            as_it_is = encoded(guide.encoder, visible(x, mask), mask)
        other = whole._replace(static=shuffled(whole.static), codes=as_it_is)
        f, z = guide.walk(whole, lambda _, q: q.mean)
        other_f, other_z = guide.walk(other, lambda _, q: q.mean)
        if whole.lengths is not None:
            real = real_steps(whole.lengths, z.shape[1]).unsqueeze(-1)
            z, other_z = z * real, other_z * real
        temperature = self.options.temperature
        return (
            info_nce(f, other_f, temperature),
            info_nce(z.flatten(1), other_z.flatten(1), temperature),
        )


def info_nce(codes: Tensor, others: Tensor, temperature: float) -> Tensor:
    """Cross entropy, in nats, of finding each code's partner (B, D) among all others (B, D).

    By cosines over the temperature; the mean of both directions, summed over the batch.
    """
    cosines = F.normalize(codes, dim=-1) @ F.normalize(others, dim=-1).T / temperature
    own = torch.arange(len(codes), device=codes.device)
    both = [F.cross_entropy(each, own, reduction="sum") for each in (cosines, cosines.T)]
    return sum(both) / 2
