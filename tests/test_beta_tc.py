"""Total correlation, estimated from batches, against populations where it is known."""

import itertools
import math

import pytest
import torch
from torch.distributions import Independent, Normal

from conftest import objective_of, tiny_model
from fixed_noise import FixedNoise, standard_noise
from pyro_dsae import ConfigError
from pyro_dsae.objectives.beta_tc import (
    SAMPLING,
    BetaTC,
    TotalCorrelationELBO,
    aggregated,
    stratified,
)
from pyro_dsae.objectives.elbo import traces


@pytest.mark.parametrize(("sampling", "too_high"), [("stratified", 0.0), ("weighted", 1.0)])
def test_gaussians_have_their_known_total_correlation(sampling, too_high):
    """q(f) = N(0, C) from q(f | x) = N(m, s^2) with correlated m; all data are one batch.

    Weighted sampling has log q(f) and each log q(f_d) too low by log N, so of two units the total
    correlation is too high by one log N.
    """
    torch.manual_seed(0)
    count, scale = 1500, 0.3
    mixing = torch.tensor([[1.0, 0.0], [1.2, 0.6]]).double()
    loc = torch.randn(count, 2).double() @ mixing.T
    covariance = mixing @ mixing.T + scale**2 * torch.eye(2).double()
    expected = 0.5 * (covariance.diagonal().log().sum() - covariance.logdet()).item()
    codes = loc + scale * torch.randn_like(loc)
    log_q = Normal(loc, scale).log_prob(codes.unsqueeze(1))
    joint, marginals = aggregated(log_q, SAMPLING[sampling](count, count).double())
    found = (joint - marginals.sum(dim=-1)).mean().item()
    assert expected > 0.5
    assert found == pytest.approx(expected + too_high * math.log(count), abs=0.08)


def test_stratified_batches_estimate_the_density_of_the_population_without_bias():
    """The mean over all batches of 3 around one of 5 sequences, in the order they may come."""
    torch.manual_seed(0)
    loc, value = torch.randn(5, 2).double(), torch.randn(1, 1, 2).double()
    density = Normal(loc, 0.7).log_prob(value[0]).sum(dim=-1).exp().mean()
    found = []
    for others in itertools.permutations(range(1, 5), 2):
        log_q = Normal(loc[[0, *others]], 0.7).log_prob(value)  # (1, 3, 2)
        joint, _ = aggregated(log_q, stratified(3, 5)[:1].double())
        found.append(joint.exp())
    assert torch.stack(found).mean().item() == pytest.approx(density.item())


