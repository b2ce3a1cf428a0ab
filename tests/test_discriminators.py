"""The logit of a trained discriminator, against log ratios of densities that are known."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from pyro_dsae.objectives.discriminators import (
    FrameDiscriminator,
    SequenceDiscriminator,
    StaticDiscriminator,
    accuracy,
    logistic_loss,
)


def train(network, draw, steps, rate=1e-2):
    """``draw`` gives a batch of inputs from p and one from q."""
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        of_p, of_q = (network(*inputs) for inputs in draw())
        optimizer.zero_grad()
        (logistic_loss(of_p, of_q) / len(of_p)).backward()
        optimizer.step()
        schedule.step()


def test_the_logit_is_the_log_ratio_of_two_gaussians():
    torch.manual_seed(0)
    p = Normal(torch.tensor([0.5, -0.3]), torch.tensor([0.7, 1.3]))
    q = Normal(torch.zeros(2), torch.ones(2))
    network = StaticDiscriminator(2, 16)
    train(network, lambda: ((p.sample((512,)),), (q.sample((512,)),)), 400)
    f = p.sample((2000,))
    exact = (p.log_prob(f) - q.log_prob(f)).sum(dim=-1)
    with torch.no_grad():
        found = network(f)
    assert (found - exact).abs().mean() < 0.1
    assert found.mean().item() == pytest.approx(kl_divergence(p, q).sum().item(), abs=0.05)


def test_pairs_against_shuffled_ones_have_the_mutual_information():
    """z_2 is f with noise, z_1 and the third step say nothing; the third is padding for half."""
    torch.manual_seed(0)
    rho = 0.8

    def draw(count=512):
        f, z = torch.randn(count, 1), torch.randn(count, 3, 1)
        z[:, 1] = rho * f + math.sqrt(1 - rho**2) * z[:, 1]
        lengths = torch.arange(count) % 2 + 2
        return (f, z, lengths), (f, z.roll(2, dims=0), lengths)

    network = SequenceDiscriminator(1, 1, 16)
    train(network, draw, 400)
    with torch.no_grad():
        information = network(*draw(4000)[0]).mean().item()
    assert information == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.08)


def test_padding_changes_no_logit():
    torch.manual_seed(0)
    network = SequenceDiscriminator(2, 3, 8, context_dim=4)
    for parameter in network.parameters():
        parameter.data += torch.randn_like(parameter)
    f, z, context = torch.randn(2, 2), torch.randn(2, 5, 3), torch.randn(2, 5, 4)
    lengths = torch.tensor([5, 3])
    logits = network(f, z, lengths, context)
    alone = network(f[1:], z[1:, :3], None, context[1:, :3])
    assert torch.allclose(logits[1:], alone, atol=1e-5)


def test_frames_of_a_batch_know_nothing_of_each_other():
    torch.manual_seed(0)
    network = FrameDiscriminator((3, 32, 16), (4, 4, 6, 6), 10)
    x = torch.rand(4, 3, 32, 16)
    for together, alone in zip(network(x), network(x[:1]), strict=True):
        assert torch.allclose(together[:1], alone, atol=1e-5)


def test_accuracy_weighs_both_sides_alike():
    right, wrong = torch.ones(2), -torch.ones(30)
    assert accuracy(right, -wrong).item() == 0.5
    assert accuracy(right, wrong).item() == 1
    assert accuracy(-right, -wrong).item() == 0
    assert accuracy(0 * right, 0 * wrong).item() == 0.5
