from copy import deepcopy

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.inspect import get_model_relations
from torch import nn

from conftest import TINY, tiny_model
from fixed_noise import FixedNoise, standard_noise
from pyro_dsae import DSAE, ModelConfig
from pyro_dsae.evaluation.bound import importance_weighted, log_weights
from pyro_dsae.guides import GUIDES, FullGuide
from pyro_dsae.objectives.elbo import ESTIMATORS
from pyro_dsae.priors import PRIORS, LSTMPrior


def traces(dsae, x, mask=None):
    guide = poutine.trace(dsae.guide).get_trace(x, mask)
    model = poutine.trace(poutine.replay(dsae.model, guide)).get_trace(x, mask)
    return guide, model


def test_model_and_guide_share_their_sites(dsae, frames):
    guide, model = traces(dsae, frames)
    latents = ["f", *(f"z_{t}" for t in range(6))]
    assert guide.stochastic_nodes[1:] == latents
    assert model.stochastic_nodes[1:] == latents
    assert model.observation_nodes == ["x"]
    assert all(torch.equal(guide.nodes[n]["value"], model.nodes[n]["value"]) for n in latents)


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO])
def test_every_parameter_gets_a_gradient(dsae, frames, elbo):
    elbo()(dsae.model, dsae.guide)(frames).backward()
    without = [n for n, p in dsae.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_the_loss_is_the_elbo_written_out(dsae, frames):
    """log p(x, f, z) - log q(f, z) by hand, the prior fed with the posterior's samples."""
    dsae.eval()
    guide, _ = traces(dsae, frames)
    value = {name: site["value"] for name, site in guide.nodes.items() if name != "_INPUT"}
    f, z = value["f"], torch.stack([value[f"z_{t}"] for t in range(6)], dim=1)
    normal = torch.distributions.Normal
    log_p = normal(0, 1).log_prob(f).sum()
    state, previous = None, torch.zeros_like(z[:, 0])
    for t in range(6):
        prior, state = dsae.model.prior(previous, state)
        log_p = log_p + prior.log_prob(z[:, t]).sum()
        previous = z[:, t]
    log_p = log_p + normal(dsae.decode(f, z), 0.5).log_prob(frames).sum()
    log_q = guide.log_prob_sum()
    pyro.set_rng_seed(0)
    frozen = poutine.replay(dsae.guide, guide)
    loss = Trace_ELBO().loss(dsae.model, frozen, frames)
    assert loss == pytest.approx((log_q - log_p).item(), rel=1e-10)


def test_the_prior_is_fed_with_the_samples_of_the_guide(frames):
    dsae = tiny_model(prior="lstm").eval()
    guide, model = traces(dsae, frames)
    state, previous = None, torch.zeros(4, 3).double()
    for t in range(6):
        prior, state = dsae.model.prior(previous, state)
        torch.testing.assert_close(model.nodes[f"z_{t}"]["fn"].mean, prior.mean)
        previous = guide.nodes[f"z_{t}"]["value"]


def test_own_parts_go_by_hand_and_by_name(frames, monkeypatch):
    class Prior(LSTMPrior):
        pass

    class Guide(FullGuide):
        pass

    def encoder():
        return nn.Sequential(nn.Flatten(-3), nn.Linear(2 * 16 * 32, TINY["code_dim"]))

    monkeypatch.setitem(PRIORS, "own", Prior)
    monkeypatch.setitem(GUIDES, "own", Guide)
    config = ModelConfig(**TINY, prior="own", guide="own")
    sizes = [TINY[f"{name}_dim"] for name in ("code", "hidden", "static", "dynamic")]
    named = DSAE(config, encoder=encoder())
    by_hand = DSAE(ModelConfig(**TINY), prior=Prior(3, 7), guide=Guide(encoder(), *sizes))
    for dsae in (named, by_hand):
        assert type(dsae.model.prior) is Prior and type(dsae.guide) is Guide
        assert type(dsae.guide.encoder) is nn.Sequential
        Trace_ELBO()(dsae.model, dsae.guide)(frames.float()).backward()
        assert all(parameter.grad is not None for parameter in dsae.parameters())
    with pytest.raises(ValueError, match="pass the one or the other"):
        DSAE(config, encoder=encoder(), guide=by_hand.guide)


STEPS = 6
LENGTHS = [6, 3, 1, 5]
MASK = torch.arange(STEPS) < torch.tensor(LENGTHS).unsqueeze(-1)
MASK[0, 2] = MASK[3, 0] = False  # a gap is not padding


def one_by_one(x, noise):
    """Each sequence alone and unpadded: frames, mask and the noise that it has in the batch."""
    for i, length in enumerate(LENGTHS):
        own = {name: value[..., i : i + 1, :] for name, value in noise.items()}
        yield x[i : i + 1, :length], MASK[i : i + 1, :length], own


def changes(program, sites, x, fixed, x_new=None, **new):
    """Which sites' means change when x or the values of other sites do."""

    def means(x, fixed):
        nodes = poutine.trace(poutine.condition(program, data=fixed)).get_trace(x).nodes
        return [nodes[name]["fn"].mean for name in sites]

    old, new = means(x, fixed), means(x if x_new is None else x_new, {**fixed, **new})
    return [not torch.equal(a, b) for a, b in zip(old, new, strict=True)]


def all_zero():
    return {name: torch.zeros_like(value) for name, value in standard_noise(4).items()}


@pytest.mark.parametrize("step", range(STEPS))
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("guide", GUIDES)
def test_what_each_z_is_conditioned_on_in_the_guide(guide, shared, step, frames):
    """Das & Dandi's section II.A for `full`, II.B for `factorized`, and its q of [1]."""
    dsae, fixed = tiny_model(guide=guide, shared_encoder=shared).eval(), all_zero()
    steps = [f"z_{t}" for t in range(STEPS)]
    brighter = frames.clone()
    brighter[:, step] += 0.5
    one = torch.ones_like(fixed[f"z_{step}"])
    z = changes(dsae.guide, steps, frames, fixed, **{f"z_{step}": one})
    x = changes(dsae.guide, steps, frames, fixed, brighter)
    f = changes(dsae.guide, steps, frames, fixed, f=torch.ones_like(fixed["f"]))
    assert z == [guide != "framewise" and t > step for t in range(STEPS)]
    assert x == [guide == "full" or t == step for t in range(STEPS)]
    assert f == [guide == "full"] * STEPS
    assert changes(dsae.guide, ["f"], frames, fixed, brighter) == [True]
    assert changes(dsae.guide, ["f"], frames, fixed, **{f"z_{step}": one}) == [False]


@pytest.mark.parametrize("step", range(STEPS))
@pytest.mark.parametrize("prior", PRIORS)
def test_what_each_z_is_conditioned_on_in_the_prior(prior, step, frames):
    dsae, fixed = tiny_model(prior=prior).eval(), all_zero()
    sites = ["f", *(f"z_{t}" for t in range(STEPS))]
    z = changes(dsae.model, sites, frames, fixed, **{f"z_{step}": torch.ones(4, 3).double()})
    assert z == [False] + [prior == "lstm" and t > step for t in range(STEPS)]
    new_f = {"f": torch.ones(4, 5).double()}
    assert changes(dsae.model, sites, frames, fixed, 1 - frames, **new_f) == [False] * 7


@pytest.mark.parametrize("step", range(STEPS))
def test_each_frame_depends_on_f_and_its_own_z_alone(step):
    dsae = tiny_model().eval()
    f, z = torch.zeros(4, 5).double(), torch.zeros(4, STEPS, 3).double()
    moved = z.clone()
    moved[:, step] += 1
    means = dsae.decode(f, z)
    changed = (dsae.decode(f, moved) != means).flatten(2).any(-1)
    assert (changed == (torch.arange(STEPS) == step)).all()
    assert (dsae.decode(f + 1, z) != means).flatten(2).any(-1).all()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_padded_batch_is_the_sum_of_its_sequences(dsae, frames, name):
    """The bound and each of its parts, with the same noise in both."""
    dsae.eval()
    estimator, noise = ESTIMATORS[name](), standard_noise(4)

    def bound(x, mask, noise):
        with FixedNoise(noise):
            loss = estimator.loss(dsae.model, dsae.guide, x, mask)
        return {"loss": loss, **{key: part.item() for key, part in estimator.parts.items()}}

    padded = bound(frames, MASK, noise)
    alone = [bound(*sequence) for sequence in one_by_one(frames, noise)]
    total = {key: sum(parts[key] for parts in alone) for key in padded}
    assert padded == pytest.approx(total, rel=1e-9)


def test_a_padded_batch_has_the_weighted_bounds_of_its_sequences(dsae, frames):
    noise = standard_noise(8, 4)

    def bound(x, mask, noise):
        with FixedNoise(noise):
            return importance_weighted(log_weights(dsae, x, mask, particles=8), 8)

    alone = torch.cat([bound(*sequence) for sequence in one_by_one(frames, noise)])
    torch.testing.assert_close(bound(frames, MASK, noise), alone, rtol=1e-9, atol=0)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_is_not_observed_does_not_matter(dsae, frames, name, training):
    """In training, no statistic of batch norm is of it."""
    dsae.train(training)
    other = torch.where(MASK[..., None, None, None], frames, 1 - frames)
    estimator, found = ESTIMATORS[name](), []
    for x in (frames, other):
        with FixedNoise(standard_noise(4)):
            found.append(estimator.loss(dsae.model, dsae.guide, x, MASK))
    assert found[0] == found[1]
    dsae.eval()
    (f, z), (other_f, other_z) = dsae.encode(frames, MASK), dsae.encode(other, MASK)
    assert torch.equal(f, other_f)
    for i, length in enumerate(LENGTHS):
        assert torch.equal(z[i, :length], other_z[i, :length])


def test_a_step_without_observation_is_inferred_from_the_rest(dsae, frames):
    """Its z stays in the model, and moves with what the guide's factor lets it see."""
    dsae.eval()
    mask = torch.ones(4, STEPS, dtype=torch.bool)
    mask[:, 2] = False
    darker = frames.clone()
    darker[:, 1] *= 0.5
    guide, model = traces(dsae, frames, mask)
    for trace in (guide, model):
        trace.compute_log_prob()
        assert (trace.nodes["z_2"]["log_prob"] != 0).all()
    (f, z), (other_f, other_z) = dsae.encode(frames, mask), dsae.encode(darker, mask)
    assert not torch.equal(f, other_f)
    assert torch.equal(z[:, 2], other_z[:, 2]) == (dsae.config.guide == "framewise")
    means = dsae.reconstruct(frames, mask)
    assert ((means > 0) & (means < 1)).all()
    assert not torch.equal(means[:, 2], dsae.reconstruct(darker, mask)[:, 2])  # by f at least


def test_a_sequence_without_any_observation_is_refused(dsae, frames):
    mask = torch.tensor([True, False, True, False]).unsqueeze(-1).expand(4, STEPS)
    for program in (dsae.model, dsae.guide, dsae.encode):
        with pytest.raises(ValueError, match="no observed step in sequence 1, 3, .*leave such"):
            program(frames, mask)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_kl_weights_scale_their_latents_in_model_and_guide(dsae, frames, name):
    dsae.eval()
    with FixedNoise(standard_noise(4)):
        guide, model = traces(dsae, frames)
    kl = {"f": 0.0, "z": 0.0}
    for site in list(all_zero()):
        q, p = guide.nodes[site]["fn"], model.nodes[site]["fn"]
        value = guide.nodes[site]["value"]
        sampled = q.log_prob(value) - p.log_prob(value)
        exact = torch.distributions.kl_divergence(q.base_dist, p.base_dist).sum(-1)
        kl[site[0]] += (sampled if name == "sampled" else exact).sum().item()

    def loss(*weights):
        with FixedNoise(standard_noise(4)):
            return ESTIMATORS[name]().loss(dsae.model, dsae.guide, frames, None, *weights)

    assert loss(1, 1) == loss()
    for weight_f, weight_z in ((0.25, 1.0), (1.0, 0.25), (0.5, 2.0)):
        change = (weight_f - 1) * kl["f"] + (weight_z - 1) * kl["z"]
        assert loss(weight_f, weight_z) - loss() == pytest.approx(change, rel=1e-7)


def test_the_verbs_have_their_shapes_and_leave_batch_norm_alone(dsae, frames):
    dsae.eval()
    before = {name: value.clone() for name, value in dsae.state_dict().items()}
    f, z = dsae.encode(frames)
    assert f.shape == (4, 5) and z.shape == (4, 6, 3)
    assert dsae.embed(frames).shape == (4, 5 + 6 * 3)
    assert torch.equal(dsae.reconstruct(frames), dsae.decode(f, z))
    assert torch.equal(
        dsae.swap(frames, frames.flip(0)), dsae.decode(f, dsae.encode(frames.flip(0))[1])
    )
    assert dsae.sample(3, 5).shape == (3, 5, 2, 16, 32)
    assert not torch.equal(dsae.encode(frames, sample=True)[0], f)
    after = dsae.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_particles_may_be_vectorised(dsae, frames):
    dsae.eval()
    loss = Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1)
    assert loss.loss(dsae.model, dsae.guide, frames) > 0
    draws = Predictive(dsae.model, guide=dsae.guide, num_samples=3, parallel=True)(frames)
    assert draws["f"].shape == (3, 4, 5) and draws["z_5"].shape == (3, 4, 3)


