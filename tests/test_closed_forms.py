"""With linear maps everywhere the evidence, the posterior and the bound are known exactly."""

from itertools import pairwise

import pyro
import pytest
import torch

from linear_gaussian import (
    LATENTS,
    STATIC,
    STEPS,
    expected_elbo,
    guide_law,
    joint_evidence,
    kalman_evidence,
    linear_frames,
    linear_model,
    make_exact,
    posterior_law,
    prior_law,
    sigma_points,
)
from pyro_dsae.evaluation.bound import importance_weighted, log_weights, mean_and_error
from pyro_dsae.objectives.elbo import ESTIMATORS

GAP = torch.tensor([True, False, True, True])


@pytest.fixture
def dsae():
    return linear_model()


@pytest.fixture
def x(dsae):
    return linear_frames(dsae)


def exact_expectation(dsae, estimator, sequence, mask=None):
    """The estimator's expectation for one sequence (STEPS, C, H, W), with its gradient."""
    points = 2 * LATENTS
    batch = sequence.expand(points, *sequence.shape)
    mask = None if mask is None else mask.expand(points, STEPS)
    guide = sigma_points()(dsae.guide)
    return -ESTIMATORS[estimator]()(dsae.model, guide)(batch, mask) / points


def test_the_filter_agrees_with_the_gaussian_over_all_pixels(dsae, x):
    assert torch.allclose(kalman_evidence(dsae, x), joint_evidence(dsae, x), rtol=0, atol=1e-8)


def test_the_posterior_agrees_with_bayes_rule(dsae, x):
    """log p(f, z | x) = log p(x | f, z) + log p(f, z) - log p(x) at any f and z."""
    y = torch.randn(3, LATENTS, generator=torch.Generator().manual_seed(3)).double()
    f, z = y.split([STATIC, LATENTS - STATIC], dim=1)
    likelihood = torch.distributions.Normal(dsae.decode(f, z.unflatten(1, (STEPS, -1))), 0.7)
    joint = likelihood.log_prob(x).sum((1, 2, 3, 4)) + prior_law(dsae).log_prob(y)
    expected = joint - kalman_evidence(dsae, x)
    assert torch.allclose(posterior_law(dsae, x).log_prob(y), expected, rtol=0, atol=1e-8)


