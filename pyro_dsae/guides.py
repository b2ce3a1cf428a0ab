"""Guides q(f, z_1:T | x_1:T), by name. Each is a Pyro program with the model's signature.

All share q(f | x_1:T), a bidirectional LSTM over frame codes with their mean beside its states, a
shortcut by which f learns faster. They differ in what z_t depends on (Das & Dandi 2018, section
II). Where z_t depends on z_<t, it is the *sampled* z_<t that re-enters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_dsae.networks import (
    SLOPE,
    BiLSTM,
    DiagonalNormal,
    NormalVector,
    encoded,
    observed_steps,
    step_lengths,
    visible,
)
from pyro_dsae.registration import register
from pyro_dsae.views import Seen, StaticView, View

POSTERIOR_SCALE = 0.1  # at first: a decoder learns faster from codes with little noise

Draw = Callable[[str, dist.Distribution], Tensor]


def real_step(t: int, lengths: Tensor | None) -> AbstractContextManager:
    """The context of z_t, which is masked where a sequence has no step t; lengths (B,) or None."""
    return nullcontext() if lengths is None else poutine.mask(mask=lengths > t)


class Reading(NamedTuple):
    """What a guide makes of frames before anything is drawn.

    static: what f is inferred from.
    codes: of what z sees of the frames, shape (B, T, code_dim).
    lengths: real steps of each sequence, shape (B,); None where all are.
    kept: False where static dropout replaces q(f | x), bool (B, 1); None where it does not act.
    """

    static: Seen
    codes: Tensor
    lengths: Tensor | None
    kept: Tensor | None


class Guide(nn.Module, ABC):
    """q(f | x_1:T) and a dynamic part that a subclass defines.

    Three things happen in training mode only, to keep apart what f and z carry. With probability
    ``static_dropout`` a sequence's q(f | x) is replaced by p(f), so that z has to carry what it can
    without f: the loss becomes (1 - rate) ELBO[q(f | x) q(z | ...)] + rate ELBO[p(f) q(z | ...)],
    an average of two bounds on log p(x). The trainer lets the rate fall to 0, see
    :class:`~pyro_dsae.training.TrainingConfig`. And z is inferred from ``view(x)``, and f from the
    frames as ``static_view`` has them, see :mod:`pyro_dsae.views`.

    With ``noise_dim`` the networks get standard normal noise beside the code of each frame, the
    auxiliary site ``noise``. Given the noise q is as above, without it a mixture that has no closed
    form and any shape. A bound with the noise given is one on log p(x) still, on average, but
    lower than the mixture's own: :mod:`pyro_dsae.objectives.avb` estimates that. Where means are
    taken instead of draws, the noise is 0.

    Args:
        encoder: frames (*, C, H, W), or what is seen of vectors (*, 2 D), to codes
            (*, code_dim - noise_dim); see :func:`~pyro_dsae.networks.visible`.
        code_dim: size of what the networks get of each frame.

    Attributes:
        static_encoder: another encoder for f alone, or None where f and z share ``encoder``.
    """

    static_dropout: float | Tensor = 0.0  # as a tensor, a rate that changes in a CUDA graph
    noise_dim = 0
    view: View | None = None
    static_view: StaticView | None = None

    def __init__(
        self, encoder: nn.Module, code_dim: int, hidden_dim: int, static_dim: int, dynamic_dim: int
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.static_encoder: nn.Module | None = None
        self.dynamic_dim = dynamic_dim
        self.static_summary = BiLSTM(code_dim, hidden_dim)
        self.static_posterior = DiagonalNormal(
            2 * hidden_dim + code_dim, static_dim, POSTERIOR_SCALE
        )

    @abstractmethod
    def features(self, codes: Tensor, f: Tensor, lengths: Tensor | None) -> Tensor:
        """All that q(z_t | ...) needs besides z_<t, shape (*, T, -).

        Args:
            codes: frame codes, shape (B, T, code_dim).
            f: the sampled f, shape (*, static_dim), where * ends in B.
            lengths: real steps of each sequence, shape (B,); None where all are.
        """

    @abstractmethod
    def step(self, feature: Tensor, z_previous: Tensor, state: Any) -> tuple[dist.Independent, Any]:
        """q(z_t | ...) and the next state.

        Args:
            feature: step t of :meth:`features`, shape (*, -).
            z_previous: the sampled z_{t-1}, shape (*, dynamic_dim); zeros at the first step.
            state: what the call before returned; None at the first step.
        """

    def infer(self, x: Tensor, mask: Tensor | None, draw: Draw) -> tuple[Tensor, Tensor]:
        """Walk through q in the order of its factors, taking each value from ``draw``.

        Returns f (*, static_dim) and z (*, T, dynamic_dim).
        """
        return self.walk(self.read(x, mask), draw)

    def read(self, x: Tensor, mask: Tensor | None) -> Reading:
        """All that needs frames, and most of the work."""
        static_codes, codes = self.encode(x, mask)
        observed = lengths = kept = None
        if mask is not None:
            observed = observed_steps(mask).unsqueeze(-1)
            lengths = step_lengths(mask)
        static = Seen(static_codes, observed, lengths)
        if self.training and self.static_view is not None:
            static = self.static_view(static)
        # Of a tensor no value is asked: the device would be waited for, also where it is 0.
        if self.training and (isinstance(self.static_dropout, Tensor) or self.static_dropout):
            kept = torch.rand(len(x), 1, device=x.device) >= self.static_dropout
        return Reading(static, codes, lengths, kept)

    def walk(self, reading: Reading, draw: Draw) -> tuple[Tensor, Tensor]:
        """:meth:`infer` from a reading. Draws may add dimensions on the left, all the same ones."""
        static, codes, lengths, kept = reading
        if self.noise_dim:
            zeros = codes.new_zeros(*codes.shape[:-1], self.noise_dim)
            with poutine.mask(mask=False):  # it has no density: what is bounded is given the noise
                noise = draw("noise", dist.Normal(zeros, zeros + 1).to_event(2))
            static_codes, codes = (
                torch.cat([each.expand(*noise.shape[:-1], -1), noise], dim=-1)
                for each in (static.codes, codes)
            )
            static = static._replace(codes=static_codes)
        posterior = self.static(static)
        if kept is not None:
            posterior = _dropped(posterior, kept.to(codes.dtype))
        f = draw("f", posterior)
        features = self.features(codes, f, lengths)
        z_previous = codes.new_zeros(*f.shape[:-1], self.dynamic_dim)
        state, steps = None, []
        # The recurrent state carries all of z_<t. Pyro reads the history only to enumerate discrete
        # sites, which no z_t is; to keep the whole of it would take a time quadratic in T.
        for t in pyro.markov(range(codes.shape[-2])):
            posterior, state = self.step(features[..., t, :], z_previous, state)
            with real_step(t, lengths):
                z_previous = draw(f"z_{t}", posterior)
            steps.append(z_previous)
        return f, torch.stack(steps, dim=-2)

    def encode(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Codes of what is visible for f, and of what z sees of it, each (B, T, -)."""
        own = visible(x, mask)
        viewed = self.training and self.view is not None
        seen = visible(self.view(x, mask), mask) if viewed else own
        if self.static_encoder is not None:
            return encoded(self.static_encoder, own, mask), encoded(self.encoder, seen, mask)
        if not viewed:
            codes = encoded(self.encoder, seen, mask)
            return codes, codes
        # One pass over both, so that batch norm sees the same mixture in every statistic.
        # Joined with the channels last, as they lie in memory: nothing is rearranged.
        both = torch.cat([part.movedim(2, -1) for part in (own, seen)]).movedim(-1, 2)
        masks = None if mask is None else torch.cat([mask, mask])
        static_codes, codes = encoded(self.encoder, both, masks).chunk(2)
        return static_codes, codes

    def static(self, seen: Seen) -> dist.Independent:
        """q(f | x_1:T) of frame codes (*, T, -), batch shape (*)."""
        codes, observed, lengths = seen
        summary = self.static_summary(codes, lengths)[1]
        if observed is None:
            mean = codes.mean(dim=-2)
        else:
            mean = (codes * observed).sum(dim=-2) / observed.sum(dim=-2)
        return self.static_posterior(torch.cat([summary, mean], dim=-1))

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        kl_f_weight: float = 1.0,
        kl_z_weight: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """The Pyro program. See :meth:`pyro_dsae.model.GenerativeModel.forward` for arguments."""
        register(self)
        return self.program(self.read(x, mask), kl_f_weight, kl_z_weight)

    def program(
        self, reading: Reading, kl_f_weight: float = 1.0, kl_z_weight: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """The part of the Pyro program that draws, from a reading."""

        def draw(name: str, posterior: dist.Distribution) -> Tensor:
            with poutine.scale(scale=kl_f_weight if name == "f" else kl_z_weight):
                return pyro.sample(name, posterior, infer={"is_auxiliary": name == "noise"})

        with pyro.plate("sequences", len(reading.codes), dim=-1):
            return self.walk(reading, draw)


def _dropped(posterior: dist.Independent, kept: Tensor) -> dist.Independent:
    """``posterior`` (*) with N(0, I) in the rows where ``kept`` (*, 1) is 0, not 1."""
    scale = posterior.base_dist.scale * kept + (1 - kept)
    return NormalVector(posterior.mean * kept, scale)


class FullGuide(Guide):
    """q(z_t | z_<t, x_1:T, f): Das & Dandi (2018), section II.A.

    A bidirectional LSTM over [code_t, f], then a recurrent cell over its outputs and z_{t-1}. Two
    things let z learn before f has taken all that it could carry: the code of step t reaches the
    cell by a shortcut too, and q is made of the cell's state before its tanh, which saturates.
    """

    def __init__(
        self, encoder: nn.Module, code_dim: int, hidden_dim: int, static_dim: int, dynamic_dim: int
    ) -> None:
        super().__init__(encoder, code_dim, hidden_dim, static_dim, dynamic_dim)
        self.dynamic_summary = BiLSTM(code_dim + static_dim, hidden_dim)
        self.from_frames = nn.Linear(code_dim + 2 * hidden_dim, hidden_dim)
        self.from_past = nn.Linear(dynamic_dim + hidden_dim, hidden_dim, bias=False)
        self.output = nn.Sequential(
            nn.LeakyReLU(SLOPE), DiagonalNormal(hidden_dim, dynamic_dim, POSTERIOR_SCALE)
        )

    def features(self, codes: Tensor, f: Tensor, lengths: Tensor | None) -> Tensor:
        steps = codes.shape[-2]
        codes = codes.expand(*f.shape[:-1], *codes.shape[-2:])  # f may have particles on the left
        f = f.unsqueeze(-2).expand(*f.shape[:-1], steps, f.shape[-1])
        summary, _ = self.dynamic_summary(torch.cat([codes, f], dim=-1), lengths)
        # What does not depend on z is computed for all steps at once.
        return self.from_frames(torch.cat([codes, summary], dim=-1))

    def step(self, feature: Tensor, z_previous: Tensor, state: Any) -> tuple[dist.Independent, Any]:
        state = torch.zeros_like(feature) if state is None else state
        hidden = feature + self.from_past(torch.cat([z_previous, state], dim=-1))
        return self.output(hidden), torch.tanh(hidden)


class FactorizedGuide(Guide):
    """q(z_t | z_<t, x_t), without f: Das & Dandi (2018), section II.B.

    The recurrence runs over the sampled z alone and x_t joins at the output: a recurrent state
    that had seen x_<t would condition on more than the factor says.
    """

    def __init__(
        self, encoder: nn.Module, code_dim: int, hidden_dim: int, static_dim: int, dynamic_dim: int
    ) -> None:
        super().__init__(encoder, code_dim, hidden_dim, static_dim, dynamic_dim)
        self.cell = nn.RNNCell(dynamic_dim, hidden_dim)
        self.from_code = nn.Linear(code_dim, hidden_dim)
        self.from_past = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.output = nn.Sequential(
            nn.LeakyReLU(SLOPE), DiagonalNormal(hidden_dim, dynamic_dim, POSTERIOR_SCALE)
        )

    def features(self, codes: Tensor, f: Tensor, lengths: Tensor | None) -> Tensor:
        return self.from_code(codes).expand(*f.shape[:-1], codes.shape[-2], -1)

    def step(self, feature: Tensor, z_previous: Tensor, state: Any) -> tuple[dist.Independent, Any]:
        state = self.cell(z_previous.flatten(0, -2), state)
        past = self.from_past(state).reshape(*z_previous.shape[:-1], -1)
        return self.output(feature + past), state


class FramewiseGuide(Guide):
    """q(z_t | x_t): the factorized q of Li & Mandt (2018)."""

    def __init__(
        self, encoder: nn.Module, code_dim: int, hidden_dim: int, static_dim: int, dynamic_dim: int
    ) -> None:
        super().__init__(encoder, code_dim, hidden_dim, static_dim, dynamic_dim)
        self.output = nn.Sequential(
            nn.Linear(code_dim, hidden_dim),
            nn.LeakyReLU(SLOPE),
            DiagonalNormal(hidden_dim, dynamic_dim, POSTERIOR_SCALE),
        )

    def features(self, codes: Tensor, f: Tensor, lengths: Tensor | None) -> Tensor:
        return codes.expand(*f.shape[:-1], *codes.shape[-2:])

    def step(self, feature: Tensor, z_previous: Tensor, state: Any) -> tuple[dist.Independent, Any]:
        return self.output(feature), None


GUIDES: dict[str, type[Guide]] = {
    "full": FullGuide,
    "factorized": FactorizedGuide,
    "framewise": FramewiseGuide,
}
