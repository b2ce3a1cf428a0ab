"""Priors p(z_t | z_<t), by name.

A prior is stepped inside the model's loop and is always fed with the z that was sampled there:
under replay by a guide these are the posterior's samples, which makes the loss an ELBO.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_dsae.networks import DiagonalNormal, NormalVector


class Prior(nn.Module, ABC):
    """p(z_t | z_<t), one step at a time."""

    def __init__(self, dynamic_dim: int, hidden_dim: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, z_previous: Tensor, state: Any) -> tuple[dist.Distribution, Any]:
        """The distribution of z_t, with event shape (dynamic_dim,), and the next state.

        Args:
            z_previous: the sampled z_{t-1}, shape (*, dynamic_dim); zeros at the first step.
            state: what the call before returned; None at the first step.
        """


class StandardPrior(Prior):
    """p(z_t) = N(0, I): Das & Dandi (2018), section II."""

    def forward(self, z_previous: Tensor, state: Any) -> tuple[dist.Distribution, Any]:
        # Zeros made from z_previous itself would count as an edge in pyro.render_model.
        zeros = torch.zeros(z_previous.shape, dtype=z_previous.dtype, device=z_previous.device)
        return NormalVector(zeros, zeros + 1), None


class LSTMPrior(Prior):
    """p(z_t | z_<t) from an LSTM over the sampled z: Li & Mandt (2018), equation 1."""

    def __init__(self, dynamic_dim: int, hidden_dim: int) -> None:
        super().__init__(dynamic_dim, hidden_dim)
        self.cell = nn.LSTMCell(dynamic_dim, hidden_dim)
        self.output = DiagonalNormal(hidden_dim, dynamic_dim)

    def forward(self, z_previous: Tensor, state: Any) -> tuple[dist.Distribution, Any]:
        state = self.cell(z_previous.flatten(0, -2), state)
        return self.output(state[0].reshape(*z_previous.shape[:-1], -1)), state


PRIORS: dict[str, type[Prior]] = {"standard": StandardPrior, "lstm": LSTMPrior}
