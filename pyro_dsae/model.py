"""The disentangled sequential autoencoder: the generative model, a guide, and the verbs.

    p(x_1:T, f, z_1:T) = p(f) prod_t p(z_t | z_<t) p(x_t | f, z_t)

Das & Dandi (2018), section II; Li & Mandt (2018), equation 1.
"""

from __future__ import annotations

import copy

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_dsae.config import ModelConfig
from pyro_dsae.guides import GUIDES, Draw, Guide, real_step
from pyro_dsae.likelihoods import LIKELIHOODS
from pyro_dsae.networks import (
    ConvDecoder,
    ConvEncoder,
    MLPDecoder,
    MLPEncoder,
    per_value,
    step_lengths,
    use_bfloat16,
)
from pyro_dsae.priors import PRIORS, Prior
from pyro_dsae.registration import register
from pyro_dsae.views import STATIC_VIEWS, VIEWS


class GenerativeModel(nn.Module):
    """p(x_1:T, f, z_1:T) as a Pyro program with sites ``f``, ``z_0`` ... ``z_{T-1}`` and ``x``.

    Args:
        prior: in place of the one that ``config`` names.
        decoder: [f, z_t] (*, static_dim + dynamic_dim) to means of frames (*, C, H, W), or of
            vectors (*, D), in place of the one that ``config`` describes.
    """

    frozen = False

    def __init__(
        self, config: ModelConfig, prior: Prior | None = None, decoder: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.config = config
        if prior is None:
            prior = PRIORS[config.prior](config.dynamic_dim, config.hidden_dim)
        if decoder is None:
            decoder = decoder_of(config)
        self.prior, self.decoder = prior, decoder
        if config.learn_scale:
            # The channels of a series differ in how well they can be told, pixels hardly do.
            size = config.frame_shape if config.of_series else ()
            self.log_scale = nn.Parameter(torch.full(size, config.scale).log())
        self.register_buffer("origin", torch.zeros(()), persistent=False)  # knows the device

    def freeze(self) -> None:
        """Train this part no more: no gradients, and batch norm as in eval mode even in training.

        A guide alone is trained then, on one and the same generative model.
        """
        self.frozen = True
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> GenerativeModel:
        """Training mode, which a frozen model never enters."""
        return super().train(mode and not self.frozen)

    @property
    def scale(self) -> float | Tensor:
        """Scale of the likelihood in units of x; of a learned one of a series, shape (D,)."""
        return self.log_scale.exp() if self.config.learn_scale else self.config.scale

    def decode(self, f: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        """Means of the frames: f (*, static_dim), z (*, T, dynamic_dim) to (*, T, C, H, W), or
        (*, T, D) for a series.

        Args:
            observed: which frames to decode, bool (B, T), where * ends in B; the others are zero.
        """
        f = f.unsqueeze(-2).expand(*f.shape[:-1], z.shape[-2], f.shape[-1])
        latents = torch.cat([f, z], dim=-1)
        if observed is None:
            return self.decoder(latents)
        means = self.decoder(latents[..., observed, :])
        frames = means.new_zeros(*latents.shape[:-1], *self.config.frame_shape)
        frames[..., observed, :, :, :] = means
        return frames

    def draw_static(self, sequences: int, draw: Draw) -> Tensor:
        """f from p(f) = N(0, I), shape (B, static_dim)."""
        zeros = self.origin.new_zeros(sequences, self.config.static_dim)
        return draw("f", dist.Normal(zeros, zeros + 1).to_event(1))

    def draw_dynamic(self, f: Tensor, steps: int, lengths: Tensor | None, draw: Draw) -> Tensor:
        """z_1:T from its prior, shape (*, T, dynamic_dim); f gives the batch shape only."""
        z_previous = self.origin.new_zeros(*f.shape[:-1], self.config.dynamic_dim)
        state, z = None, []
        for t in pyro.markov(range(steps)):
            prior, state = self.prior(z_previous, state)
            with real_step(t, lengths):
                z_previous = draw(f"z_{t}", prior)
            z.append(z_previous)
        return torch.stack(z, dim=-2)

    def draw(self, sequences: int, steps: int) -> tuple[Tensor, Tensor]:
        """f (B, static_dim) and z (B, T, dynamic_dim) of new sequences, from their priors."""
        # By the noise that several processes share, see pyro_dsae.distributed.
        f = self.draw_static(sequences, lambda _, p: p.rsample())
        return f, self.draw_dynamic(f, steps, None, lambda _, p: p.rsample())

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        kl_f_weight: float = 1.0,
        kl_z_weight: float = 1.0,
    ) -> Tensor:
        """The Pyro program; returns the means of the frames, shape (*, T, C, H, W) or (*, T, D).

        Any axis that vectorised draws add is left of that of the sequences. A value that
        ``poutine.condition`` fixes needs every such axis itself.

        Args:
            x: frames in [0, 1], shape (B, T, C, H, W), or a series, shape (B, T, D).
            mask: True where a frame is observed, bool (B, T); of a series also for each of its
                values, (B, T, D). What is unobserved must be finite. Steps after the last observed
                one are padding and have no z: those sites are masked, and a guide or a sampler that
                Pyro makes of this program, such as an autoguide, is for sequences without padding.
            kl_f_weight: weight of the terms of f, above 0; with both weights 1 this is the ELBO.
            kl_z_weight: weight of the terms of z_1:T, above 0.

        Raises:
            ValueError: when a row of ``mask`` is all False.
        """
        register(self)
        lengths = None if mask is None else step_lengths(mask)
        with pyro.plate("sequences", x.shape[0], dim=-1):
            with poutine.scale(scale=kl_f_weight):
                f = self.draw_static(x.shape[0], pyro.sample)
            with poutine.scale(scale=kl_z_weight):
                z = self.draw_dynamic(f, x.shape[1], lengths, pyro.sample)
            # One decode and one site for all frames: fewer sites, and batch norm sees them once,
            # and in training none that is not there.
            means = self.decode(f, z, mask if self.training and x.dim() == 5 else None)
            frames = LIKELIHOODS[self.config.likelihood](means, self.scale)
            masked = 1 if mask is None else mask.dim() - 1  # dimensions, beside the sequences
            frames = frames.to_event(x.dim() - 1 - masked).mask(True if mask is None else mask)
            pyro.sample("x", frames.to_event(masked), obs=x)
        return means


class DSAE(nn.Module):
    """A generative model and a guide, selected by name in ``config``.

    ``dsae.model`` and ``dsae.guide`` are Pyro programs with one signature, ``(x, mask=None,
    kl_f_weight=1.0, kl_z_weight=1.0)``, and serve any Pyro inference algorithm. The verbs below use
    the networks as they are: call ``dsae.eval()`` first, or batch norm normalises by the batch at
    hand.

    Args:
        config: describes every part that is not passed in. A class of your own goes by name as
            well, once it is in :data:`~pyro_dsae.guides.GUIDES` or
            :data:`~pyro_dsae.priors.PRIORS`.
        prior, decoder: as in :class:`GenerativeModel`.
        encoder: to codes (*, code_dim), for the guide that ``config`` names; see
            :class:`~pyro_dsae.guides.Guide`.
        guide: the whole guide, with an encoder of its own.

    Raises:
        ValueError: when both ``encoder`` and ``guide`` are given.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        prior: Prior | None = None,
        decoder: nn.Module | None = None,
        encoder: nn.Module | None = None,
        guide: Guide | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.model = GenerativeModel(config, prior, decoder)
        if guide is not None and encoder is not None:
            raise ValueError("a guide has its own encoder; pass the one or the other")
        if guide is None:
            if encoder is None:
                encoder = encoder_of(config)
            sizes = config.hidden_dim, config.static_dim, config.dynamic_dim
            guide = GUIDES[config.guide](encoder, config.code_dim + config.noise_dim, *sizes)
        if not config.shared_encoder:
            guide.static_encoder = copy.deepcopy(guide.encoder)
        self.guide = guide
        guide.static_dropout, guide.view = config.static_dropout, VIEWS[config.dynamic_view]
        guide.static_view = STATIC_VIEWS[config.static_view]
        guide.noise_dim = config.noise_dim

    def use_bfloat16(self, enabled: bool) -> None:
        """Let the networks over frames compute in bfloat16, or not; the rest never does."""
        use_bfloat16(self, enabled)

    @torch.no_grad()
    def encode(
        self, x: Tensor, mask: Tensor | None = None, sample: bool = False
    ) -> tuple[Tensor, Tensor]:
        """f (B, static_dim) and z (B, T, dynamic_dim) of x and mask as the model takes them.

        Posterior means, each z_t given the means before it; with ``sample``, one draw from q.
        """
        return self.guide.infer(x, mask, lambda _, q: q.sample() if sample else q.mean)

    @torch.no_grad()
    def decode(self, f: Tensor, z: Tensor) -> Tensor:
        """Means of the frames of f (*, static_dim) and z (*, T, dynamic_dim): (*, T, C, H, W), or
        (*, T, D) for a series."""
        return self.model.decode(f, z)

    def reconstruct(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x through the posterior means and back, in its shape."""
        return self.decode(*self.encode(x, mask))

    @torch.no_grad()
    def predict(
        self, x: Tensor, horizon: int, mask: Tensor | None = None, sample: bool = False
    ) -> Tensor:
        """Means of the ``horizon`` frames that follow the context x, shape (B, horizon, ...).

        Args:
            x: as the model takes it, shape (B, T, ...).
            horizon: frames to predict, 1 at least.
            mask: as the model takes it. The prediction follows the last observed frame of each
                sequence.
            sample: draw f and z from the posterior and the prior instead of taking their means.

        Raises:
            ValueError: when ``horizon`` is below 1, or a row of ``mask`` is all False.
        """
        if horizon < 1:
            raise ValueError(f"horizon is {horizon}, but must be at least 1")
        f, z, lengths = self._extend(x, mask, x.shape[1] + horizon, sample)
        ahead = lengths.unsqueeze(-1) + torch.arange(horizon, device=z.device)  # (B, horizon)
        return self.model.decode(f, z.take_along_dim(ahead.unsqueeze(-1), dim=1))

    @torch.no_grad()
    def complete(self, x: Tensor, mask: Tensor, sample: bool = False) -> Tensor:
        """x with what is outside ``mask`` filled in, in its shape.

        A missing frame with a later observation is inferred from all that the guide sees; those
        after the last observed one are predicted.

        Args:
            x: as the model takes it; what is missing may be anything finite.
            mask: as the model takes it.
            sample: draw f and z from the posterior and the prior instead of taking their means.

        Raises:
            ValueError: when a row of ``mask`` is all False.
        """
        f, z, _ = self._extend(x, mask, x.shape[1], sample)
        return torch.where(per_value(mask, x), x, self.model.decode(f, z))

    def _extend(
        self, x: Tensor, mask: Tensor | None, steps: int, sample: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """f, z_1:steps (B, steps, dynamic_dim) and the lengths of the context (B,).

        z is the guide's up to the last observed step and then the prior's, which has seen the
        guide's as its history.
        """
        f, inferred = self.encode(x, mask, sample)
        batch, context = x.shape[:2]
        whole = torch.full((batch,), context, device=x.device)
        lengths = whole if mask is None else step_lengths(mask)

        def draw(name: str, prior: dist.Distribution) -> Tensor:
            t = int(name.removeprefix("z_"))
            z_t = prior.sample() if sample else prior.mean
            if t < context:
                z_t = torch.where((lengths > t).unsqueeze(-1), inferred[:, t], z_t)
            return z_t

        return f, self.model.draw_dynamic(f, steps, None, draw), lengths

    def swap(self, appearance: Tensor, motion: Tensor) -> Tensor:
        """Sequences with f of ``appearance`` and z of ``motion``, both (B, T, ...)."""
        return self.decode(self.encode(appearance)[0], self.encode(motion)[1])

    @torch.no_grad()
    def sample(self, sequences: int, steps: int) -> Tensor:
        """Means of new sequences: f and z_1:T from their priors, shape (B, T, ...)."""
        return self.decode(*self.model.draw(sequences, steps))

    def embed(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """f beside the flattened z_1:T, shape (B, static_dim + T dynamic_dim)."""
        f, z = self.encode(x, mask)
        return torch.cat([f, z.flatten(1)], dim=-1)


def encoder_of(config: ModelConfig) -> nn.Module:
    """From frames to codes, with new weights."""
    if config.of_series:
        return MLPEncoder(*config.frame_shape, config.code_dim)
    return ConvEncoder(config.frame_shape, config.channels, config.code_dim, config.batch_norm)


def decoder_of(config: ModelConfig) -> nn.Module:
    """From codes to frames, with new weights."""
    latents = config.static_dim + config.dynamic_dim
    if config.of_series:
        return MLPDecoder(latents, *config.frame_shape, config.code_dim)
    return ConvDecoder(
        latents, config.frame_shape, config.channels, config.code_dim, config.batch_norm
    )
