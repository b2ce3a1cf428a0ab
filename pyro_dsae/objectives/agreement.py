"""f that is the same for all that look alike.

Where the data say who is who, f can be inferred from another sequence x' of the same one (the view
``partner``), so that nothing in it about the motion of x helps. But nothing asks it either not to
tell the motion of x', and what costs little stays. This objective asks:

    L = -ELBO[q(f | x') q(z_1:T | ...)] + weight KL(q(f | x') || q(f | x))

A KL is never negative, so -L is a bound still. That groups share a posterior is the idea of
Bouchacourt, Tomioka & Nowozin (2018), Multi-Level Variational Autoencoder, and of Hosoya (2019),
Group-based Learning of Disentangled Representations with Generalizability for Novel Contents, who
average those of a group instead; an average keeps what each one tells of itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyro.distributions as dist
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_dsae.config import ConfigError
from pyro_dsae.model import DSAE
from pyro_dsae.objectives.elbo import detached, kl_terms, parts_of, traces
from pyro_dsae.objectives.objective import Objective
from pyro_dsae.views import mates, partner

if TYPE_CHECKING:
    from pyro_dsae.training import TrainingConfig


class Agreement(Objective):
    """-ELBO + weight KL(q(f | x') || q(f | x)), with x' the other of a pair that looks alike.

    Raises ConfigError when the guide does not infer f from x', or drops it.
    """

    defaults = {
        "model": {"static_view": "partner", "static_dropout": 0.0},
        "training": {"kl_f_growth": 1.0},
    }

    @dataclass(frozen=True)
    class Options:
        """Args:
        weight: of the disagreement.
        """

        weight: float = 0.1

        def __post_init__(self) -> None:
            if not self.weight >= 0:
                raise ConfigError(f"weight is {self.weight}, but must not be negative")

    def __init__(self, dsae: DSAE, config: TrainingConfig, sequences: int) -> None:
        super().__init__(dsae, config, sequences)
        if dsae.guide.static_view is not partner or dsae.config.static_dropout:
            raise ConfigError(
                f"static_view is {dsae.config.static_view!r} and static_dropout "
                f"{dsae.config.static_dropout}, but objective 'agreement' needs 'partner' and 0"
            )

    def forward(
        self, x: Tensor, mask: Tensor | None, kl_f_weight: float, kl_z_weight: float
    ) -> Tensor:
        model_trace, guide_trace = traces(self.dsae.model, self.dsae.guide, x, mask)
        parts = parts_of(model_trace, kl_terms(model_trace, guide_trace))
        disagreement = kl_between_mates(guide_trace.nodes["f"]["fn"])
        self.parts = detached(parts) | {"disagreement": disagreement.detach()}
        return (
            kl_f_weight * parts["kl_f"]
            + kl_z_weight * parts["kl_z"]
            - parts["reconstruction"]
            + self.options.weight * disagreement
        )


def kl_between_mates(q: dist.Independent) -> Tensor:
    """KL(q_0 || q_1) + KL(q_1 || q_0) + KL(q_2 || q_3) + ... of diagonal normals (B), in nats."""
    other = mates(*q.batch_shape, q.mean.device)
    return kl_divergence(q, dist.Normal(q.mean[other], q.stddev[other]).to_event(1)).sum()
