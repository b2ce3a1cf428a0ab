"""A DSAE whose maps are all linear, and its evidence and posterior in closed form.

    f ~ N(0, I),  z_1 ~ N(b, diag(r^2)),  z_t ~ N(A z_{t-1} + b, diag(r^2))
    x_t ~ N(C [f; z_t] + d, s^2 I)

The evidence comes from a Kalman filter, the posterior from the precision of all latents at once;
neither uses the other. The latents are scalar pairs (f_i, z_t,i) that share their columns of C with
no other pair, so that every factor of the exact posterior is diagonal, as those of the guides are.
"""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from fixed_noise import FixedNoise
from pyro_dsae import DSAE, ModelConfig
from pyro_dsae.guides import Guide
from pyro_dsae.priors import Prior

FRAME = (1, 16, 16)
PIXELS = 256
STATIC = DYNAMIC = 2
STEPS = 4
LATENTS = STATIC + STEPS * DYNAMIC


class AffineNormal(nn.Module):
    """Features (*, inputs) to a normal with an affine mean and a constant scale."""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.loc = nn.Linear(inputs, size)
        self.log_scale = nn.Parameter(0.2 * torch.randn(size))

    def forward(self, features: Tensor) -> dist.Independent:
        loc = self.loc(features)
        return dist.Normal(loc, self.log_scale.exp().expand_as(loc)).to_event(1)


class LinearPrior(Prior):
    """p(z_t | z_{t-1}), affine in z_{t-1}."""

    def __init__(self) -> None:
        super().__init__(DYNAMIC, 1)
        self.output = AffineNormal(DYNAMIC, DYNAMIC)

    def forward(self, z_previous: Tensor, state: Any) -> tuple[dist.Distribution, Any]:
        return self.output(z_previous), None


class _AllCodes(nn.Module):
    """In the place of a recurrent summary: nothing is summarised."""

    def forward(self, codes: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        return codes, codes.flatten(-2)


class LinearGuide(Guide):
    """q(f | x_1:T) prod_t q(z_t | z_{t-1}, x_1:T, f), each affine in what it depends on."""

    def __init__(self, encoder: nn.Module) -> None:
        codes = STATIC + DYNAMIC
        super().__init__(encoder, codes, 1, STATIC, DYNAMIC)
        self.static_summary = _AllCodes()
        self.static_posterior = AffineNormal(
            (STEPS + 1) * codes, STATIC
        )  # of all codes and the mean
        inputs = STEPS * codes + STATIC + DYNAMIC
        self.dynamic_posterior = nn.ModuleList(AffineNormal(inputs, DYNAMIC) for _ in range(STEPS))

    def features(self, codes: Tensor, f: Tensor, lengths: Tensor | None) -> Tensor:
        codes = codes.flatten(-2).expand(*f.shape[:-1], -1)
        features = torch.cat([codes, f], dim=-1).unsqueeze(-2)
        return features.expand(*f.shape[:-1], STEPS, -1)

    def step(self, feature: Tensor, z_previous: Tensor, state: Any) -> tuple[dist.Independent, Any]:
        t = state or 0
        return self.dynamic_posterior[t](torch.cat([feature, z_previous], dim=-1)), t + 1


def linear_model() -> DSAE:
    """A linear-Gaussian DSAE in float64 with a guide that is anywhere, and a blind encoder."""
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(STATIC + DYNAMIC, PIXELS), nn.Unflatten(-1, FRAME))
    encoder = nn.Sequential(nn.Flatten(-3), nn.Linear(PIXELS, STATIC + DYNAMIC))
    config = ModelConfig(frame_shape=FRAME, static_dim=STATIC, dynamic_dim=DYNAMIC, scale=0.7)
    parts = {"prior": LinearPrior(), "decoder": decoder, "guide": LinearGuide(encoder)}
    dsae = DSAE(config, **parts).double()
    with torch.no_grad():
        first, second = torch.linalg.qr(torch.randn(PIXELS, 4).double()).Q.split(2, dim=1)
        mix = torch.tensor([[0.9, 0.5], [0.3, 0.8]]).double()
        pairs = (first @ mix, second @ mix)  # columns of (f_i, z_i)
        order = [pairs[0][:, 0], pairs[1][:, 0], pairs[0][:, 1], pairs[1][:, 1]]
        decoder[0].weight.copy_(torch.stack(order, dim=1))
        transition = dsae.model.prior.output.loc
        transition.weight.copy_(torch.diag(torch.tensor([0.8, -0.5])))
        transition.bias.copy_(torch.tensor([0.3, -0.2]))
        # Codes are the sufficient statistics C^T (x_t - d) / s^2.
        encoder[1].weight.copy_(decoder[0].weight.T / config.scale**2)
        encoder[1].bias.copy_(-encoder[1].weight @ decoder[0].bias)
        for head in [dsae.guide.static_posterior, *dsae.guide.dynamic_posterior]:
            head.loc.weight.mul_(0.3)
    return dsae


