"""The training step in plain PyTorch: same networks and optimizer, a hand-written loss, no Pyro.

The trainer's step is measured against it; a test holds its loss and every gradient to those of
:class:`pyro_dsae.objectives.elbo.AnalyticELBO`.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_dsae import DSAE, Sequences, TrainingConfig
from pyro_dsae.guides import FactorizedGuide, FramewiseGuide, FullGuide, Guide
from pyro_dsae.networks import MIN_SCALE, DiagonalNormal
from pyro_dsae.priors import LSTMPrior, Prior

Moments = tuple[Tensor, Tensor]  # mean and scale


class PlainStep:
    """Takes one step of training at each call, on the next batch of ``sequences``."""

    def __init__(self, dsae: DSAE, sequences: Sequences, config: TrainingConfig) -> None:
        self.dsae, self.sequences, self.config = dsae.train(), sequences, config
        self.device = next(dsae.parameters()).device
        self.optimizer = torch.optim.Adam(dsae.parameters(), lr=config.learning_rate, fused=True)
        self.start = 0

    def __call__(self) -> None:
        rows = (self.start + np.arange(self.config.batch_size)) % len(self.sequences)
        self.start += len(rows)
        x, _ = self.sequences.batch(rows, self.device)
        weights = self.config.kl_f_weight, self.config.kl_z_weight
        loss = negative_elbo(self.dsae, x, *weights) / len(rows)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.dsae.parameters(), self.config.clip_norm)
        assert torch.isfinite(loss + norm)
        self.optimizer.step()


def negative_elbo(
    dsae: DSAE, x: Tensor, kl_f_weight: float = 1.0, kl_z_weight: float = 1.0
) -> Tensor:
    """Nats, summed over the batch, of frames x (B, T, C, H, W), with the KL terms in closed form.

    For the parts that ship with the package and the likelihood ``normal`` of a fixed scale, without
    a view of f and without noise in the guide.
    """
    guide, model = dsae.guide, dsae.model
    seen = guide.view(x, None) if guide.training and guide.view is not None else x
    if guide.static_encoder is not None:
        static_codes, codes = guide.static_encoder(x), guide.encoder(seen)
    elif seen is x:
        static_codes = codes = guide.encoder(x)
    else:
        both = torch.cat([x.movedim(2, -1), seen.movedim(2, -1)]).movedim(-1, 2)
        static_codes, codes = guide.encoder(both).chunk(2)
    _, summary = guide.static_summary(static_codes)
    summary = torch.cat([summary, static_codes.mean(dim=1)], dim=-1)
    q_f = _moments(guide.static_posterior, summary)
    if guide.training and guide.static_dropout:
        keep = torch.rand(len(x), device=x.device) >= guide.static_dropout
        keep = keep.to(x.dtype).unsqueeze(-1)
        q_f = q_f[0] * keep, q_f[1] * keep + (1 - keep)
    f = _draw(*q_f)
    features = guide.features(codes, f, None)
    z, state, q_z = f.new_zeros(len(x), guide.dynamic_dim), None, []
    previous = [z]
    for t in range(x.shape[1]):
        moments, state = STEPS[type(guide)](guide, features[:, t], z, state)
        z = _draw(*moments)
        q_z.append(moments)
        previous.append(z)
    means = model.decode(f, torch.stack(previous[1:], dim=1))
    q_loc, q_scale = (torch.stack(each, dim=1) for each in zip(*q_z, strict=True))
    kl_z = _kl((q_loc, q_scale), _prior(model.prior, previous[:-1], q_loc))
    kl_f = _kl(q_f, (torch.zeros_like(f), torch.ones_like(f)))
    scale = model.scale
    constant = x.numel() * (math.log(scale) + 0.5 * math.log(2 * math.pi))
    error = F.mse_loss(means, x, reduction="sum")
    return 0.5 / scale**2 * error + constant + kl_f_weight * kl_f + kl_z_weight * kl_z


def _moments(normal: DiagonalNormal, features: Tensor) -> Moments:
    loc, raw_scale = normal.parameters_of(features).chunk(2, dim=-1)
    return loc, F.softplus(raw_scale) + MIN_SCALE


def _draw(loc: Tensor, scale: Tensor) -> Tensor:
    return loc + scale * torch.randn_like(loc)


def _kl(q: Moments, p: Moments) -> Tensor:
    """KL(q || p) of diagonal normals, summed."""
    variances = (q[1] / p[1]).square()
    return 0.5 * (variances + ((q[0] - p[0]) / p[1]).square() - 1 - variances.log()).sum()


def _prior(prior: Prior, previous: list[Tensor], like: Tensor) -> Moments:
    """p(z_t | z_<t) at all steps, shapes as ``like``, from z_{t-1} at each."""
    if not isinstance(prior, LSTMPrior):
        return torch.zeros_like(like), torch.ones_like(like)
    state, hidden = None, []
    for z in previous:
        state = prior.cell(z, state)
        hidden.append(state[0])
    return _moments(prior.output, torch.stack(hidden, dim=1))


def _full(guide: FullGuide, feature: Tensor, z: Tensor, state: Any) -> tuple[Moments, Any]:
    state = torch.zeros_like(feature) if state is None else state
    hidden = feature + guide.from_past(torch.cat([z, state], dim=-1))
    activation, normal = guide.output
    return _moments(normal, activation(hidden)), torch.tanh(hidden)


def _factorized(
    guide: FactorizedGuide, feature: Tensor, z: Tensor, state: Any
) -> tuple[Moments, Any]:
    state = guide.cell(z, state)
    activation, normal = guide.output
    return _moments(normal, activation(feature + guide.from_past(state))), state


def _framewise(
    guide: FramewiseGuide, feature: Tensor, z: Tensor, state: Any
) -> tuple[Moments, Any]:
    affine, activation, normal = guide.output
    return _moments(normal, activation(affine(feature))), None


STEPS: dict[type[Guide], Any] = {
    FullGuide: _full,
    FactorizedGuide: _factorized,
    FramewiseGuide: _framewise,
}
