"""Sequences in memory: 8-bit frames as a file stores them, converted a batch at a time, or series
of vectors in units of their spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Standard:
    """What a series is measured by: (x - mean) / scale for each of its D channels.

    Args:
        channels: their names.
        mean: of each channel over the train part, float (D,).
        scale: its standard deviation there, float (D,).
    """

    channels: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, origin: Mapping[str, Any]) -> Standard | None:
        """The one that a run remembers; None where its sequences are frames."""
        if "mean" not in origin:
            return None
        mean, scale = (np.array(origin[key], np.float32) for key in ("mean", "scale"))
        return cls(tuple(origin["channels"]), mean, scale)

    def to_dict(self) -> dict[str, list]:
        """What :meth:`of` takes."""
        return {
            "channels": list(self.channels),
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
        }

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Values (*, D) in their own units to units of their spread."""
        return (x - self.mean) / self.scale

    def undo(self, x: np.ndarray) -> np.ndarray:
        """Values (*, D) in units of their spread to their own units."""
        return x * self.scale + self.mean


@dataclass(frozen=True)
class Sequences:
    """Sequences of 8-bit frames, or series of vectors.

    Args:
        x: frames, uint8 (N, T, H, W, C), or a series by its ``standard``, float32 (N, T, D); zero
            where padded or not observed.
        lengths: real steps of each sequence, int (N,).
        groups: what must not be in both train and validation (a character, a person), int (N,).
        origin: where they are from, for the run to remember: path, name and content_sha256, and the
            standard of a series.
        mask: True where observed, bool (N, T) or (N, T, D); None where all real steps are.
        standard: of a series; None where x has no other units.
    """

    x: np.ndarray
    lengths: np.ndarray
    groups: np.ndarray
    origin: Mapping[str, Any] = field(default_factory=dict)
    mask: np.ndarray | None = None
    standard: Standard | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """(C, H, W), or (D,) of a series."""
        *size, channels = self.x.shape[2:]
        return (channels, *size)

    def batch(self, indices: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Frames in [0, 1], float32 (B, T, C, H, W), or a series (B, T, D), and the mask, bool
        (B, T) or (B, T, D), None where all is observed.

        The frames keep channels last in memory, which is what the convolutions want.
        """
        x = to_float(self.x[indices], device)
        if self.mask is None:
            return x, length_mask(self.lengths[indices], self.x.shape[1], device)
        mask = self.mask[indices]
        return x, None if mask.all() else torch.from_numpy(mask).to(device)

    def observed(self) -> np.ndarray:
        """Where the sequences are observed: bool (N, T), or (N, T, D) of a series."""
        steps = np.arange(self.x.shape[1]) < self.lengths[:, None]
        mask = steps if self.mask is None else self.mask
        if self.x.ndim > 3:
            return mask
        return np.broadcast_to(mask.reshape(*mask.shape, *(1,) * (3 - mask.ndim)), self.x.shape)

    def restore(self, x: Tensor) -> np.ndarray:
        """Frames or a series (N, T, ...), as the model gives them, in the units they are stored in:
        uint8 (N, T, H, W, C) or float32 (N, T, D)."""
        return restore(x, self.standard)

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
            self,
            x=self.x[chosen],
            lengths=self.lengths[chosen],
            groups=self.groups[chosen],
            mask=None if self.mask is None else self.mask[chosen],
        )


def length_mask(lengths: np.ndarray, steps: int, device: torch.device) -> Tensor | None:
    """True at the real steps, bool (N, steps), of ``lengths`` (N,); None without padding."""
    if (lengths == steps).all():
        return None
    return torch.from_numpy(np.arange(steps) < lengths[:, None]).to(device)


def to_float(frames: np.ndarray, device: torch.device) -> Tensor:
    """8-bit frames (N, T, H, W, C) to frames in [0, 1], float32 (N, T, C, H, W); a series stays."""
    x = torch.from_numpy(frames).to(device)
    return x if x.dim() == 3 else x.permute(0, 1, 4, 2, 3).float() / 255


def restore(x: Tensor, standard: Standard | None) -> np.ndarray:
    """See :meth:`Sequences.restore`."""
    if x.dim() > 3:
        return to_uint8(x)
    series = x.cpu().numpy()
    return series if standard is None else standard.undo(series)


def to_uint8(frames: Tensor) -> np.ndarray:
    """Frames in [0, 1], (N, T, C, H, W), to 8-bit frames (N, T, H, W, C)."""
    return (frames * 255).round().byte().permute(0, 1, 3, 4, 2).cpu().numpy()