def test_the_guide_can_be_the_exact_posterior(dsae, x):
    make_exact(dsae)
    q, p = guide_law(dsae, x), posterior_law(dsae, x)
    assert torch.allclose(q.mean, p.mean, rtol=0, atol=1e-9)
    assert torch.allclose(q.covariance_matrix, p.covariance_matrix[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("mask", [None, GAP], ids=["whole", "gap"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_at_the_exact_posterior_the_elbo_is_the_evidence(estimator, mask, dsae, x):
    make_exact(dsae, mask)
    evidence = kalman_evidence(dsae, x, None if mask is None else mask.expand(len(x), STEPS))
    for sequence, expected in zip(x, evidence, strict=True):
        elbo = exact_expectation(dsae, estimator, sequence, mask)
        assert elbo.item() == pytest.approx(expected.item(), rel=0, abs=1e-6)


def test_at_the_exact_posterior_every_sample_gives_the_evidence(dsae, x):
    make_exact(dsae)
    pyro.set_rng_seed(0)
    for _ in range(5):
        loss = ESTIMATORS["sampled"]().loss(dsae.model, dsae.guide, x)
        assert -loss == pytest.approx(kalman_evidence(dsae, x).sum().item(), rel=0, abs=1e-6)


@pytest.mark.parametrize("mask", [None, GAP], ids=["whole", "gap"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_elsewhere_the_elbo_is_lower_by_the_kl_to_the_posterior(estimator, mask, dsae, x):
    masks = None if mask is None else mask.expand(len(x), STEPS)
    evidence = kalman_evidence(dsae, x, masks)
    q, p = guide_law(dsae, x, masks), posterior_law(dsae, x, masks)
    gap = torch.distributions.kl_divergence(q, p)
    assert gap.min() > 1
    for sequence, expected in zip(x, evidence - gap, strict=True):
        elbo = exact_expectation(dsae, estimator, sequence, mask)
        assert elbo.item() == pytest.approx(expected.item(), rel=0, abs=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_expected_gradient_is_the_analytic_one(estimator, dsae, x):
    """For every parameter of model and guide, to 1e-9 of the largest gradient."""
    parameters = list(dsae.parameters())
    analytic = torch.autograd.grad(expected_elbo(dsae, x[:1]).sum(), parameters)
    estimate = exact_expectation(dsae, estimator, x[0])
    assert estimate.item() == pytest.approx(expected_elbo(dsae, x[:1]).item(), rel=0, abs=1e-6)
    for gradient, expected in zip(torch.autograd.grad(estimate, parameters), analytic, strict=True):
        assert expected.abs().max() > 1e-3
        assert torch.allclose(gradient, expected, rtol=0, atol=1e-9 * expected.abs().max().item())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_sampled_gradients_are_unbiased(estimator, dsae, x):
    """Over 60 batches of 64 draws the mean gradient is the analytic one, at a level of 1e-3.

    With 2,500 parameters each may be off at 1e-3 / 2,500; Student's t with 59 degrees of freedom
    then stays below 5.7.
    """
    parameters = list(dsae.parameters())
    analytic = torch.autograd.grad(expected_elbo(dsae, x[:1]).sum(), parameters)
    analytic = torch.cat([gradient.flatten() for gradient in analytic])
    pyro.set_rng_seed(0)
    batch, draws = x[:1].expand(64, *x.shape[1:]), []
    for _ in range(60):
        elbo = -ESTIMATORS[estimator]()(dsae.model, dsae.guide)(batch) / len(batch)
        gradients = torch.autograd.grad(elbo, parameters)
        draws.append(torch.cat([gradient.flatten() for gradient in gradients]))
    draws = torch.stack(draws)
    error = draws.std(dim=0) / len(draws) ** 0.5
    noisy = error > 1e-12  # the analytic KL has no noise in some
    t = (draws.mean(dim=0) - analytic)[noisy] / error[noisy]
    assert t.abs().max() < 5.7
    assert torch.allclose(draws.mean(dim=0)[~noisy], analytic[~noisy], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mask", [None, GAP], ids=["whole", "gap"])
def test_at_the_exact_posterior_the_weighted_bound_is_the_evidence_for_every_k(mask, dsae, x):
    make_exact(dsae, mask)
    masks = None if mask is None else mask.expand(len(x), STEPS)
    evidence = kalman_evidence(dsae, x, masks)
    pyro.set_rng_seed(0)
    weights = log_weights(dsae, x, masks, particles=12, at_once=5)
    for k in (1, 2, 4, 12):
        assert torch.allclose(importance_weighted(weights, k), evidence, rtol=0, atol=1e-6)


def test_elsewhere_the_weighted_bound_rises_with_k_to_the_evidence(dsae, x):
    """Of 300 repetitions, each rise is 4 standard errors at least; the end is within 0.05 nats."""
    make_exact(dsae)
    with torch.no_grad():
        for head in [dsae.guide.static_posterior, *dsae.guide.dynamic_posterior]:
            head.loc.bias += 0.15
            head.log_scale += 0.15
    batch = x[:1].expand(300, *x.shape[1:])
    pyro.set_rng_seed(0)
    weights = log_weights(dsae, batch, particles=256, at_once=8)
    found = [importance_weighted(weights, k) for k in (1, 2, 4, 16, 64, 256)]
    expected = expected_elbo(dsae, x[:1]).item()
    assert abs(found[0].mean() - expected) < 4 * mean_and_error(found[0])[1]
    for smaller, larger in pairwise(found):
        rise, error = mean_and_error(larger - smaller)
        assert rise > 4 * error
    evidence = kalman_evidence(dsae, x[:1]).item()
    assert found[0].mean() < evidence - 0.5
    assert found[-1].mean().item() == pytest.approx(evidence, rel=0, abs=0.05)