def linear_frames(dsae: DSAE, sequences: int = 3) -> Tensor:
    """Frames (B, STEPS, C, H, W) that the model itself might have made."""
    torch.manual_seed(1)
    return torch.randn(sequences, STEPS, *FRAME).double() + dsae.sample(sequences, STEPS)


def _affine_map(dsae: DSAE) -> tuple[Tensor, Tensor, float]:
    linear = dsae.model.decoder[0]
    return linear.weight, linear.bias, dsae.config.scale


def kalman_evidence(dsae: DSAE, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """log p(x_1:T), shape (B,), by a Kalman filter over the state [f; z_t]."""
    weight, bias, scale = _affine_map(dsae)
    prior = dsae.model.prior.output
    transition = torch.block_diag(torch.eye(STATIC), prior.loc.weight).double()
    shift = torch.cat([torch.zeros(STATIC).double(), prior.loc.bias])
    r = (2 * prior.log_scale).exp()
    noise = torch.cat([torch.zeros_like(r), r]).diag()
    evidence = []
    for b in range(len(x)):
        mean = shift
        covariance = torch.cat([torch.ones_like(r), r]).diag()
        total = x.new_zeros(())
        for t in range(STEPS):
            if t:
                mean = transition @ mean + shift
                covariance = transition @ covariance @ transition.T + noise
            if mask is not None and not mask[b, t]:
                continue
            spread = weight @ covariance @ weight.T + scale**2 * torch.eye(PIXELS).double()
            predicted = MultivariateNormal(weight @ mean + bias, spread)
            total = total + predicted.log_prob(x[b, t].flatten())
            gain = torch.linalg.solve(spread, weight @ covariance).T
            mean = mean + gain @ (x[b, t].flatten() - weight @ mean - bias)
            covariance = covariance - gain @ weight @ covariance
        evidence.append(total)
    return torch.stack(evidence)


def _chain(coupling: Tensor, shift: Tensor, scale: Tensor) -> MultivariateNormal:
    """The law of y = coupling y + shift + scale * noise, with coupling strictly triangular."""
    tril = torch.linalg.inv(torch.eye(LATENTS).double() - coupling)
    return MultivariateNormal(shift @ tril.T, scale_tril=tril * scale)


def _places(t: int) -> slice:
    return slice(STATIC + t * DYNAMIC, STATIC + (t + 1) * DYNAMIC)


def prior_law(dsae: DSAE) -> MultivariateNormal:
    """p(f, z_1:T) over [f; z_1; ...; z_T]."""
    prior = dsae.model.prior.output
    coupling = torch.zeros(LATENTS, LATENTS).double()
    for t in range(1, STEPS):
        coupling[_places(t), _places(t - 1)] = prior.loc.weight
    ones = torch.ones(STATIC).double()
    shift = torch.cat([0 * ones, prior.loc.bias.repeat(STEPS)])
    return _chain(coupling, shift, torch.cat([ones, prior.log_scale.exp().repeat(STEPS)]))


def guide_law(dsae: DSAE, x: Tensor, mask: Tensor | None = None) -> MultivariateNormal:
    """q(f, z_1:T | x), batch shape (B,)."""
    guide = dsae.guide
    observed = torch.ones(x.shape[:2], dtype=bool) if mask is None else mask
    codes = guide.encoder(x) * observed.unsqueeze(-1)
    mean = codes.sum(dim=1) / observed.sum(dim=1, keepdim=True)
    codes = codes.flatten(1)
    static = guide.static_posterior
    coupling = torch.zeros(LATENTS, LATENTS).double()
    shifts, scales = [static.loc(torch.cat([codes, mean], dim=1))], [static.log_scale.exp()]
    for t, head in enumerate(guide.dynamic_posterior):
        weight = head.loc.weight
        of_codes, of_f, of_z = weight.split([codes.shape[1], STATIC, DYNAMIC], dim=1)
        coupling[_places(t), :STATIC] = of_f
        if t:
            coupling[_places(t), _places(t - 1)] = of_z
        shifts.append(codes @ of_codes.T + head.loc.bias)
        scales.append(head.log_scale.exp())
    return _chain(coupling, torch.cat(shifts, dim=1), torch.cat(scales))


def _observation(dsae: DSAE, t: int) -> Tensor:
    """The map of [f; z_1; ...; z_T] to the mean of x_t, without its shift."""
    weight, _, _ = _affine_map(dsae)
    rows = torch.zeros(STATIC + DYNAMIC, LATENTS).double()
    rows[:STATIC, :STATIC] = torch.eye(STATIC)
    rows[STATIC:, _places(t)] = torch.eye(DYNAMIC)
    return weight @ rows


def posterior_law(dsae: DSAE, x: Tensor, mask: Tensor | None = None) -> MultivariateNormal:
    """p(f, z_1:T | x), batch shape (B,)."""
    prior = prior_law(dsae)
    _, bias, scale = _affine_map(dsae)
    precision = prior.precision_matrix.expand(len(x), LATENTS, LATENTS).clone()
    pull = (prior.precision_matrix @ prior.mean).expand(len(x), LATENTS).clone()
    for t in range(STEPS):
        rows = _observation(dsae, t)
        seen = torch.ones(len(x)).double() if mask is None else mask[:, t].double()
        precision += seen[:, None, None] * rows.T @ rows / scale**2
        pull += seen[:, None] * (x[:, t].flatten(1) - bias) @ rows / scale**2
    mean = torch.linalg.solve(precision, pull)
    return MultivariateNormal(mean, precision_matrix=precision)


def joint_evidence(dsae: DSAE, x: Tensor) -> Tensor:
    """log p(x_1:T), shape (B,), from the Gaussian over all pixels at once."""
    prior = prior_law(dsae)
    _, bias, scale = _affine_map(dsae)
    rows = torch.cat([_observation(dsae, t) for t in range(STEPS)])
    spread = rows @ prior.covariance_matrix @ rows.T + scale**2 * torch.eye(len(rows)).double()
    return MultivariateNormal(rows @ prior.mean + bias.repeat(STEPS), spread).log_prob(x.flatten(1))


def expected_elbo(dsae: DSAE, x: Tensor) -> Tensor:
    """E_q log p(x | f, z) - KL(q || p(f, z)), shape (B,): in closed form and differentiable."""
    q = guide_law(dsae, x)
    _, bias, scale = _affine_map(dsae)
    total = -torch.distributions.kl_divergence(q, prior_law(dsae))
    for t in range(STEPS):
        rows = _observation(dsae, t)
        likelihood = torch.distributions.Normal(q.mean @ rows.T + bias, scale)
        spread = (rows @ q.scale_tril).square().sum()
        total = total + likelihood.log_prob(x[:, t].flatten(1)).sum(-1) - spread / (2 * scale**2)
    return total


@torch.no_grad()
def make_exact(dsae: DSAE, mask: Tensor | None = None) -> None:
    """Give the guide the exact posterior of sequences with this mask, shape (STEPS,).

    With precision P, the mean is P^-1 (what the prior says + H^T codes); z_t given f and z_{t-1} is
    that Gaussian conditioned.
    """
    x = torch.zeros(1, STEPS, *FRAME).double()
    posterior = posterior_law(dsae, x, None if mask is None else mask[None])
    covariance, prior = posterior.covariance_matrix[0], prior_law(dsae)
    rows = torch.zeros(STEPS * (STATIC + DYNAMIC), LATENTS).double()
    for t in range(STEPS):
        start = t * (STATIC + DYNAMIC)
        rows[start : start + STATIC, :STATIC] = torch.eye(STATIC)
        rows[start + STATIC : start + STATIC + DYNAMIC, _places(t)] = torch.eye(DYNAMIC)
    of_codes = covariance @ rows.T  # of the posterior mean, (LATENTS, codes)
    constant = covariance @ prior.precision_matrix @ prior.mean

    def fill(head: AffineNormal, here: slice, before: list[int]) -> None:
        cross = covariance[here][:, before]
        regression = torch.linalg.solve(covariance[before][:, before], cross.T).T
        weight = of_codes[here] - regression @ of_codes[before]
        head.loc.bias.copy_(constant[here] - regression @ constant[before])
        head.loc.weight.zero_()
        head.loc.weight[:, : weight.shape[1]] = weight
        head.loc.weight[:, weight.shape[1] : weight.shape[1] + len(before)] = regression
        left = covariance[here, here] - regression @ cross.T
        assert torch.allclose(left, left.diag().diag(), atol=1e-12)  # else no guide is exact
        head.log_scale.copy_(left.diag().log() / 2)

    fill(dsae.guide.static_posterior, slice(0, STATIC), [])
    for t, head in enumerate(dsae.guide.dynamic_posterior):
        previous = range(STATIC + (t - 1) * DYNAMIC, STATIC + t * DYNAMIC) if t else ()
        fill(head, _places(t), [*range(STATIC), *previous])


def sigma_points() -> FixedNoise:
    """2 LATENTS fixed noises, one a sequence of a batch.

    The average of a quadratic function over these points is its exact expectation under q. ELBO
    estimates of a linear model and their gradients are quadratic in the noise.
    """
    points = LATENTS**0.5 * torch.eye(LATENTS).double()
    points = torch.cat([points, -points])
    steps = {f"z_{t}": points[:, _places(t)] for t in range(STEPS)}
    return FixedNoise({"f": points[:, :STATIC], **steps})
