"""Sequences in memory: 8-bit frames as a file stores them, converted a batch at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Sequences:
    """Sequences of 8-bit frames.

    Args:
        x: frames, uint8 (N, T, H, W, C), zero padded.
        lengths: real steps of each sequence, int (N,).
        groups: what must not be in both train and validation (a character, a person), int (N,).
        origin: where they are from, for the run to remember: path, name and content_sha256.
    """

    x: np.ndarray
    lengths: np.ndarray
    groups: np.ndarray
    origin: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Frames in [0, 1], float32 (B, T, C, H, W), and the mask (B, T), None without padding.

        The frames keep channels last in memory, which is what the convolutions want.
        """
        x = to_float(self.x[indices], device)
        return x, length_mask(self.lengths[indices], self.x.shape[1], device)

    def hold_out(self, fraction: float, seed: int) -> tuple[Sequences, Sequences]:
        """Train and validation part; see :meth:`held_out`."""
        held_out = self.held_out(fraction, seed)
        return self.take(~held_out), self.take(held_out)

    def held_out(self, fraction: float, seed: int) -> np.ndarray:
        """Which sequences are for validation, bool (N,): those of ``fraction`` of the groups.

        Raises ValueError when that would be none or all.
        """
        groups = np.random.default_rng(seed).permutation(np.unique(self.groups))
        held_out = np.isin(self.groups, groups[: max(1, round(fraction * len(groups)))])
        if held_out.all() or not 0 < fraction < 1:
            raise ValueError(
                f"cannot hold out {fraction} of {len(groups)} groups; it takes two groups at "
                "least and a fraction between 0 and 1"
            )
        return held_out

    def take(self, chosen: np.ndarray) -> Sequences:
        """The sequences of these indices, or where this mask is True."""
        return replace(
            self, x=self.x[chosen], lengths=self.lengths[chosen], groups=self.groups[chosen]
        )


def length_mask(lengths: np.ndarray, steps: int, device: torch.device) -> Tensor | None:
    """True at the real steps, bool (N, steps), of ``lengths`` (N,); None without padding."""
    if (lengths == steps).all():
        return None
    return torch.from_numpy(np.arange(steps) < lengths[:, None]).to(device)


def to_float(frames: np.ndarray, device: torch.device) -> Tensor:
    """8-bit frames (N, T, H, W, C) to frames in [0, 1], float32 (N, T, C, H, W)."""
    return torch.from_numpy(frames).to(device).permute(0, 1, 4, 2, 3).float() / 255


def to_uint8(frames: Tensor) -> np.ndarray:
    """Frames in [0, 1], (N, T, C, H, W), to 8-bit frames (N, T, H, W, C)."""
    return (frames * 255).round().byte().permute(0, 1, 3, 4, 2).cpu().numpy()