@pytest.mark.parametrize("guide", GUIDES)
def test_every_model_of_a_process_learns_under_plain_svi(guide, frames):
    """Also a deep copy: under one name in Pyro's store only the first would learn."""
    with pyro.get_param_store().scope():
        first, second = tiny_model(guide=guide), tiny_model(guide=guide)
        for dsae in (first, second, deepcopy(first)):
            start = {name: value.detach().clone() for name, value in dsae.named_parameters()}
            svi = SVI(dsae.model, dsae.guide, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())
            losses = [svi.step(frames) for _ in range(40)]
            assert sum(losses[-5:]) < sum(losses[:5])
            still = [n for n, p in dsae.named_parameters() if torch.equal(start[n], p)]
            assert still == []


@pytest.mark.parametrize(
    ("guide", "prior", "inferred", "generated"),
    [
        ("full", "lstm", ["f", "z_0", "z_1"], ["z_0", "z_1"]),
        ("factorized", "lstm", ["z_0", "z_1"], ["z_0", "z_1"]),
        ("framewise", "standard", [], []),
    ],
)
def test_the_graphs_that_pyro_draws_have_the_edges_of_the_factors(
    guide, prior, inferred, generated, frames
):
    dsae, latents = tiny_model(guide=guide, prior=prior), ["f", "z_0", "z_1", "z_2"]
    for program, parents in ((dsae.model, generated), (dsae.guide, inferred)):
        edges = get_model_relations(program, (frames[:, :3],))["sample_sample"]
        assert sorted(edges["z_2"]) == parents and edges["f"] == []
        assert sorted(edges.get("x", latents)) == latents
