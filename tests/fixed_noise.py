"""Guides whose randomness the test chooses, so that two runs can be compared exactly."""

from __future__ import annotations

from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from conftest import TINY


class FixedNoise(Messenger):
    """Gives each site ``name`` the value mean + scale * ``noise[name]``, with its gradient.

    A site that has its value already, as a model's has under replay, keeps it.
    """

    def __init__(self, noise: dict[str, Tensor]) -> None:
        super().__init__()
        self.noise = noise

    def _pyro_sample(self, message: dict[str, Any]) -> None:
        if message["name"] in self.noise and not message["done"]:
            fn = message["fn"]
            message["value"] = fn.mean + fn.stddev * self.noise[message["name"]]
            message["done"] = True


def standard_noise(*batch: int) -> dict[str, Tensor]:
    """Standard normal noise for all latent sites of a tiny model over 6 steps."""
    torch.manual_seed(2)
    sizes = {"f": TINY["static_dim"]} | {f"z_{t}": TINY["dynamic_dim"] for t in range(6)}
    return {name: torch.randn(*batch, size).double() for name, size in sizes.items()}
