"""Views of a sequence that hide its appearance, by name: what z is inferred from in training.

A view states an assumption about the data: what it changes is declared to be appearance, so that z
cannot carry it. It is drawn anew at every step; with q(z | v(x)) for the view v at hand, the loss
averages bounds that are each valid.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

INVERTED = 0.5  # how often brightness is turned round
GAIN = (0.5, 1.5)

View = Callable[[Tensor], Tensor]


def colour(x: Tensor) -> Tensor:
    """Frames in colours of which only the shapes are left, shape (B, T, C, H, W), in [0, 1].

    For each sequence the channels are mixed by one random non-negative matrix, scaled by one gain
    and, half the time, inverted. Black stays black, so a black background stays a background.
    """
    batch, _, channels = x.shape[:3]
    mix = torch.rand(batch, channels, channels, device=x.device, dtype=x.dtype)
    gain = torch.empty(batch, 1, 1, device=x.device, dtype=x.dtype).uniform_(*GAIN)
    mix = gain * mix / mix.sum(dim=-1, keepdim=True)
    pixels = x.movedim(2, -1)  # (B, T, H, W, C), as it lies in memory
    mixed = (pixels.flatten(1, 3) @ mix.mT).reshape(pixels.shape).clamp(max=1)
    inverted = torch.rand(batch, 1, 1, 1, 1, device=x.device) < INVERTED
    seen = pixels.amax(dim=-1, keepdim=True) > 0
    return torch.where(inverted & seen, 1 - mixed, mixed).movedim(-1, 2)


VIEWS: dict[str, View | None] = {"none": None, "colour": colour}
