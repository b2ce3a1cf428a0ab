"""A posterior that is normal given noise, and so normal: its density and its KL are known."""

import pytest
import torch
from pyro.distributions import Normal
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

from conftest import objective_of, tiny_model
from linear_gaussian import AffineNormal
from pyro_dsae import DSAE, ConfigError, ModelConfig, load, save
from pyro_dsae.guides import Guide
from pyro_dsae.objectives.avb import SPARED, context, moments

NOISE, STEPS, FRAME = 2, 2, (1, 16, 16)
PAST = 1.5  # z_t is so many times z_{t-1}, and what the codes and the noise say


class NoisyGuide(Guide):
    """f and each z_t affine in codes, noise and z_{t-1}, so that all together are one normal."""

    def __init__(self):
        super().__init__(nn.Sequential(nn.Flatten(-3), nn.Linear(256, 2)), 2 + NOISE, 1, 1, 1)
        self.static_posterior, self.dynamic = (AffineNormal(2 + NOISE, 1) for _ in range(2))

    def static(self, seen):
        return self.static_posterior(seen.codes.mean(dim=-2))

    def features(self, codes, f, lengths):
        return codes

    def step(self, feature, z_previous, state):
        q = self.dynamic(feature)
        return Normal(q.mean + PAST * z_previous, q.stddev).to_event(1), None


def noisy_model(log_scale=-1.2, **options):
    torch.manual_seed(0)
    sizes = {"static_dim": 1, "dynamic_dim": 1, "code_dim": 2, "hidden_dim": 16}
    options |= {"prior": "standard", "noise_dim": NOISE}
    config = ModelConfig(frame_shape=FRAME, **sizes, **options)
    decoder = nn.Sequential(nn.Linear(2, 256), nn.Unflatten(-1, FRAME))
    dsae = DSAE(config, decoder=decoder, guide=NoisyGuide()).double()
    with torch.no_grad():
        for head in (dsae.guide.static_posterior, dsae.guide.dynamic):
            head.loc.weight[:, 2:] = torch.tensor([[0.8, -0.6]])
            head.log_scale.fill_(log_scale)
    return dsae


def posterior(dsae, x):
    """q(f, z_1, ..., z_T | x) of the noisy guide in closed form, batch shape (B,)."""
    guide = dsae.guide
    codes = guide.encoder(x)  # (B, T, 2)
    heads = [guide.static_posterior, *[guide.dynamic] * STEPS]
    shares = [torch.full((STEPS,), 1 / STEPS), *torch.eye(STEPS)]  # of each step's noise
    inputs = [codes.mean(dim=1), *codes.unbind(dim=1)]
    loc = torch.cat(
        [
            each @ head.loc.weight[:, :2].T + head.loc.bias
            for each, head in zip(inputs, heads, strict=True)
        ],
        dim=1,
    )
    mixing = torch.stack(
        [
            torch.outer(share.double(), head.loc.weight[0, 2:]).flatten()
            for share, head in zip(shares, heads, strict=True)
        ]
    )  # of all noise
    scales = torch.stack([head.log_scale.exp()[0] for head in heads])
    past = torch.eye(1 + STEPS).double()  # of each code, what all say alone
    for t in range(2, 1 + STEPS):
        past[t] += PAST * past[t - 1]
    covariance = past @ (mixing @ mixing.T + torch.diag(scales**2)) @ past.T
    return MultivariateNormal(loc @ past.T, covariance)


