from copy import deepcopy

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceMeanField_ELBO
from torch import nn

from conftest import TINY, tiny_model
from pyro_dsae import DSAE, ModelConfig
from pyro_dsae.guides import GUIDES, FullGuide
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
    other = guide.copy()
    other.nodes["z_0"] = {**guide.nodes["z_0"], "value": guide.nodes["z_0"]["value"] + 1}
    moved = poutine.trace(poutine.replay(dsae.model, other)).get_trace(frames)
    for t in range(1, 6):
        assert not torch.equal(moved.nodes[f"z_{t}"]["fn"].mean, model.nodes[f"z_{t}"]["fn"].mean)


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


def posteriors(dsae, x, **fixed):
    """The means of q at every step, with the values in ``fixed`` in place of samples."""
    pyro.set_rng_seed(0)
    conditioned = poutine.condition(dsae.guide, data=fixed)
    nodes = poutine.trace(conditioned).get_trace(x).nodes
    return [nodes[f"z_{t}"]["fn"].mean for t in range(x.shape[1])]


@pytest.mark.parametrize("guide", GUIDES)
def test_what_each_z_is_conditioned_on(guide, frames):
    dsae = tiny_model(guide=guide).eval()
    fixed = {f"z_{t}": torch.zeros(4, 3).double() for t in range(6)}
    fixed["f"] = torch.zeros(4, 5).double()

    def changes(x=frames, **new):
        old, new = posteriors(dsae, frames, **fixed), posteriors(dsae, x, **{**fixed, **new})
        return [not torch.equal(a, b) for a, b in zip(old, new, strict=True)]

    z_2 = changes(z_2=torch.ones(4, 3).double())
    f = changes(f=torch.ones(4, 5).double())
    brighter = frames.clone()
    brighter[:, 3] += 0.5
    x_3 = changes(brighter)
    no, yes = [False], [True]
    assert z_2 == (6 * no if guide == "framewise" else 3 * no + 3 * yes)
    assert f == (6 * yes if guide == "full" else 6 * no)
    assert x_3 == (6 * yes if guide == "full" else 3 * no + yes + 2 * no)


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO])
def test_a_padded_batch_is_the_sum_of_its_sequences(dsae, frames, elbo):
    dsae.eval()
    mask = torch.arange(6) < torch.tensor([6, 3, 1, 5]).unsqueeze(-1)
    mask[0, 2] = False  # a gap is not padding
    x = frames * mask[..., None, None, None]
    names = ["f", *(f"z_{t}" for t in range(6))]
    guide, _ = traces(dsae, x, mask)
    values = {n: guide.nodes[n]["value"] for n in names}
    padded = elbo().loss(dsae.model, poutine.replay(dsae.guide, guide), x, mask)
    total = 0.0
    for i, length in enumerate([6, 3, 1, 5]):
        data = {n: values[n][i : i + 1] for n in names[: length + 1]}
        one = poutine.trace(poutine.condition(dsae.guide, data=data))
        nodes = one.get_trace(x[i : i + 1, :length], mask[i : i + 1, :length])
        for name in data:
            nodes.nodes[name]["is_observed"] = False
        replayed = poutine.replay(dsae.guide, nodes)
        total += elbo().loss(dsae.model, replayed, x[i : i + 1, :length], mask[i : i + 1, :length])
    assert padded == pytest.approx(total, rel=1e-9)


def test_the_kl_weight_scales_the_latents_in_model_and_guide(dsae, frames):
    dsae.eval()
    guide, model = traces(dsae, frames)
    frozen = poutine.replay(dsae.guide, guide)
    loss, weighted = (Trace_ELBO().loss(dsae.model, frozen, frames, None, w) for w in (1.0, 0.25))
    model.compute_log_prob()
    reconstruction = model.nodes["x"]["log_prob_sum"].item()
    assert weighted + reconstruction == pytest.approx(0.25 * (loss + reconstruction), rel=1e-9)


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
