import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceMeanField_ELBO

from conftest import tiny_model
from fixed_noise import FixedNoise, standard_noise
from pyro_dsae.objectives.elbo import ESTIMATORS, AnalyticELBO


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


@pytest.mark.parametrize("validated", [False, True])
def test_a_larger_program_has_the_loss_and_gradient_of_pyros_own_estimator(validated, frames):
    """With two more latents, one without a closed form of its KL, and one more observation.

    And with what the guide alone draws, as an autoguide does for a latent that is constrained.
    """
    dsae = tiny_model().eval()
    loc = torch.nn.Parameter(torch.tensor([0.3, -0.2]).double())

    def model(x):
        level = pyro.sample("level", dist.Normal(loc.new_zeros(()), 1.0))
        pyro.sample("heavy", dist.StudentT(loc.new_tensor(3.0), level, 1.0))
        pyro.sample("rate", dist.LogNormal(level, 1.0))
        pyro.sample("seen", dist.Normal(level, 0.5), obs=loc.new_tensor(0.7))
        return dsae.model(x)

    def guide(x):
        pyro.sample("level", dist.Normal(loc[0], 0.4))
        pyro.sample("heavy", dist.Normal(loc[1], 0.6))
        log = pyro.sample("log", dist.Normal(loc[1], 0.4), infer={"is_auxiliary": True})
        pyro.sample("rate", dist.Delta(log.exp(), log_density=-log))
        return dsae.guide(x)

    found = []
    with pyro.validation_enabled(validated):
        for estimator in (TraceMeanField_ELBO(), AnalyticELBO()):
            pyro.set_rng_seed(0)
            loss = estimator.differentiable_loss(model, guide, frames)
            found.append((loss.item(), *torch.autograd.grad(loss, loc)[0].tolist()))
    assert found[1] == pytest.approx(found[0], rel=1e-10)


@pytest.mark.parametrize("masked", [False, True])
def test_free_bits_are_the_least_that_f_and_each_z_cost(masked, dsae, frames):
    """By hand: each KL, averaged over the sequences that have the site, is free_bits at least."""
    dsae.eval()
    lengths = torch.tensor([6, 2, 4, 1] if masked else [6, 6, 6, 6])
    mask = torch.arange(6) < lengths.unsqueeze(-1) if masked else None

    def loss(free_bits, *weights):
        estimator = AnalyticELBO(free_bits=free_bits)
        with FixedNoise(standard_noise(4)):
            return estimator.loss(dsae.model, dsae.guide, frames, mask, *weights), estimator.parts

    with FixedNoise(standard_noise(4)):
        guide = poutine.trace(dsae.guide).get_trace(frames, mask)
        model = poutine.trace(poutine.replay(dsae.model, guide)).get_trace(frames, mask)
    elbo, parts = loss(0.0)
    shortfall, kl = {"f": 0.0, "z": 0.0}, {}
    for name in standard_noise(4):
        q, p = guide.nodes[name]["fn"].base_dist, model.nodes[name]["fn"].base_dist
        real = lengths > (-1 if name == "f" else int(name[2:]))
        kl[name] = torch.distributions.kl_divergence(q, p).sum(-1)[real]
    free_bits = torch.stack([values.mean() for values in kl.values()]).median().item() + 1e-3
    for name, values in kl.items():
        shortfall[name[0]] += len(values) * max(0.0, free_bits - values.mean().item())
    assert max(shortfall.values()) > 0
    for weight_f, weight_z in ((1.0, 1.0), (0.5, 2.0)):
        extra = weight_f * shortfall["f"] + weight_z * shortfall["z"]
        without, with_free_bits = (loss(b, weight_f, weight_z) for b in (0.0, free_bits))
        assert with_free_bits[0] - without[0] == pytest.approx(extra, rel=1e-7)
        assert with_free_bits[1] == parts
    least = min(values.mean().item() for values in kl.values())
    assert loss(0.9 * least)[0] == pytest.approx(elbo, rel=1e-12)


def test_a_kl_below_the_free_bits_has_no_gradient(frames):
    """The prior is in the KL alone, so it learns nothing while all of that is free."""
    dsae = tiny_model(prior="lstm")
    for free_bits, learns in ((0.0, True), (1e4, False)):
        dsae.zero_grad()
        AnalyticELBO(free_bits=free_bits)(dsae.model, dsae.guide)(frames).backward()
        assert any(p.grad.any() for p in dsae.model.prior.parameters()) == learns
        assert any(p.grad.any() for p in dsae.guide.parameters())
