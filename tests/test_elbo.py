import pyro
import pytest
import torch

from pyro_dsae.objectives.elbo import ESTIMATORS


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("masked", [False, True])
def test_the_parts_add_up_to_the_bound(name, masked, dsae, frames):
    """Exactly where the KL is analytic; within 4 standard errors where it is sampled."""
    dsae.eval()
    mask = torch.arange(6) < torch.tensor([[6], [2], [4], [1]]) if masked else None
    pyro.set_rng_seed(0)
    estimator = ESTIMATORS[name]()
    gaps = []
    with torch.no_grad():
        for _ in range(1 if name == "analytic" else 50):
            loss = estimator.loss(dsae.model, dsae.guide, frames, mask)
            parts = estimator.parts
            bound = parts["reconstruction"] - parts["kl_f"] - parts["kl_z"]
            gaps.append(bound.item() + loss)
    gaps = torch.tensor(gaps)
    error = 1e-6 if name == "analytic" else 4 * gaps.std().item() / len(gaps) ** 0.5
    assert abs(gaps.mean().item()) < error


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_parts_are_unweighted(name, dsae, frames):
    dsae.eval()
    parts = []
    for weights in ((1.0, 1.0), (0.1, 3.0)):
        pyro.set_rng_seed(0)
        estimator = ESTIMATORS[name]()
        estimator.loss(dsae.model, dsae.guide, frames, None, *weights)
        parts.append(estimator.parts)
    assert parts[0].keys() == parts[1].keys()
    assert all(torch.equal(parts[0][key], parts[1][key]) for key in parts[0])


def test_the_estimators_agree_in_their_mean(dsae, frames):
    """The difference of the means is within 4 standard errors."""
    dsae.eval()
    pyro.set_rng_seed(0)
    draws = {
        name: torch.tensor(
            [make().loss(dsae.model, dsae.guide, frames) for _ in range(50)], dtype=torch.double
        )
        for name, make in ESTIMATORS.items()
    }
    difference = draws["sampled"].mean() - draws["analytic"].mean()
    error = sum(values.var() / len(values) for values in draws.values()).sqrt()
    assert abs(difference) < 4 * error
