"""Rows of a table that are of no model: what is found in the data as they are, or in nothing."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from columns import Column
from pages import mean_and_sd
from pyro_dsae.cli.evaluate import SECTIONS, measured
from pyro_dsae.cli.options import Run
from pyro_dsae.datasets import SequenceFile


class StandIn(nn.Module):
    """Stands in for a model wherever only its codes, or frames of them, are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.empty(0))  # says where it lies


class Raw(StandIn):
    """Encodes a series as its summaries and itself."""

    def encode(self, x: Tensor, mask: Tensor | None, sample: bool) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over the real steps, (B, 2 D), and x, (B, T, D).

        mask: which steps are real, (B, T); None where all are.
        """
        steps = torch.ones(x.shape[:2]) if mask is None else mask.float()
        weights = (steps / steps.sum(1, keepdim=True)).unsqueeze(-1)
        mean = (weights * x).sum(1)
        variance = (weights * (x - mean.unsqueeze(1)).square()).sum(1)
        return torch.cat([mean, variance.sqrt()], dim=-1), x


class Collapsed(StandIn):
    """A posterior that is the prior, but for means that hardly differ: those of a coarse picture.

    A decoder would learn nothing from it, and draws one picture. What is scaled up before it is
    read finds the means.

    Args:
        picture: in [0, 1], (C, H, W).
    """

    SCALE = 1e-6
    GRID = 4

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self.picture = picture

    @classmethod
    def on(cls, data: Path) -> "Collapsed":
        """Draws the mean of all frames of train, which errs least."""
        with SequenceFile.open(data) as file:
            mean = file.sequences("train").x.mean(axis=(0, 1)) / 255  # (H, W, C), all frames real
        return cls(torch.from_numpy(mean).float().movedim(-1, 0))

    def encode(self, x: Tensor, mask: Tensor | None, sample: bool) -> tuple[Tensor, Tensor]:
        """f, (B, D), and z, (B, T, D), of frames x (B, T, C, H, W), all of them real."""
        coarse = nn.functional.adaptive_avg_pool2d(x.flatten(0, 1), self.GRID)
        z = self.SCALE * coarse.reshape(*x.shape[:2], -1)
        f = z.mean(dim=1)
        return (f + torch.randn_like(f), z + torch.randn_like(z)) if sample else (f, z)

    def decode(self, f: Tensor, z: Tensor) -> Tensor:
        """The picture for each of z (B, T, D), whatever these are: (B, T, C, H, W)."""
        return self.picture.expand(*z.shape[:2], *self.picture.shape)


def row(stand_in: StandIn, data: Path, part: str, columns: Sequence[Column]) -> list[str]:
    """The cells of its row, measured on a part of ``data``; without those that need a judge."""
    sections = {column.section for column in columns} & SECTIONS.keys()
    with SequenceFile.open(data) as file:
        opened = Run("", part, stand_in.eval(), file, file.split(part), file.sequences(part))
        figures = {name: measured(SECTIONS[name], opened, 0) for name in sections}
    found = [(column.of(figures), column.digits) for column in columns]
    return ["—" if value is None else mean_and_sd([value], digits) for value, digits in found]
