"""The aggregated posterior of a linear model, matched to the prior without any KL."""

from dataclasses import replace

import numpy as np
import pyro
import pytest
import torch

from conftest import objective_of
from linear_gaussian import linear_frames, linear_model
from pyro_dsae.objectives.elbo import traces
from pyro_dsae.objectives.objective import latents


def energy(first, second):
    """Energy distance of two samples (Szekely & Rizzo 2013), 0 for one distribution."""
    return (
        2 * torch.cdist(first, second).mean()
        - torch.cdist(first, first).mean()
        - torch.cdist(second, second).mean()
    ).item()


def p_value(first, second, permutations=200):
    """Of the hypothesis that both samples are from one distribution, by permutation."""
    random, pooled = np.random.default_rng(0), torch.cat([first, second])
    found = energy(first, second)
    larger = 0
    for _ in range(permutations):
        shuffled = pooled[random.permutation(len(pooled))]
        larger += energy(*shuffled.split([len(first), len(second)])) >= found
    return (larger + 1) / (permutations + 1)


def drawn(dsae, x):
    """Codes of the guide and of the prior, each (B, static_dim + T dynamic_dim)."""
    with torch.no_grad():
        f, z = latents(traces(dsae.model, dsae.guide, x, None)[1])
        prior = dsae.model.draw(*x.shape[:2])
    return [torch.cat([f, z.flatten(1)], dim=1) for f, z in ((f, z), prior)]


def test_the_codes_of_all_data_come_to_follow_the_prior_by_a_two_sample_test():
    dsae = linear_model()
    dsae.config = replace(dsae.config, hidden_dim=32)  # of the discriminators
    objective = objective_of("aae", dsae)
    torch.manual_seed(0)
    x = linear_frames(dsae, 1000)
    codes, prior = drawn(dsae, x[:100])
    assert p_value(codes, prior) < 0.01
    steps, guide = 300, dsae.guide
    heads = [*guide.static_posterior.parameters(), *guide.dynamic_posterior.parameters()]
    optimizers = [
        torch.optim.Adam(parameters, lr=rate, betas=(0.5, 0.999))
        for parameters, rate in ((heads, 1e-2), (objective.networks.parameters(), 1e-2))
    ]
    schedules = [
        torch.optim.lr_scheduler.CosineAnnealingLR(each, steps, 1e-4) for each in optimizers
    ]
    with pyro.validation_enabled(False):
        for _ in range(steps):
            batch = x[torch.randint(len(x), (128,))]
            loss = objective(batch, None, 1000.0, 1000.0) / 128
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
    codes, prior = drawn(dsae, x[:100])
    assert p_value(codes, prior) > 0.05


def test_a_prior_with_parameters_is_fitted_to_the_codes():
    """``log_prior`` is log p of the codes, with the padding left out."""
    dsae = linear_model()
    objective = objective_of("aae", dsae)
    x = linear_frames(dsae, 3)
    mask = torch.arange(4) < torch.tensor([[4], [2], [3]])
    torch.manual_seed(1)
    objective(x, mask, 1.0, 1.0)
    torch.manual_seed(1)
    model, _ = traces(dsae.model, dsae.guide, x, mask)
    model.compute_log_prob()
    expected = sum(model.nodes[f"z_{t}"]["log_prob_sum"].item() for t in range(4))
    assert objective.parts["log_prior"].item() == pytest.approx(expected)
