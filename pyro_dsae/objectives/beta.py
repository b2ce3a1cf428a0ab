"""beta-VAE with f and z weighted apart, and a capacity for each.

Higgins et al. (2017), beta-VAE, equation 4, and Burgess et al. (2018), Understanding disentangling
in beta-VAE, equation 8: a heavy weight on the KL leaves room for what describes the data best, and
a capacity C that rises gives the room back once the codes are sorted.

    L = -E_q log p(x | f, z) + beta_f |KL_f - C_f| + beta_z |KL_z - C_z|
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pyro_dsae.config import ConfigError
from pyro_dsae.objectives.elbo import detached, kl_terms, parts_of, traces
from pyro_dsae.objectives.objective import Objective


class Beta(Objective):
    """-reconstruction + beta_f |KL_f - C_f| + beta_z |KL_z - C_z|, the KL averaged over the batch.

    beta_f and beta_z are ``kl_f_weight`` and ``kl_z_weight`` of the config. With capacities of 0
    and weights of at least 1 this is, negated, a lower bound on the evidence, a looser one than the
    ELBO.
    """

    defaults = {"training": {"kl_f_weight": 2.0, "kl_f_growth": 1.0, "kl_z_weight": 4.0}}

    @dataclass(frozen=True)
    class Options:
        """Capacities, which rise from 0 along a line.

        Args:
            capacity_f: C_f at the end, in nats a sequence, on average over a batch, in which a
                dropped f, of KL 0, counts.
            capacity_z: C_z at the end, in nats a sequence.
            capacity_until: fraction of the training after which they are reached.
        """

        capacity_f: float = 0.0
        capacity_z: float = 0.0
        capacity_until: float = 0.5

        def __post_init__(self) -> None:
            for field in ("capacity_f", "capacity_z"):
                if not getattr(self, field) >= 0:
                    raise ConfigError(
                        f"{field} is {getattr(self, field)}, but must not be negative"
                    )
            if not 0 < self.capacity_until <= 1:
                raise ConfigError(
                    f"capacity_until is {self.capacity_until}, but must be above 0 and at most 1"
                )

    def forward(
        self, x: Tensor, mask: Tensor | None, kl_f_weight: float, kl_z_weight: float
    ) -> Tensor:
        model_trace, guide_trace = traces(self.dsae.model, self.dsae.guide, x, mask)
        parts = parts_of(model_trace, kl_terms(model_trace, guide_trace))
        self.parts = detached(parts)
        risen = len(x) * min(1.0, self.progress / self.options.capacity_until)
        excess_f = (parts["kl_f"] - risen * self.options.capacity_f).abs()
        excess_z = (parts["kl_z"] - risen * self.options.capacity_z).abs()
        return kl_f_weight * excess_f + kl_z_weight * excess_z - parts["reconstruction"]
