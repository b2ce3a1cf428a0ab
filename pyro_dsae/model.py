"""The disentangled sequential autoencoder: the generative model, a guide, and the verbs.

    p(x_1:T, f, z_1:T) = p(f) prod_t p(z_t | z_<t) p(x_t | f, z_t)

Das & Dandi (2018), section II; Li & Mandt (2018), equation 1.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_dsae.config import ModelConfig
from pyro_dsae.guides import GUIDES, Draw
from pyro_dsae.likelihoods import LIKELIHOODS
from pyro_dsae.networks import ConvDecoder, ConvEncoder, FrameNetwork, step_lengths
from pyro_dsae.priors import PRIORS
from pyro_dsae.registration import register


class GenerativeModel(nn.Module):
    """p(x_1:T, f, z_1:T) as a Pyro program with sites ``f``, ``z_0`` ... ``z_{T-1}`` and ``x``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.prior = PRIORS[config.prior](config.dynamic_dim, config.hidden_dim)
        self.decoder = ConvDecoder(
            config.static_dim + config.dynamic_dim,
            config.frame_shape,
            config.channels,
            config.code_dim,
        )
        self.register_buffer("origin", torch.zeros(()), persistent=False)  # knows the device

    def decode(self, f: Tensor, z: Tensor) -> Tensor:
        """Means of the frames: f (*, static_dim), z (*, T, dynamic_dim) to (*, T, C, H, W)."""
        f = f.unsqueeze(-2).expand(*f.shape[:-1], z.shape[-2], f.shape[-1])
        return self.decoder(torch.cat([f, z], dim=-1))

    def draw_static(self, sequences: int, draw: Draw) -> Tensor:
        """f from p(f) = N(0, I), shape (B, static_dim)."""
        zeros = self.origin.new_zeros(sequences, self.config.static_dim)
        return draw("f", dist.Normal(zeros, zeros + 1).to_event(1))

    def draw_dynamic(self, f: Tensor, steps: int, lengths: Tensor | None, draw: Draw) -> Tensor:
        """z_1:T from its prior, shape (*, T, dynamic_dim); f gives the batch shape only."""
        z_previous, state, z = f.new_zeros(*f.shape[:-1], self.config.dynamic_dim), None, []
        # The LSTM's state carries all of z_<t, hence the whole history.
        for t in pyro.markov(range(steps), history=steps):
            prior, state = self.prior(z_previous, state)
            with poutine.mask(mask=True if lengths is None else lengths > t):
                z_previous = draw(f"z_{t}", prior)
            z.append(z_previous)
        return torch.stack(z, dim=-2)

    def forward(self, x: Tensor, mask: Tensor | None = None, kl_weight: float = 1.0) -> Tensor:
        """The Pyro program; returns the means of the frames, shape (*, T, C, H, W).

        Args:
            x: frames in [0, 1], shape (B, T, C, H, W).
            mask: bool (B, T), True where a frame is observed. Unobserved frames must be finite.
                Steps after the last observed one are padding and have no z.
            kl_weight: weight of the latents' terms, above 0; 1 gives the ELBO.
        """
        register(self)
        lengths = None if mask is None else step_lengths(mask)
        with pyro.plate("sequences", x.shape[0], dim=-1):
            with poutine.scale(scale=kl_weight):
                f = self.draw_static(x.shape[0], pyro.sample)
                z = self.draw_dynamic(f, x.shape[1], lengths, pyro.sample)
            means = self.decode(f, z)
            # One decode and one site for all frames: fewer sites, and batch norm sees them once.
            frames = LIKELIHOODS[self.config.likelihood](means, self.config.scale).to_event(3)
            pyro.sample("x", frames.mask(True if mask is None else mask).to_event(1), obs=x)
        return means


class DSAE(nn.Module):
    """A generative model and a guide, selected by name in ``config``.

    ``dsae.model`` and ``dsae.guide`` are Pyro programs with one signature, ``(x, mask=None,
    kl_weight=1.0)``, and serve any Pyro inference algorithm. The verbs below use the networks as
    they are: call ``dsae.eval()`` first, or batch norm normalises by the batch at hand.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = GenerativeModel(config)
        encoder = ConvEncoder(config.frame_shape, config.channels, config.code_dim)
        self.guide = GUIDES[config.guide](
            encoder, config.code_dim, config.hidden_dim, config.static_dim, config.dynamic_dim
        )

    def use_bfloat16(self, enabled: bool) -> None:
        """Let the networks over frames compute in bfloat16, or not; the rest never does."""
        for module in self.modules():
            if isinstance(module, FrameNetwork):
                module.bfloat16 = enabled

    @torch.no_grad()
    def encode(
        self, x: Tensor, mask: Tensor | None = None, sample: bool = False
    ) -> tuple[Tensor, Tensor]:
        """f (B, static_dim) and z (B, T, dynamic_dim) of frames x (B, T, C, H, W) in [0, 1].

        Posterior means, each z_t given the means before it; with ``sample``, one draw from q.
        """
        return self.guide.infer(x, mask, lambda _, q: q.sample() if sample else q.mean)

    @torch.no_grad()
    def decode(self, f: Tensor, z: Tensor) -> Tensor:
        """Means of the frames of f (*, static_dim) and z (*, T, dynamic_dim): (*, T, C, H, W)."""
        return self.model.decode(f, z)

    def reconstruct(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x through the posterior means and back, shape (B, T, C, H, W)."""
        return self.decode(*self.encode(x, mask))

    def swap(self, appearance: Tensor, motion: Tensor) -> Tensor:
        """Sequences with f of ``appearance`` and z of ``motion``, both (B, T, C, H, W)."""
        return self.decode(self.encode(appearance)[0], self.encode(motion)[1])

    @torch.no_grad()
    def sample(self, sequences: int, steps: int) -> Tensor:
        """Means of new sequences: f and z_1:T from their priors, shape (B, T, C, H, W)."""
        f = self.model.draw_static(sequences, lambda _, p: p.sample())
        return self.decode(f, self.model.draw_dynamic(f, steps, None, lambda _, p: p.sample()))

    def embed(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """f beside the flattened z_1:T, shape (B, static_dim + T dynamic_dim)."""
        f, z = self.encode(x, mask)
        return torch.cat([f, z.flatten(1)], dim=-1)
