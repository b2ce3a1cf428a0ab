"""Networks that tell two distributions apart, and the log ratio of densities that they learn.

A classifier trained by logistic regression between draws from p and from q has, where it is
optimal, the logit log p - log q (Sugiyama, Suzuki & Kanamori 2012; Goodfellow et al. 2014,
proposition 1). That is how the objectives know densities that have no closed form.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_dsae.networks import FRAME_MULTIPLE, SLOPE, BiLSTM, FrameNetwork, real_steps


def logistic_loss(of_p: Tensor, of_q: Tensor) -> Tensor:
    """-log D at draws from p, -log(1 - D) at draws from q, of logits, summed.

    Its minimum is at the logit log p - log q.
    """
    return F.softplus(-of_p).sum() + F.softplus(of_q).sum()


def accuracy(of_p: Tensor, of_q: Tensor) -> Tensor:
    """How often the sign of the logits is right; 0.5 where the two cannot be told apart."""
    return (of_p.sign().mean() - of_q.sign().mean()) / 4 + 0.5


class StaticDiscriminator(nn.Module):
    """Logits of f (*, static_dim) in a context (*, context_dim): (*).

    The squares are inputs too, since the log ratio of two normals is quadratic.
    """

    def __init__(self, static_dim: int, hidden_dim: int, context_dim: int = 0) -> None:
        super().__init__()
        self.layers = _layers(2 * static_dim + context_dim, hidden_dim)
        self.quadratic = _zero(nn.Linear(2 * static_dim, 1))

    def forward(self, f: Tensor, context: Tensor | None = None) -> Tensor:
        powers = torch.cat([f, f.square()], dim=-1)
        inputs = powers if context is None else torch.cat([powers, context], dim=-1)
        return (self.layers(inputs) + self.quadratic(powers)).squeeze(-1)


class SequenceDiscriminator(nn.Module):
    """Logits of f with z_1:T in a context of each step: (B,).

    A bidirectional LSTM over [z_t, context_t], and a layer over its last states and f.
    """

    def __init__(
        self, static_dim: int, dynamic_dim: int, hidden_dim: int, context_dim: int = 0
    ) -> None:
        super().__init__()
        self.lstm = BiLSTM(2 * dynamic_dim + static_dim + context_dim, hidden_dim)
        self.layers = _layers(2 * hidden_dim + 2 * static_dim, hidden_dim)
        self.quadratic = _zero(nn.Linear(2 * dynamic_dim, 1, bias=False))

    def forward(
        self, f: Tensor, z: Tensor, lengths: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """Of f (B, static_dim), z (B, T, dynamic_dim) and context (B, T, context_dim)."""
        powers = torch.cat([z, z.square()], dim=-1)
        inputs = [powers, f.unsqueeze(1).expand(-1, z.shape[1], -1)]
        inputs += [] if context is None else [context]
        _, summary = self.lstm(torch.cat(inputs, dim=-1), lengths)
        each = self.quadratic(powers).squeeze(-1)  # (B, T)
        if lengths is not None:
            each = each * real_steps(lengths, z.shape[1])
        whole = self.layers(torch.cat([summary, f, f.square()], dim=-1)).squeeze(-1)
        return whole + each.sum(dim=-1)


class FrameDiscriminator(FrameNetwork):
    """An encoder of frames that also shows its third block.

    Each frame is normalised by itself. Batch norm would tie the frames of a batch together, and
    with them the gradients that a GAN is to keep apart.
    """

    def __init__(self, frame_shape: Sequence[int], channels: Sequence[int], code_dim: int) -> None:
        super().__init__()
        inputs, height, width = frame_shape
        blocks = []
        for outputs in channels:
            blocks.append(
                nn.Sequential(
                    nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False),
                    nn.GroupNorm(1, outputs),
                    nn.LeakyReLU(SLOPE),
                )
            )
            inputs = outputs
        area = (height // FRAME_MULTIPLE) * (width // FRAME_MULTIPLE)
        self.features = nn.Sequential(*blocks[:-1])
        self.code = nn.Sequential(
            blocks[-1], nn.Flatten(), nn.Linear(inputs * area, code_dim), nn.LeakyReLU(SLOPE)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, -) and codes (N, code_dim) of frames x (N, C, H, W) in [0, 1]."""
        with self.autocast(x):
            features = self.features(x.contiguous(memory_format=torch.channels_last))
            codes = self.code(features)
        return features.flatten(1).to(x.dtype), codes.to(x.dtype)


class VideoDiscriminator(nn.Module):
    """Logits of frames, and of whole sequences by a bidirectional LSTM over codes of frames."""

    def __init__(
        self, frame_shape: Sequence[int], channels: Sequence[int], code_dim: int, hidden_dim: int
    ) -> None:
        super().__init__()
        self.frames = FrameDiscriminator(frame_shape, channels, code_dim)
        self.of_frame = nn.Linear(code_dim, 1)
        self.lstm = BiLSTM(code_dim, hidden_dim)
        self.of_sequence = nn.Linear(2 * hidden_dim, 1)

    def forward(self, x: Tensor, mask: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features (B, T, -), logits of frames (B, T) and of sequences (B,).

        Args:
            x: frames in [0, 1], shape (B, T, C, H, W).
            mask: True where a frame is observed, bool (B, T).
            lengths: real steps of each sequence, shape (B,).
        """
        features, codes = (each.unflatten(0, x.shape[:2]) for each in self.frames(x.flatten(0, 1)))
        _, summary = self.lstm(codes * mask.unsqueeze(-1), lengths)
        return features, self.of_frame(codes).squeeze(-1), self.of_sequence(summary).squeeze(-1)


def _layers(inputs: int, hidden: int) -> nn.Sequential:
    """Two hidden layers and an output that starts at 0: nothing is told apart before training."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.LeakyReLU(SLOPE),
        nn.Linear(hidden, hidden),
        nn.LeakyReLU(SLOPE),
        _zero(nn.Linear(hidden, 1)),
    )


def _zero(layer: nn.Linear) -> nn.Linear:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
