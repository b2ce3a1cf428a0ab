"""Sequences of 8-bit frames as a file stores them, converted a batch at a time, or of vectors in
units of their spread.

They lie in memory, on a GPU or, where they do not fit, in their file. The batches are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class StoredFrames(Protocol):
    """Frames (N, T, H, W, C), or a series (N, T, D), that are read when they are needed."""

    shape: tuple[int, ...]

    def take(self, rows: np.ndarray) -> StoredFrames:
        """Those of some sequences; nothing is read yet."""

    def read(self, rows: np.ndarray, starts: np.ndarray, steps: int) -> np.ndarray:
        """So many steps of some sequences, each from its start (n,) on, (n, steps, ...)."""


@dataclass(frozen=True)
class Standard:
    """What a series is measured by: (x - mean) / scale for each of its D channels.

    Args:
        channels: their names.
        mean: of each channel over the train part, float (D,); 0 for a part of a vector in space.
        scale: its standard deviation there, float (D,); that of a vector is one, from 0.
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
            where padded or not observed. In memory, on a device, or stored.
        lengths: real steps of each sequence, int (N,).
        groups: what must not be in both train and validation (a character, a person), int (N,).
        origin: where they are from, for the run to remember: path, name and content_sha256, and the
            standard of a series.
        mask: True where observed, bool (N, T) or (N, T, D), which the last real step is; None where
            all real steps are.
        standard: of a series; None where x has no other units.
        starts: the step of ``x`` that each sequence begins with, int (N,); None for the first.
        window: steps of ``x`` that each sequence has; None for all.
        alike: the number of each one's appearance, which others share, int (N,); -1 is unknown.
            None where nothing says.
    """

    x: np.ndarray | Tensor | StoredFrames
    lengths: np.ndarray
    groups: np.ndarray
    origin: Mapping[str, Any] = field(default_factory=dict)
    mask: np.ndarray | None = None
    standard: Standard | None = None
    starts: np.ndarray | None = None
    window: int | None = None
    alike: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def steps(self) -> int:
        """T of a batch."""
        return self.x.shape[1] if self.window is None else self.window

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
        x = to_float(self.frames(indices), device)
        if self.mask is None:
            return x, length_mask(self.lengths[indices], self.steps, device)
        mask = self._of(self.mask, indices)
        return x, None if mask.all() else torch.from_numpy(mask).to(device)

    def frames(self, indices: np.ndarray) -> np.ndarray | Tensor:
        """Some sequences as ``x`` has them, uint8 (B, T, H, W, C) or float32 (B, T, D)."""
        if isinstance(self.x, np.ndarray | Tensor):
            return self._of(self.x, indices)
        starts = np.zeros(len(indices), int) if self.starts is None else self.starts[indices]
        return self.x.read(indices, starts, self.steps)

    def _of(self, values: np.ndarray | Tensor, indices: np.ndarray) -> np.ndarray | Tensor:
        """What some sequences have of ``x`` or of ``mask``."""
        index = (indices,)
        if self.window is not None:
            steps = self.starts[indices, None] + np.arange(self.window)
            index = (indices[:, None], steps)  # (B, T)
        if isinstance(values, Tensor):
            index = tuple(torch.from_numpy(part).to(values.device) for part in index)
        return values[index]

    def windows(self, steps: int, seed: int | list[int]) -> Sequences:
        """So many steps of each sequence, from a random one on; a shorter sequence is padded.

        Where nothing is observed in them they are later ones, up to the next observation.
        """
        latest = np.maximum(self.lengths - steps, 0)
        starts = np.random.default_rng(seed).integers(0, latest + 1)
        if self.mask is not None:
            observed = self.mask.reshape(*self.mask.shape[:2], -1).any(axis=-1)  # (N, T)
            sought = observed & (np.arange(observed.shape[1]) >= starts[:, None])
            starts = np.maximum(starts, sought.argmax(axis=1) - steps + 1)
        return replace(self, lengths=np.minimum(self.lengths, steps), starts=starts, window=steps)

    def resident(self, device: torch.device) -> Sequences:
        """The same, its frames on a GPU ``device`` if they take half of its free memory at most."""
        if device.type != "cuda" or not isinstance(self.x, np.ndarray):
            return self
        if self.x.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
            return self
        return replace(self, x=torch.from_numpy(self.x).to(device))

    def observed(self) -> np.ndarray:
        """Where the sequences are observed: bool (N, T), or (N, T, D) of a series."""
        if self.mask is None:
            mask = np.arange(self.steps) < self.lengths[:, None]
        else:
            mask = self._of(self.mask, np.arange(len(self)))
        if len(self.x.shape) > 3:
            return mask
        shape = *mask.shape[:2], self.x.shape[2]
        return np.broadcast_to(mask.reshape(*shape[:2], -1), shape)

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
        rows = np.arange(len(self))[chosen]
        return replace(
            self,
            x=self.x[rows] if isinstance(self.x, np.ndarray | Tensor) else self.x.take(rows),
            lengths=self.lengths[rows],
            groups=self.groups[rows],
            mask=None if self.mask is None else self.mask[rows],
            starts=None if self.starts is None else self.starts[rows],
            alike=None if self.alike is None else self.alike[rows],
        )

    def paired(self, seed: int | list[int]) -> np.ndarray:
        """A random order in which each two, one after the other, look alike: indices, int (2 P,).

        Of an odd number that do, one is left out, by chance; so are those of unknown appearance.
        """
        random = np.random.default_rng(seed)
        order = random.permutation(len(self))
        if self.alike is None:
            return order[:0]
        order = order[self.alike[order] >= 0]
        order = order[np.argsort(self.alike[order], kind="stable")]
        counts = np.unique(self.alike[order], return_counts=True)[1]
        place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        pairs = order[place < np.repeat(counts // 2 * 2, counts)].reshape(-1, 2)
        return random.permutation(pairs).ravel()


def known(labels: np.ndarray) -> np.ndarray:
    """Whether each sequence has all its labels (N, k), of which -1 is unknown: bool (N,)."""
    return (labels >= 0).all(axis=1)


def numbered(labels: np.ndarray) -> np.ndarray:
    """The number of each distinct row, (N, k) to (N,)."""
    return np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)


def length_mask(lengths: np.ndarray, steps: int, device: torch.device) -> Tensor | None:
    """True at the real steps, bool (N, steps), of ``lengths`` (N,); None without padding."""
    if (lengths == steps).all():
        return None
    return torch.from_numpy(np.arange(steps) < lengths[:, None]).to(device)


def to_float(frames: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """8-bit frames (N, T, H, W, C) to frames in [0, 1], float32 (N, T, C, H, W); a series stays."""
    x = torch.as_tensor(frames)
    if device.type == "cuda" and not x.is_cuda:
        x = x.pin_memory()  # from where it is copied while the host goes on
    x = x.to(device, non_blocking=True)
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