@pytest.mark.parametrize("sampling", SAMPLING)
def test_a_step_that_half_of_the_batch_has_is_one_of_half_of_the_sequences(sampling):
    """Their codes have the total correlation that they have alone."""
    torch.manual_seed(0)
    loc, value = torch.randn(8, 3).double(), torch.randn(8, 3).double()
    long = torch.arange(8) % 2 == 0

    def terms(rows, sequences, mask):
        bound = TotalCorrelationELBO(sequences, 1.0, 1.0, sampling)
        site = {"value": value[rows], "fn": Independent(Normal(loc[rows], 0.1), 1), "mask": mask}
        return bound._decomposed(site, Independent(Normal(torch.zeros(3).double(), 1.0), 1))

    of_all, alone = terms(slice(None), 1000, long), terms(long, 500, None)
    assert {name: term.item() for name, term in of_all.items()} == pytest.approx(
        {name: term.item() for name, term in alone.items()}
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sampling", SAMPLING)
def test_the_three_terms_add_up_to_the_kl_at_the_samples(sampling, masked, frames):
    dsae = tiny_model(prior="lstm")
    mask = torch.arange(6) < torch.tensor([[6], [2], [4], [1]]) if masked else None
    objective = objective_of("beta-tc", dsae, sampling=sampling)
    with FixedNoise(standard_noise(4)):
        objective(frames, mask, 1.0, 1.0)
        model, guide = traces(dsae.model, dsae.guide, frames, mask)
    model.compute_log_prob()
    guide.compute_log_prob()
    expected = {"f": 0.0, "z": 0.0}
    for name in standard_noise(4):
        ratio = guide.nodes[name]["log_prob_sum"] - model.nodes[name]["log_prob_sum"]
        expected[name[0]] += ratio.item()
    for code, kl in expected.items():
        terms = [objective.parts[f"{term}_{code}"] for term in ("index_mi", "tc", "dimension_kl")]
        assert sum(terms).item() == pytest.approx(kl, rel=1e-9)


@pytest.mark.parametrize("sampling", SAMPLING)
def test_the_loss_is_the_bound_and_the_total_correlations_by_their_weights(sampling, frames):
    dsae, losses = tiny_model(prior="lstm"), {}
    for weights in ((0.0, 0.0), (0.7, 1.6)):
        options = dict(zip(("tc_f", "tc_z"), weights, strict=True))
        objective = objective_of("beta-tc", dsae, sampling=sampling, **options)
        with FixedNoise(standard_noise(4)):
            losses[weights] = objective(frames, None, 1.0, 1.0).item()
    parts = objective.parts
    bound = parts["reconstruction"] - parts["kl_f"] - parts["kl_z"]
    correlations = 0.7 * parts["tc_f"] + 1.6 * parts["tc_z"]
    assert abs(correlations) > 1e-3
    assert losses[0.0, 0.0] == pytest.approx(-bound.item(), rel=1e-9)
    assert losses[0.7, 1.6] == pytest.approx((correlations - bound).item(), rel=1e-9)


@pytest.mark.parametrize("sampling", SAMPLING)
def test_steps_that_no_sequence_of_a_batch_has_add_nothing(sampling, frames):
    mask = torch.arange(6) < torch.tensor([[4], [4], [3], [2]])
    objective = objective_of("beta-tc", tiny_model(), sampling=sampling)
    losses = []
    for steps in (6, 4):
        with FixedNoise(standard_noise(4)):
            losses.append(objective(frames[:, :steps], mask[:, :steps], 1.0, 1.0).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


@pytest.mark.parametrize("sampling", SAMPLING)
def test_a_batch_of_one_has_no_total_correlation_to_tell(sampling, frames):
    """It is a constant then, 0 where the one sequence has all weight."""
    objective, found = objective_of("beta-tc", tiny_model(), sampling=sampling), []
    for x in (frames[:1], frames[1:2]):
        assert objective(x, None, 1.0, 1.0).isfinite()
        found.append(objective.parts["tc_f"].item())
    assert found[0] == pytest.approx(found[1], abs=1e-9)
    if sampling == "stratified":
        assert found[0] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("sampling", SAMPLING)
def test_in_small_batches_narrow_posteriors_cost_most_by_stratified_sampling(sampling):
    """The header's example: 64 independent units, and a total correlation that is none."""
    torch.manual_seed(0)
    scale = torch.tensor(0.1).double().requires_grad_()
    weights, estimates = SAMPLING[sampling](8, 8550).double(), []
    for _ in range(100):
        loc = math.sqrt(1 - 0.1**2) * torch.randn(8, 64).double()
        codes = loc + scale * torch.randn_like(loc)
        joint, marginals = aggregated(Normal(loc, scale).log_prob(codes.unsqueeze(1)), weights)
        estimates.append((joint - marginals.sum(dim=-1)).mean())
    estimate = torch.stack(estimates).mean()
    estimate.backward()
    known = {"weighted": (669, -26), "stratified": (262, -167)}[sampling]
    assert estimate.item() == pytest.approx(known[0], abs=5)
    assert 0.1 * scale.grad.item() == pytest.approx(known[1], abs=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling": "all"}, "sampling is 'all'.*weighted, stratified"),
        ({"tc_z": -1.0}, "tc_z is -1.0.*negative"),
    ],
)
def test_a_bad_option_is_named(options, message):
    with pytest.raises(ConfigError, match=message):
        BetaTC.Options(**options)
