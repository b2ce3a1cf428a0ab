"""A guide, a prior and an encoder of your own; the guide and the prior go by name.

python examples/own_parts.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn

from common import moving_shapes
from pyro_dsae import DSAE, ModelConfig, load, save
from pyro_dsae.guides import GUIDES, Guide
from pyro_dsae.networks import DiagonalNormal
from pyro_dsae.priors import PRIORS, Prior


class RandomWalk(Prior):
    """p(z_t | z_{t-1}) = N(z_{t-1}, sigma^2), with one sigma for each dimension."""

    def __init__(self, dynamic_dim: int, hidden_dim: int) -> None:
        super().__init__(dynamic_dim, hidden_dim)
        self.log_sigma = nn.Parameter(torch.zeros(dynamic_dim))

    def forward(self, z_previous: Tensor, state: Any) -> tuple[dist.Distribution, Any]:
        return dist.Normal(z_previous, self.log_sigma.exp()).to_event(1), None


class Difference(Guide):
    """q(z_t | z_{t-1}, x_{t-1}, x_t): from the codes of two frames and the sampled z_{t-1}."""

    def __init__(
        self, encoder: nn.Module, code_dim: int, hidden_dim: int, static_dim: int, dynamic_dim: int
    ) -> None:
        super().__init__(encoder, code_dim, hidden_dim, static_dim, dynamic_dim)
        self.output = nn.Sequential(
            nn.Linear(2 * code_dim + dynamic_dim, hidden_dim),
            nn.Tanh(),
            DiagonalNormal(hidden_dim, dynamic_dim),
        )

    def features(self, codes: Tensor, f: Tensor, lengths: Tensor | None) -> Tensor:
        before = torch.cat([codes[..., :1, :], codes[..., :-1, :]], dim=-2)
        pairs = torch.cat([codes, before], dim=-1)  # (B, T, 2 code_dim)
        return pairs.expand(*f.shape[:-1], *pairs.shape[-2:])  # f may have particles on the left

    def step(self, feature: Tensor, z_previous: Tensor, state: Any) -> tuple[dist.Independent, Any]:
        return self.output(torch.cat([feature, z_previous], dim=-1)), None


GUIDES["difference"] = Difference
PRIORS["random-walk"] = RandomWalk
CONFIG = ModelConfig(
    guide="difference",
    prior="random-walk",
    frame_shape=(3, 32, 32),
    channels=(8, 16, 16, 32),
    code_dim=32,
    hidden_dim=32,
    static_dim=8,
    dynamic_dim=4,
)


def encoder() -> nn.Module:
    """Frames (*, 3, 32, 32) to codes (*, 32); an encoder is any module that does this."""
    return nn.Sequential(nn.Flatten(start_dim=-3), nn.Linear(3 * 32 * 32, 32), nn.Tanh())


def main(steps: int = 60) -> dict[str, Any]:
    pyro.set_rng_seed(0)
    x, _ = moving_shapes()
    dsae = DSAE(CONFIG, encoder=encoder())
    with pyro.get_param_store().scope():
        svi = SVI(dsae.model, dsae.guide, pyro.optim.Adam({"lr": 2e-3}), Trace_ELBO())
        losses = [svi.step(x[torch.randint(len(x), (16,))]) / 16 for _ in range(steps)]
    dsae.eval()
    print(f"{losses[0]:.0f} to {losses[-1]:.0f} nats a sequence")

    with TemporaryDirectory() as folder:
        save(dsae, Path(folder) / "model.safetensors")
        # The file holds names and weights; what has no name is passed again.
        again = load(Path(folder) / "model.safetensors", encoder=encoder())
    return {"losses": losses, "dsae": dsae, "again": again, "x": x}


if __name__ == "__main__":
    main()
