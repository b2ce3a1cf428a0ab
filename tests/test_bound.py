import math

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO

from conftest import tiny_model
from pyro_dsae import Sequences
from pyro_dsae.analyses.codes import encode
from pyro_dsae.evaluation import bound
from pyro_dsae.evaluation.bound import (
    active_units,
    bits_per_dimension,
    bound_scores,
    bounds,
    elbo_parts,
    importance_weighted,
    log_weights,
    mean_and_error,
)


def ragged() -> Sequences:
    x = np.random.default_rng(0).integers(0, 256, (5, 4, 16, 32, 2), dtype=np.uint8)
    lengths = np.array([4, 2, 1, 4, 3])
    x[np.arange(4) >= lengths[:, None]] = 0
    return Sequences(x, lengths, np.arange(5))


@pytest.mark.parametrize("masked", [False, True])
def test_one_draw_is_an_estimate_of_the_elbo(masked, dsae, frames):
    dsae.eval()
    mask = torch.arange(6) < torch.tensor([[6], [2], [4], [1]]) if masked else None
    pyro.set_rng_seed(0)
    loss = Trace_ELBO().loss(dsae.model, dsae.guide, frames, mask)
    pyro.set_rng_seed(0)
    weights = log_weights(dsae, frames, mask, particles=1)
    assert weights.shape == (1, 4)
    assert weights.sum().item() == pytest.approx(-loss, rel=1e-10)


def test_draws_are_decoded_so_many_at_once(frames):
    dsae, seen = tiny_model(), []
    dsae.model.decoder.register_forward_hook(lambda *call: seen.append(tuple(call[1][0].shape)))
    assert log_weights(dsae, frames, particles=7, at_once=3).shape == (7, 4)
    assert seen == [(3, 4, 6, 8), (3, 4, 6, 8), (1, 4, 6, 8)]


def test_batch_norm_modes_and_the_callers_random_numbers_are_left_alone(dsae):
    dsae = dsae.float().train()
    dsae.guide.eval()
    before = {name: value.clone() for name, value in dsae.state_dict().items()}
    modes = [module.training for module in dsae.modules()]
    torch.manual_seed(5)
    found = bounds(dsae, ragged(), (1, 4), batch_size=2)
    after = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(3))
    assert [module.training for module in dsae.modules()] == modes
    assert all(torch.equal(before[n], value) for n, value in dsae.state_dict().items())
    assert all(values.shape == (5,) for values in found.values())
    assert (found[4] >= found[1]).all()  # Jensen's inequality, with the same draws
    again = bounds(dsae, ragged(), (1, 4), batch_size=2)
    assert all(torch.equal(found[k], again[k]) for k in found)


def test_long_sequences_are_decoded_with_fewer_draws_at_once(dsae, monkeypatch):
    most, decode = [], dsae.float().model.decode
    monkeypatch.setattr(bound, "FRAMES", 40)

    def seen(f, z, *given):
        most.append(z.shape[:-1].numel())
        return decode(f, z, *given)

    monkeypatch.setattr(dsae.model, "decode", seen)
    bounds(dsae.eval(), ragged(), (1, 8), batch_size=2)
    steps = ragged().steps
    assert max(most) == 40 // (2 * steps) * 2 * steps > 2 * steps


def test_the_scores_are_over_all_sequences_and_the_weighted_bound_over_some(dsae):
    dsae, sequences = dsae.float().eval(), ragged()
    found = bound_scores(dsae, sequences, particles=4, at_most=3, seed=1)
    assert (found.sequences, found.weighted_sequences, found.particles) == (5, 3, 4)
    assert found.elbo == pytest.approx(found.reconstruction - found.kl_f - found.kl_z)
    torch.manual_seed(1)
    parts, active = elbo_parts(dsae, sequences)
    assert {name: getattr(found, name) for name in (*parts, *active)} == parts | active
    chosen = sequences.take(np.random.default_rng(1).permutation(5)[:3])
    weighted = bounds(dsae, chosen, (1, 4), seed=1)
    assert found.weighted_bound == weighted[4].mean().item()
    gain = weighted[4] - weighted[1]
    assert found.gain == pytest.approx(gain.mean().item())
    assert found.gain_error == pytest.approx((gain.std() / 3**0.5).item())
    assert bound_scores(dsae, sequences, particles=4, at_most=3, seed=1) == found
    assert bound_scores(dsae, sequences, particles=4, at_most=3, seed=2) != found


def test_the_parts_of_the_elbo_count_every_sequence_and_real_step_once(dsae):
    """KL_f depends on no draw, so that sequences one at a time give the same."""
    dsae, sequences = dsae.float().eval(), ragged()
    alone = [elbo_parts(dsae, sequences.take(np.array([row])))[0] for row in range(5)]
    for size in (2, 5):
        parts, active = elbo_parts(dsae, sequences, batch_size=size)
        assert parts["kl_f"] == pytest.approx(np.mean([one["kl_f"] for one in alone]), rel=1e-4)
        expected = np.mean([one["reconstruction"] for one in alone])
        assert parts["reconstruction"] == pytest.approx(expected, rel=0.01)
        assert active == elbo_parts(dsae, sequences)[1]


def test_active_units_are_counted_for_f_and_for_z_over_the_real_steps(dsae, monkeypatch):
    dsae, sequences = dsae.float().eval(), ragged()
    codes = encode(dsae, sequences)
    real = torch.from_numpy(np.arange(codes.z.shape[1]) < sequences.lengths[:, None])
    variances = {"f": codes.f.var(dim=0, correction=0), "z": codes.z[real].var(dim=0, correction=0)}
    for name, of in variances.items():
        for threshold in (of.sort().values[:-1] * 1.01).tolist():
            monkeypatch.setattr("pyro_dsae.evaluation.bound.ACTIVE", threshold)
            found = elbo_parts(dsae, sequences)[1][f"active_{name}"]
            assert found == (of > threshold).sum() > 0


def test_a_unit_is_active_where_its_mean_varies():
    means = torch.tensor([[0.0, 5.0, 1.0], [0.21, 5.19, 1.0]]).repeat(2, 1)
    assert active_units(means) == 1  # variances 0.0110, 0.0090 and 0
    assert active_units(means * 3) == 2


def test_groups_of_draws_by_hand():
    weights = torch.tensor([[0.0], [2.0], [-1.0], [1.0]]).double()
    pairs = [math.log((math.exp(a) + math.exp(b)) / 2) for a, b in ((0, 2), (-1, 1))]
    assert importance_weighted(weights, 1).item() == 0.5
    assert importance_weighted(weights, 2).item() == pytest.approx(sum(pairs) / 2)
    with pytest.raises(ValueError, match="k is 3, but must divide the 4 draws"):
        importance_weighted(weights, 3)


def test_the_error_is_that_of_a_mean():
    assert mean_and_error(torch.tensor([1.0, 2.0, 3.0, 6.0])) == pytest.approx(
        (3, 14**0.5 / 12**0.5)
    )


def test_bits_of_uniform_and_of_rounded_normal_data():
    """A uniform density costs log2(255); a wide normal costs what its rounded levels do."""
    assert bits_per_dimension(0.0, 10) == pytest.approx(math.log2(255))
    normal = torch.distributions.Normal(0.4, 0.05)
    levels = torch.arange(256).double()
    width = 0.5 / 255
    probability = normal.cdf(levels / 255 + width) - normal.cdf(levels / 255 - width)
    exact = -(probability * probability.log2()).nansum().item()
    nats = (probability * normal.log_prob(levels / 255)).sum().item()
    assert bits_per_dimension(nats, 1) == pytest.approx(exact, abs=1e-3)