def discriminators_of(dsae):
    """Trained for a guide that stays as it is, and the frames they saw."""
    objective = objective_of("avb", dsae)
    x = torch.rand(2, STEPS, *FRAME).double()
    own = list(objective.networks.parameters())
    optimizer = torch.optim.Adam(own, lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    batch = x.repeat(128, 1, 1, 1, 1)
    for _ in range(300):
        loss = objective(batch, None, 1.0, 1.0) / len(batch)
        optimizer.zero_grad()
        loss.backward(inputs=own)
        optimizer.step()
        schedule.step()
    return objective, x.repeat(1000, 1, 1, 1, 1)


@pytest.fixture(scope="module")
def trained():
    return discriminators_of(noisy_model())


def test_the_ratio_is_the_exact_log_ratio_of_gaussians(trained):
    objective, x = trained
    dsae = objective.dsae
    with torch.no_grad():
        exact = posterior(dsae, x)
        reading = dsae.guide.read(x, None)
        codes = exact.sample()
        f, z = codes[:, :1], codes[:, 1:].unsqueeze(-1)
        r = [Normal(*each) for each in moments(dsae.guide, reading, f, z)]
        log_r_f = r[0].log_prob(f).sum(dim=-1)
        log_r = log_r_f + r[1].log_prob(z).sum(dim=(1, 2))
        ratios = of_f_alone(exact).log_prob(f) - log_r_f, exact.log_prob(codes) - log_r
        units = [(code - each.loc) / each.scale for code, each in zip((f, z), r, strict=True)]
        seen, summary = context(reading)
        found = (
            objective.networks["static"](units[0], summary),
            objective.networks["sequence"](*units, None, seen),
        )
    for logits, ratio in zip(found, ratios, strict=True):
        assert (logits - ratio).abs().mean() < 0.12
        assert ratio.std() > 0.3


def test_the_kl_is_that_of_the_posterior_without_its_noise(trained):
    objective, x = trained
    dsae = objective.dsae
    exact = posterior(dsae, x[:2])
    kl_f = kl_to_prior(of_f_alone(exact))
    found = parts_of(objective, x)
    assert found["kl_f"] == pytest.approx(kl_f, abs=0.06)
    assert found["kl_f"] + found["kl_z"] == pytest.approx(kl_to_prior(exact), abs=0.12)


def test_with_static_dropout_the_kl_is_that_of_each_part_of_the_mixture():
    """f is from its prior in half of the sequences; in those z says nothing of it."""
    objective, x = discriminators_of(noisy_model(static_dropout=0.5))
    exact = posterior(objective.dsae, x[:2])
    kl_f = kl_to_prior(of_f_alone(exact))
    of_z = MultivariateNormal(exact.loc[:, 1:], exact.covariance_matrix[:, 1:, 1:])
    found = parts_of(objective, x)
    assert found["kl_f"] == pytest.approx(kl_f / 2, abs=0.06)
    both = (kl_to_prior(exact) + kl_to_prior(of_z)) / 2
    assert found["kl_f"] + found["kl_z"] == pytest.approx(both, abs=0.12)


def test_no_kl_is_further_below_the_true_one_than_is_spared():
    """Three codes that follow two numbers of noise closely: r sees wide ones, T knows nothing."""
    dsae, x = noisy_model(log_scale=-12.0), torch.rand(2, STEPS, *FRAME).double()
    found = parts_of(objective_of("avb", dsae), x.repeat(1000, 1, 1, 1, 1))
    kl, exact = found["kl_f"] + found["kl_z"], posterior(dsae, x)
    squares = exact.loc.square() + exact.variance
    given = (12 - 0.5 + squares / 2).sum(dim=-1).mean().item()  # with the noise known
    assert kl == pytest.approx(given - SPARED, abs=0.2)
    assert given - found["noise_z"] < kl_to_prior(exact) - SPARED < kl


def of_f_alone(exact):
    """q(f | x) of q(f, z_1:T | x)."""
    return MultivariateNormal(exact.loc[:, :1], exact.covariance_matrix[:, :1, :1])


def kl_to_prior(exact):
    """KL(q(f, z_1:T | x) || N(0, I)), averaged over the sequences."""
    size = exact.loc.shape[-1]
    prior = MultivariateNormal(torch.zeros(size).double(), torch.eye(size).double())
    return kl_divergence(exact, prior).mean().item()


@torch.no_grad()
def parts_of(objective, x):
    """Of an objective, in nats a sequence."""
    torch.manual_seed(1)
    objective(x, None, 1.0, 1.0)
    return {name: value.item() / len(x) for name, value in objective.parts.items()}


def test_the_pairs_are_seen_with_what_each_is_inferred_from(frames):
    """With a view f's codes are others than z's; without them the pairs' ratio is an average."""
    dsae = tiny_model(noise_dim=2, dynamic_view="colour", shared_encoder=False)
    mask = torch.arange(6) < torch.tensor([6, 2, 4, 1]).unsqueeze(1)
    reading = dsae.guide.read(frames, mask)
    of_both, of_f = context(reading)
    of_z, repeated = of_both.chunk(2, dim=-1)
    assert torch.equal(of_z, reading.codes) and not torch.equal(of_z, reading.static.codes)
    assert all(torch.equal(step, of_f) for step in repeated.unbind(dim=1))
    means = [
        codes[:n].mean(dim=0) for codes, n in zip(reading.static.codes, mask.sum(1), strict=True)
    ]
    torch.testing.assert_close(of_f, torch.stack(means))


def test_moments_are_those_of_the_mixture_at_the_past_that_is_given():
    dsae = noisy_model()
    x = torch.rand(3, STEPS, *FRAME).double()
    reading = dsae.guide.read(x, None)
    exact = posterior(dsae, x)
    f, z = torch.randn(3, 1).double(), 100 * torch.randn(3, STEPS, 1).double()
    (f_mean, f_scale), (z_mean, z_scale) = moments(dsae.guide, reading, f, z, draws=4000)
    assert torch.allclose(f_mean, exact.loc[:, :1], atol=1e-9)  # the draws are antithetic
    assert torch.allclose(f_scale.square(), exact.variance[:, :1], rtol=0.1)
    # The first step has no past. Of the second one the past is a shift; it adds no deviation.
    first, second = exact.loc[:, 1], exact.loc[:, 2] - PAST * exact.loc[:, 1]
    assert torch.allclose(z_mean[:, 0, 0], first, atol=1e-9)
    assert torch.allclose(z_mean[:, 1, 0], second + PAST * z[:, 0, 0], atol=1e-9)
    assert torch.allclose(z_scale[:, 0, 0].square(), exact.variance[:, 1], rtol=0.1)
    assert torch.allclose(z_scale[:, 1], z_scale[:, 0], rtol=0.1)
    one = moments(dsae.guide, dsae.guide.read(x[:1], None), f[:1], z[:1], draws=4000)
    assert torch.allclose(one[1][1], z_scale[:1])  # whoever else is in the batch


@pytest.mark.parametrize("guide", ["full", "factorized", "framewise"])
def test_a_guide_with_noise_serves_the_verbs_and_is_saved(guide, frames, tmp_path):
    """Means are those at no noise; draws are different ones; masks hold as ever."""
    dsae = tiny_model(guide=guide, noise_dim=3).eval()
    assert torch.equal(dsae.encode(frames)[0], dsae.encode(frames)[0])
    assert not torch.equal(dsae.encode(frames, sample=True)[0], dsae.encode(frames, sample=True)[0])
    assert dsae.swap(frames[:2], frames[2:]).shape == (2, 6, 2, 16, 32)
    mask = torch.arange(6) < torch.tensor([[6], [2], [4], [1]])
    together = dsae.encode(frames, mask)
    for row, length in enumerate((6, 2, 4, 1)):
        f, z = dsae.encode(frames[row : row + 1, :length])
        assert torch.allclose(f[0], together[0][row])
        assert torch.allclose(z[0], together[1][row, :length])
    save(dsae.float(), tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.config.noise_dim == 3
    assert torch.equal(again.encode(frames.float())[0], dsae.encode(frames.float())[0])


def test_without_noise_there_is_no_ratio_to_estimate():
    with pytest.raises(ConfigError, match="noise_dim is 0, but objective 'avb'"):
        objective_of("avb", tiny_model())
    with pytest.raises(ConfigError, match="noise_dim is -1.*negative"):
        ModelConfig(noise_dim=-1)
