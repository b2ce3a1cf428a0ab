import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO

from conftest import tiny_model
from pyro_dsae.likelihoods import LIKELIHOODS
from pyro_dsae.objectives.elbo import ESTIMATORS

SCALED = ("normal", "laplace")


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_likelihood_is_a_normalised_density_around_the_means(name):
    """It integrates to 1, and its mean is what decode returns."""
    loc = torch.tensor([0.1, 0.5, 0.8]).double()
    likelihood = LIKELIHOODS[name](loc, 0.05)
    width = 1.0 if name == "bernoulli" else 1e-4
    values = torch.arange(0 if name == "bernoulli" else -2, 2, width).double()
    mass = likelihood.log_prob(values[:, None]).exp() * width
    assert torch.allclose(mass.sum(0), torch.ones_like(loc), atol=1e-6)
    assert torch.allclose((mass * values[:, None]).sum(0), loc, atol=1e-4)
    assert torch.allclose(likelihood.mean, loc)


@pytest.mark.parametrize(
    ("name", "learn_scale"),
    [(name, False) for name in LIKELIHOODS] + [(name, True) for name in SCALED],
)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_parameter_gets_a_gradient(estimator, name, learn_scale, frames):
    dsae = tiny_model(likelihood=name, learn_scale=learn_scale)
    ESTIMATORS[estimator]()(dsae.model, dsae.guide)(frames.round()).backward()
    assert all(p.grad is not None and p.grad.any() for p in dsae.parameters())
    assert ("model.log_scale" in dsae.state_dict()) == learn_scale


@pytest.mark.parametrize("name", SCALED)
def test_a_learned_scale_settles_at_the_size_of_the_errors(name, frames):
    """Rybkin et al. (2021): the best sigma is the root mean square error; of laplace, the mean."""
    dsae = tiny_model(likelihood=name, learn_scale=True, scale=0.3).eval()
    assert dsae.model.scale.item() == pytest.approx(0.3)
    mask = torch.arange(6) < torch.tensor([[6], [2], [4], [1]])
    torch.manual_seed(0)
    with torch.no_grad():
        f, z = dsae.encode(frames, mask, sample=True)
        errors = (dsae.decode(f, z) - frames)[mask]
        best = errors.square().mean().sqrt() if name == "normal" else errors.abs().mean()
    for factor in (0.5, 1.0, 2.0):
        dsae.model.log_scale.data = (factor * best).log()
        dsae.zero_grad()
        torch.manual_seed(0)
        Trace_ELBO()(dsae.model, dsae.guide)(frames, mask).backward()
        slope = dsae.model.log_scale.grad / errors.numel()
        assert slope.item() == pytest.approx(1 - factor ** (-2 if name == "normal" else -1))


def test_grey_frames_are_refused_by_bernoulli(frames):
    dsae = tiny_model(likelihood="bernoulli")
    with pytest.raises(ValueError, match="support"):
        Trace_ELBO().loss(dsae.model, dsae.guide, frames)


def test_frames_of_one_scale_have_the_density_of_dist_normal():
    """As the model observes them, for particles of means on the left too, and its gradient."""
    torch.manual_seed(0)
    loc = torch.rand(7, 2, 3, 4, 4).double().requires_grad_()
    value = torch.rand(2, 3, 4, 4).double()
    ours = LIKELIHOODS["normal"](loc, 0.3).to_event(3).log_prob(value)
    exact = dist.Normal(loc, 0.3).to_event(3).log_prob(value)
    torch.testing.assert_close(ours, exact)
    torch.testing.assert_close(*(torch.autograd.grad(each.sum(), loc) for each in (ours, exact)))
