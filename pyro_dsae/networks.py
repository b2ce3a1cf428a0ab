"""Deterministic networks: frames to codes, codes to frames, and recurrence over codes.

For pictures the architecture is that of Das & Dandi (2018), section III: four 4x4 convolutions of
stride 2, with batch norm or without, an intermediate code for each frame, and a decoder that
mirrors the encoder. The frames of a series are vectors, and their networks fully connected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional as F

FRAME_MULTIPLE = 16  # four halvings
SLOPE = 0.2  # of every leaky ReLU
MIN_SCALE = 1e-4  # keeps a posterior or prior from becoming a point


class FrameNetwork(nn.Module):
    """Base of the networks over frames, where the work is and which may compute in bfloat16.

    Their inputs and outputs keep their type: latents and log-probabilities need its precision.
    """

    bfloat16 = False

    def autocast(self, inputs: Tensor) -> torch.autocast:
        return torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.bfloat16)


def use_bfloat16(module: nn.Module, enabled: bool) -> None:
    """Let the networks over frames in ``module`` compute in bfloat16, or not."""
    for part in module.modules():
        if isinstance(part, FrameNetwork):
            part.bfloat16 = enabled


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether ``device`` has instructions for bfloat16; without, it can be 15 times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # torch has no public question for this yet.
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def hidden(
    kind: type[nn.Conv2d | nn.ConvTranspose2d], inputs: int, outputs: int, batch_norm: bool
) -> list[nn.Module]:
    """The modules of a hidden layer of 4x4 convolutions, or transposed ones, of stride 2.

    Without batch norm the weights start so that signals keep their size from layer to layer: He et
    al. (2015), Delving Deep into Rectifiers, equation 14.
    """
    # Batch norm has its own shift, so the convolution needs none.
    convolution = kind(inputs, outputs, 4, stride=2, padding=1, bias=not batch_norm)
    activation = nn.LeakyReLU(SLOPE, inplace=True)
    if batch_norm:
        return [convolution, nn.BatchNorm2d(outputs), activation]
    taps = 4 if convolution.transposed else 16  # that reach one pixel, of the 16 of the kernel
    nn.init.normal_(convolution.weight, std=math.sqrt(2 / ((1 + SLOPE**2) * taps * inputs)))
    nn.init.zeros_(convolution.bias)
    return [convolution, activation]


class ConvEncoder(FrameNetwork):
    """Frames (*, C, H, W) in [0, 1] to frame codes (*, code_dim)."""

    def __init__(
        self,
        frame_shape: Sequence[int],
        channels: Sequence[int],
        code_dim: int,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        inputs, height, width = frame_shape
        layers: list[nn.Module] = []
        for outputs in channels:
            layers += hidden(nn.Conv2d, inputs, outputs, batch_norm)
            inputs = outputs
        self.convolutions = nn.Sequential(*layers)
        area = (height // FRAME_MULTIPLE) * (width // FRAME_MULTIPLE)
        self.code = nn.Linear(inputs * area, code_dim)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, *x.shape[-3:]).contiguous(memory_format=torch.channels_last)
        with self.autocast(x):
            features = self.convolutions(flat)
            if features.requires_grad:  # or the affine layer's gradient spoils the order in memory
                features.register_hook(lambda g: g.contiguous(memory_format=torch.channels_last))
            code = F.leaky_relu(self.code(features.flatten(1)), SLOPE)
        return code.to(x.dtype).reshape(*x.shape[:-3], -1)


class ToFrames(nn.ConvTranspose2d):
    """A transposed 4x4 convolution of stride 2 and padding 1 to few channels.

    On a CPU it is computed as what it equals: a 2x2 convolution to the four pixels around each
    corner of the grid, which takes two thirds of the time.
    """

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        if x.device.type != "cpu":
            return super().forward(x)
        # Tap d of two reaches pixel p of two by kernel element 2 (1 - d) + p.
        weight = self.weight.unflatten(3, (2, 2)).unflatten(2, (2, 2)).flip(2, 4)
        weight = weight.permute(3, 5, 1, 0, 2, 4).flatten(0, 2)  # (4 outputs, C, 2, 2)
        corners = F.conv2d(x, weight, self.bias.repeat(4), padding=1).movedim(1, -1)
        pixels = corners.unflatten(-1, (2, 2, -1)).transpose(2, 3)  # (N, H+1, 2, W+1, 2, outputs)
        return pixels.flatten(3, 4).flatten(1, 2)[:, 1:-1, 1:-1].movedim(-1, 1)


class ConvDecoder(FrameNetwork):
    """Codes (*, latent_dim) to the means of frames (*, C, H, W), in [0, 1]."""

    def __init__(
        self,
        latent_dim: int,
        frame_shape: Sequence[int],
        channels: Sequence[int],
        code_dim: int,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        self.frame_shape = tuple(frame_shape)
        frame_channels, height, width = frame_shape
        widths = [*reversed(channels), frame_channels]
        self.grid = (widths[0], height // FRAME_MULTIPLE, width // FRAME_MULTIPLE)
        self.code = nn.Sequential(
            nn.Linear(latent_dim, code_dim),
            nn.LeakyReLU(SLOPE),
            nn.Linear(code_dim, self.grid[0] * self.grid[1] * self.grid[2]),
            nn.LeakyReLU(SLOPE),
        )
        layers: list[nn.Module] = []
        for inputs, outputs in zip(widths[:-2], widths[1:-1], strict=True):
            layers += hidden(nn.ConvTranspose2d, inputs, outputs, batch_norm)
        layers.append(ToFrames(widths[-2], widths[-1], 4, stride=2, padding=1))
        self.convolutions = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        with self.autocast(latents):
            grid = self.code(latents).reshape(-1, *self.grid)
            frames = self.convolutions(grid.contiguous(memory_format=torch.channels_last))
        # Not in bfloat16, where it is exactly 1 from 6.3 on: a Bernoulli would get no gradient.
        frames = frames.to(latents.dtype).sigmoid()
        return frames.reshape(*latents.shape[:-1], *self.frame_shape)


class MLPEncoder(nn.Sequential):
    """What is seen of vectors (*, 2 D), see :func:`visible`, to codes (*, code_dim)."""

    def __init__(self, size: int, code_dim: int) -> None:
        super().__init__(
            nn.Linear(2 * size, code_dim),
            nn.LeakyReLU(SLOPE),
            nn.Linear(code_dim, code_dim),
            nn.LeakyReLU(SLOPE),
        )


class MLPDecoder(nn.Sequential):
    """Codes (*, latent_dim) to the means of vectors (*, D), which have no bounds."""

    def __init__(self, latent_dim: int, size: int, code_dim: int) -> None:
        super().__init__(
            nn.Linear(latent_dim, code_dim),
            nn.LeakyReLU(SLOPE),
            nn.Linear(code_dim, code_dim),
            nn.LeakyReLU(SLOPE),
            nn.Linear(code_dim, size),
        )


class BiLSTM(nn.Module):
    """A bidirectional LSTM over codes (*, T, inputs) of which ``lengths`` (*) steps are real.

    Returns the outputs (*, T, 2 hidden) and the last forward state beside the first backward
    state (*, 2 hidden). Steps past the length reach neither direction.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, batch_first=True, bidirectional=True)

    def forward(self, codes: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        batch, steps = codes.shape[:-2], codes.shape[-2]
        flat = codes.reshape(-1, steps, codes.shape[-1])
        if lengths is None:
            outputs, (final, _) = self.lstm(flat)
        else:
            packed = nn.utils.rnn.pack_padded_sequence(
                flat,
                lengths.expand(batch).reshape(-1).cpu(),
                batch_first=True,
                enforce_sorted=False,
            )
            packed_outputs, (final, _) = self.lstm(packed)
            outputs, _ = nn.utils.rnn.pad_packed_sequence(
                packed_outputs, batch_first=True, total_length=steps
            )
        last = torch.cat([final[0], final[1]], dim=-1)
        return outputs.reshape(*batch, steps, -1), last.reshape(*batch, -1)


class NormalVector(dist.Independent):
    """A diagonal normal over vectors, loc and scale (*, size), that is expanded only if it must be.

    Pyro expands at every site of a plate, to the same shape too, which is a node of the gradient's
    graph for loc and one for scale at each z_t.
    """

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__(dist.Normal(loc, scale), 1)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> dist.Independent:
        if tuple(batch_shape) == self.batch_shape:
            return self
        return dist.Independent(self.base_dist, 1).expand(batch_shape, _instance)


class DiagonalNormal(nn.Module):
    """An affine map from features (*, inputs) to a normal over vectors (*), event (size,).

    Args:
        initial_scale: about what the scales are before training.
    """

    def __init__(self, inputs: int, size: int, initial_scale: float = 1.0) -> None:
        super().__init__()
        self.parameters_of = nn.Linear(inputs, 2 * size)
        raw = math.log(math.expm1(initial_scale - MIN_SCALE))  # the inverse of the softplus below
        nn.init.constant_(self.parameters_of.bias[size:], raw)

    def forward(self, features: Tensor) -> dist.Independent:
        loc, raw_scale = self.parameters_of(features).chunk(2, dim=-1)
        return NormalVector(loc, F.softplus(raw_scale) + MIN_SCALE)


def visible(x: Tensor, mask: Tensor | None) -> Tensor:
    """What an encoder is given of x.

    Of a series (B, T, D): the values that are observed, zero in place of the others, beside which
    ones they are, (B, T, 2 D). Frames (B, T, C, H, W) are observed as a whole, and given as such.
    """
    if x.dim() > 3:
        return x
    observed = torch.ones_like(x)
    if mask is not None:
        observed = observed * per_value(mask, x)
    return torch.cat([x * observed, observed], dim=-1)


def encoded(encoder: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    """Codes (B, T, -) of what is :func:`visible`; zero at a step that is not observed, whose frame
    has no part in the statistics of batch norm either."""
    if mask is None:
        return encoder(x)
    if x.dim() == 3:
        return encoder(x) * observed_steps(mask).unsqueeze(-1)
    observed = encoder(x[mask])
    codes = observed.new_zeros(*mask.shape, observed.shape[-1])
    codes[mask] = observed
    return codes


def per_value(mask: Tensor, x: Tensor) -> Tensor:
    """``mask``, (B, T) or (B, T, D), with as many dimensions as x, over which it broadcasts."""
    return mask.reshape(*mask.shape, *(1,) * (x.dim() - mask.dim()))


def observed_steps(mask: Tensor) -> Tensor:
    """At which steps anything is observed, bool (B, T), of a mask (B, T) or (B, T, D)."""
    return mask if mask.dim() == 2 else mask.any(dim=-1)


def step_lengths(mask: Tensor) -> Tensor:
    """Steps up to and including the last observed one, (B, T) or (B, T, D) bool to (B,) int64.

    What follows the last observation is padding; a gap before it is a missing step, whose z_t
    stays in the model. Raises ValueError for a sequence without any observation.
    """
    mask = observed_steps(mask)
    steps = torch.arange(1, mask.shape[-1] + 1, device=mask.device)
    lengths = (mask * steps).amax(dim=-1)
    if not lengths.all():
        empty = (lengths == 0).nonzero().flatten().tolist()
        raise ValueError(
            f"mask has no observed step in sequence {', '.join(map(str, empty))}, but every "
            "sequence needs one at least; leave such sequences out"
        )
    return lengths


def real_steps(lengths: Tensor, steps: int) -> Tensor:
    """True at the steps before the padding, bool (B, steps), of ``lengths`` (B,)."""
    return torch.arange(steps, device=lengths.device) < lengths.unsqueeze(-1)
