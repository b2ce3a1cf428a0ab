"""Guides whose randomness the test chooses, so that two runs can be compared exactly."""

from __future__ import annotations

from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor


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
