"""VAE-GAN: frames and motion that a discriminator takes for real, and its features as likelihood.

Larsen et al. (2016), Autoencoding beyond pixels using a learned similarity metric, algorithm 1,
with a discriminator of frames and one of sequences, which sees whether the motion is real:

    L_prior = beta_f KL_f + beta_z KL_z
    L_like  = sum_t |h(x_t) - h(x'_t)|^2 / 2,    x' = decode(f, z),    f, z ~ q
    L_gan   = log D(x) + log(1 - D(x')) + log(1 - D(x_p)),    x_p = decode(f_p, z_p) ~ prior

with h the third block of the discriminator of frames, so that L_like is -log N(h(x); h(x'), I) up
to a constant. Each group of parameters has a loss of its own:

    guide, prior:     L_prior + L_like
    decoder:          L_like + L_gan / gamma
    discriminators:   -L_gan

where for the decoder log(1 - D) stands as -log D, which does not saturate.

As a sum of two likelihoods, the model's own log p(x | f, z) joins L_like with a weight: 0 is
Larsen's, 1 keeps the reconstruction near the pixels while the discriminator is yet to learn what
matters. This is no bound.

Discriminators come in once copies are good, as in Esser, Rombach & Ommer (2021): beside blurred
ones they win at once, and what they teach then is not what is wrong. Until then the loss is

    L_0 = beta_f KL_f + beta_z KL_z - log p(x | f, z).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_dsae.config import ConfigError
from pyro_dsae.model import DSAE
from pyro_dsae.networks import step_lengths
from pyro_dsae.objectives.discriminators import VideoDiscriminator, accuracy, logistic_loss
from pyro_dsae.objectives.elbo import detached, kl_terms, parts_of, traces
from pyro_dsae.objectives.objective import Objective, held, latents

if TYPE_CHECKING:
    from pyro_dsae.training import TrainingConfig


class VAEGAN(Objective):
    """L_prior + L_like + pixels (-log p(x | f, z)) + gan L_gan - L_gan, by group as in the header:
    gan L_gan is the decoder's alone, -L_gan the discriminators'. L_0 until ``begin``.

    ``feature_error`` is L_like; the loss of the decoder against the discriminators is
    ``fooling``. Accuracies of 0.5 mean that nothing is told apart. Of the steps before ``begin``
    these are not reported; in the epoch in which they begin they are averages with 0 for those.
    """

    bound = False
    idle = True
    learning_rate = 2e-4  # a discriminator wins early, while all copies are blurred

    @dataclass(frozen=True)
    class Options:
        """Weights beside that of L_like, which is 1, and when they count.

        Args:
            gan: 1 / gamma, of the adversarial loss of the decoder.
            pixels: of -log p(x | f, z), the model's own likelihood.
            begin: fraction of the training after which the discriminators come in.
        """

        gan: float = 3.0
        pixels: float = 1.0
        begin: float = 0.5

        def __post_init__(self) -> None:
            for field in ("gan", "pixels"):
                if not getattr(self, field) >= 0:
                    raise ConfigError(
                        f"{field} is {getattr(self, field)}, but must not be negative"
                    )
            if not 0 <= self.begin < 1:
                raise ConfigError(f"begin is {self.begin}, but must be at least 0 and below 1")

    def __init__(self, dsae: DSAE, config: TrainingConfig, sequences: int) -> None:
        super().__init__(dsae, config, sequences)
        if dsae.config.of_series:
            raise ConfigError(
                f"objective is 'vae-gan', but frame_shape {dsae.config.frame_shape} is that of a "
                "series, and its discriminators are for pictures; use elbo, for example"
            )
        # Half as wide as the encoder: it sees four times as many frames.
        channels = [max(1, width // 2) for width in dsae.config.channels]
        self.networks["video"] = VideoDiscriminator(
            dsae.config.frame_shape, channels, dsae.config.code_dim, dsae.config.hidden_dim
        )

    def forward(
        self, x: Tensor, mask: Tensor | None, kl_f_weight: float, kl_z_weight: float
    ) -> Tensor:
        model, video = self.dsae.model, self.networks["video"]
        model_trace, guide_trace = traces(model, self.dsae.guide, x, mask)
        parts = parts_of(model_trace, kl_terms(model_trace, guide_trace))
        self.parts = detached(parts)
        prior = kl_f_weight * parts["kl_f"] + kl_z_weight * parts["kl_z"]
        if self.progress < self.options.begin:
            return prior - parts["reconstruction"]
        observed = x.new_ones(x.shape[:2]).bool() if mask is None else mask
        lengths = step_lengths(observed)

        f, z = (each.detach() for each in latents(guide_trace))  # the guide is not to fool anyone
        with torch.no_grad():
            f_prior, z_prior = model.draw(*x.shape[:2])
        twice = observed.repeat(2, 1)
        with _statistics_kept(model.decoder):
            there = None if mask is None else twice
            fakes = model.decode(torch.cat([f, f_prior]), torch.cat([z, z_prior]), there)
        with held(video):
            shown = torch.cat([x, model_trace.nodes["_RETURN"]["value"], fakes])
            features, frames, sequences = video(shown, observed.repeat(4, 1), lengths.repeat(4))
        of_real, of_copy, _ = features.split([len(x), len(x), 2 * len(x)])
        errors = (of_real.detach() - of_copy).square() * observed.unsqueeze(-1)
        feature_error = errors.sum() / 2
        fake_frames, fake_sequences = frames[2 * len(x) :][twice], sequences[2 * len(x) :]
        fooling = F.softplus(-fake_frames).sum() + F.softplus(-fake_sequences).sum()

        shown = torch.cat([x, fakes.detach()])
        _, frames, sequences = video(shown, observed.repeat(3, 1), lengths.repeat(3))
        of_frames = frames[: len(x)][observed], frames[len(x) :][twice]
        of_sequences = sequences[: len(x)], sequences[len(x) :]
        discriminators = logistic_loss(*of_frames) + logistic_loss(*of_sequences)
        self.parts |= {
            "feature_error": feature_error.detach(),
            "fooling": fooling.detach(),
            "discriminator_loss": discriminators.detach(),
            "frame_accuracy": len(x) * accuracy(*of_frames),
            "sequence_accuracy": len(x) * accuracy(*of_sequences),
        }
        return (
            prior
            - self.options.pixels * parts["reconstruction"]
            + feature_error
            + self.options.gan * fooling
            + discriminators
        )


@contextmanager
def _statistics_kept(network: nn.Module) -> Iterator[None]:
    """Within, batch norm leaves its running statistics, which evaluation takes, as they are."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
