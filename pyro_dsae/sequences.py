"""Sequences of 8-bit frames as a file stores them, converted a batch at a time.

They lie in memory, on a GPU or, where they do not fit, in their file. The batches are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class StoredFrames(Protocol):
    """Frames (N, T, H, W, C) that are read when they are needed."""

    shape: tuple[int, ...]

    def take(self, rows: np.ndarray) -> StoredFrames:
        """Those of some sequences; nothing is read yet."""

    def read(self, rows: np.ndarray, starts: np.ndarray, steps: int) -> np.ndarray:
        """So many steps of some sequences, each from its start on, uint8 (n, steps, H, W, C)."""


@dataclass(frozen=True)
class Sequences:
    """Sequences of 8-bit frames.

    Args:
        x: frames, uint8 (N, T, H, W, C), zero padded; in memory, on a device, or stored.
        lengths: real steps of each sequence, int (N,).
        groups: what must not be in both train and validation (a character, a person), int (N,).
        origin: where they are from, for the run to remember: path, name and content_sha256.
        starts: the step of ``x`` that each sequence begins with, int (N,); None for the first.
        window: steps of ``x`` that each sequence has; None for all.
    """

    x: np.ndarray | Tensor | StoredFrames
    lengths: np.ndarray
    groups: np.ndarray
    origin: Mapping[str, str] = field(default_factory=dict)
    starts: np.ndarray | None = None
    window: int | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def steps(self) -> int:
        """T of a batch."""
        return self.x.shape[1] if self.window is None else self.window

    def batch(self, indices: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Frames in [0, 1], float32 (B, T, C, H, W), and the mask (B, T), None without padding.

        The frames keep channels last in memory, which is what the convolutions want.
        """
        x = to_float(self.frames(indices), device)
        return x, length_mask(self.lengths[indices], self.steps, device)

    def frames(self, indices: np.ndarray) -> np.ndarray | Tensor:
        """The frames of some sequences as they are stored, uint8 (B, T, H, W, C)."""
        starts = np.zeros(len(indices), int) if self.starts is None else self.starts[indices]
        if not isinstance(self.x, np.ndarray | Tensor):
            return self.x.read(indices, starts, self.steps)
        index = (indices,)
        if self.window is not None:
            index = (indices[:, None], starts[:, None] + np.arange(self.window))  # (B, T)
        if isinstance(self.x, Tensor):
            index = tuple(torch.from_numpy(part).to(self.x.device) for part in index)
        return self.x[index]

    def windows(self, steps: int, seed: int | list[int]) -> Sequences:
        """So many steps of each sequence, from a random one on; a shorter sequence is padded."""
        latest = np.maximum(self.lengths - steps, 0)
        starts = np.random.default_rng(seed).integers(0, latest + 1)
        return replace(self, lengths=np.minimum(self.lengths, steps), starts=starts, window=steps)

    def resident(self, device: torch.device) -> Sequences:
        """The same, its frames on a GPU ``device`` if they take half of its free memory at most."""
        if device.type != "cuda" or not isinstance(self.x, np.ndarray):
            return self
        if self.x.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
            return self
        return replace(self, x=torch.from_numpy(self.x).to(device))

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
        rows = np.arange(len(self))[chosen]
        return replace(
            self,
            x=self.x[rows] if isinstance(self.x, np.ndarray) else self.x.take(rows),
            lengths=self.lengths[rows],
            groups=self.groups[rows],
            starts=None if self.starts is None else self.starts[rows],
        )


def length_mask(lengths: np.ndarray, steps: int, device: torch.device) -> Tensor | None:
    """True at the real steps, bool (N, steps), of ``lengths`` (N,); None without padding."""
    if (lengths == steps).all():
        return None
    return torch.from_numpy(np.arange(steps) < lengths[:, None]).to(device)


def to_float(frames: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """8-bit frames (N, T, H, W, C) to frames in [0, 1], float32 (N, T, C, H, W)."""
    frames = torch.as_tensor(frames)
    if device.type == "cuda" and not frames.is_cuda:
        frames = frames.pin_memory()  # from where it is copied while the host goes on
    return frames.to(device, non_blocking=True).permute(0, 1, 4, 2, 3).float() / 255


def to_uint8(frames: Tensor) -> np.ndarray:
    """Frames in [0, 1], (N, T, C, H, W), to 8-bit frames (N, T, H, W, C)."""
    return (frames * 255).round().byte().permute(0, 1, 3, 4, 2).cpu().numpy()
