"""The model on series: vectors a step, of which single values may be missing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pyro.infer import Trace_ELBO

from conftest import tiny_model
from fixed_noise import FixedNoise, standard_noise
from pyro_dsae import DSAE, ModelConfig, Sequences, TrainingConfig, fit, load
from pyro_dsae.analyses.codes import encode
from pyro_dsae.analyses.complete import (
    completion_errors,
    fill,
    forward_fill,
    hide,
    observed_mean,
)
from pyro_dsae.analyses.predict import predict, prediction_errors
from pyro_dsae.analyses.reconstruct import reconstruction_mse
from pyro_dsae.analyses.spread import spread
from pyro_dsae.config import ConfigError
from pyro_dsae.evaluation.bound import importance_weighted, log_weights
from pyro_dsae.guides import GUIDES
from pyro_dsae.objectives.elbo import ESTIMATORS
from pyro_dsae.priors import PRIORS
from pyro_dsae.sequences import Standard

STEPS, SIZE = 6, 4
LENGTHS = [6, 3, 1, 5]
MASK = (torch.arange(STEPS) < torch.tensor(LENGTHS).unsqueeze(-1)).unsqueeze(-1).repeat(1, 1, SIZE)
MASK[0, 1, 0] = MASK[1, 2, 3] = False  # single values
MASK[0, :, 2] = False  # a channel all along
MASK[3, 2] = False  # a whole step
CPU = torch.device("cpu")


def vectors(**changes) -> DSAE:
    return tiny_model(frame_shape=(SIZE,), learn_scale=True, **changes)


@pytest.fixture(params=[(g, p) for g in GUIDES for p in PRIORS], ids="-".join)
def dsae(request) -> DSAE:
    guide, prior = request.param
    return vectors(guide=guide, prior=prior)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(4, STEPS, SIZE, generator=torch.Generator().manual_seed(1)).double()


def one_by_one(x, noise):
    """Each sequence alone and unpadded, with the noise that it has in the batch."""
    for i, length in enumerate(LENGTHS):
        own = {name: value[..., i : i + 1, :] for name, value in noise.items()}
        yield x[i : i + 1, :length], MASK[i : i + 1, :length], own


@pytest.mark.parametrize("likelihood", ["normal", "laplace"])
def test_every_parameter_gets_a_gradient(dsae, x, likelihood):
    dsae = vectors(guide=dsae.config.guide, prior=dsae.config.prior, likelihood=likelihood)
    Trace_ELBO()(dsae.model, dsae.guide)(x, MASK).backward()
    assert [n for n, p in dsae.named_parameters() if p.grad is None or not p.grad.any()] == []
    # One scale a channel; the one that is never observed in the first still is in others.
    assert dsae.model.scale.shape == (SIZE,)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_padded_batch_is_the_sum_of_its_sequences(dsae, x, name):
    estimator, noise = ESTIMATORS[name](), standard_noise(4)

    def bound(x, mask, noise):
        with FixedNoise(noise):
            loss = estimator.loss(dsae.model, dsae.guide, x, mask)
        return {"loss": loss, **{key: part.item() for key, part in estimator.parts.items()}}

    padded = bound(x, MASK, noise)
    alone = [bound(*sequence) for sequence in one_by_one(x, noise)]
    assert padded == pytest.approx({k: sum(one[k] for one in alone) for k in padded}, rel=1e-9)


def test_a_padded_batch_has_the_weighted_bounds_of_its_sequences(dsae, x):
    noise = standard_noise(8, 4)

    def bound(x, mask, noise):
        with FixedNoise(noise):
            return importance_weighted(log_weights(dsae, x, mask, particles=8), 8)

    alone = torch.cat([bound(*sequence) for sequence in one_by_one(x, noise)])
    torch.testing.assert_close(bound(x, MASK, noise), alone, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_value_that_is_not_observed_does_not_matter(dsae, x, name):
    other = torch.where(MASK, x, 100 * x + 7)
    estimator, found = ESTIMATORS[name](), []
    for values in (x, other):
        with FixedNoise(standard_noise(4)):
            found.append(estimator.loss(dsae.model, dsae.guide, values, MASK))
    assert found[0] == found[1]
    for a, b in zip(dsae.encode(x, MASK), dsae.encode(other, MASK), strict=True):
        assert torch.equal(a, b)
    filled = dsae.complete(x, MASK)
    assert torch.equal(filled[MASK], x[MASK])
    assert torch.equal(filled, dsae.complete(other, MASK) * ~MASK + x * MASK)


def test_a_missing_value_is_told_from_a_zero(dsae, x):
    """Zero is the mean of a standardised channel, not the absence of a value."""
    missing = torch.ones_like(x, dtype=torch.bool)
    missing[:, 3, 1] = False
    zero = torch.where(missing, x, 0)
    assert not torch.equal(dsae.encode(zero, missing)[0], dsae.encode(zero)[0])


def test_a_mask_of_steps_is_one_of_all_their_values(dsae, x):
    steps = torch.arange(STEPS) < torch.tensor(LENGTHS).unsqueeze(-1)
    values = steps.unsqueeze(-1).expand(-1, -1, SIZE)
    losses = []
    for mask in (steps, values):
        with FixedNoise(standard_noise(4)):
            losses.append(Trace_ELBO().loss(dsae.model, dsae.guide, x, mask))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    with pytest.raises(ValueError, match="no observed step in sequence 2"):
        dsae.encode(x, values & (torch.arange(4) != 2)[:, None, None])


def test_the_verbs_have_their_shapes(dsae, x):
    assert dsae.reconstruct(x, MASK).shape == x.shape
    assert dsae.swap(x, x.flip(0)).shape == x.shape
    assert dsae.sample(3, 5).shape == (3, 5, SIZE)
    assert dsae.predict(x, 2, MASK).shape == (4, 2, SIZE)


def walks(count: int = 40, missing: float = 0.1) -> Sequences:
    """Ragged series, with a level a sequence and a slope a step, and some values missing."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(4, 9, count)
    level = rng.normal(size=(count, 1, SIZE))
    x = level + np.cumsum(rng.normal(scale=0.2, size=(count, 8, 1)), axis=1)
    mask = (rng.random(x.shape) > missing) & (np.arange(8) < lengths[:, None])[..., None]
    mask[np.arange(count), lengths - 1, 0] = True
    standard = Standard(("a", "b", "c", "d"), np.full(SIZE, 5.0), np.array([1.0, 2.0, 3.0, 4.0]))
    x = np.where(mask, x, 0).astype(np.float32)
    return Sequences(x, lengths, np.arange(count), mask=mask, standard=standard)


def test_series_are_restored_in_their_own_units():
    sequences = walks()
    x, mask = sequences.batch(np.arange(3), CPU)
    assert torch.equal(x, torch.from_numpy(sequences.x[:3]))
    assert np.array_equal(mask.numpy(), sequences.mask[:3])
    raw = sequences.restore(x)
    assert np.allclose((raw - 5) / [1, 2, 3, 4], sequences.x[:3])
    again = Standard.of(sequences.standard.to_dict())
    assert again.channels == ("a", "b", "c", "d") and np.array_equal(again.scale, [1, 2, 3, 4])
    part = sequences.take(sequences.lengths > 5)
    assert len(part.mask) == len(part)


def test_a_series_trains_and_is_loaded_again(tmp_path):
    sequences = walks()
    torch.manual_seed(0)
    config = ModelConfig.preset("series", frame_shape=(SIZE,), static_dim=4, code_dim=16)
    dsae = DSAE(config)
    lines = []
    training = TrainingConfig.preset("series", epochs=4, batch_size=8, learning_rate=1e-2)
    fit(dsae, sequences, tmp_path / "run", training, on_epoch=lines.append)
    assert lines[-1]["validation_elbo"] > lines[0]["validation_elbo"]
    same = load(tmp_path / "run")
    assert same.config == config
    assert torch.equal(encode(same, sequences).f, encode(dsae, sequences).f)


@pytest.fixture
def single() -> DSAE:
    return vectors().float().eval()


def test_errors_are_over_what_is_observed(single):
    sequences = walks()
    codes = encode(single, sequences)
    decoded = single.decode(codes.f, codes.z).numpy()
    squares = np.square(decoded - sequences.x)[sequences.mask]
    mse = reconstruction_mse(single, sequences, codes)
    assert mse == pytest.approx(squares.mean(), rel=1e-5)


def test_a_completion_is_scored_by_what_was_hidden_beside_two_baselines(single):
    sequences = walks()
    left = hide(sequences.observed(), 0.3, seed=1)
    hidden = sequences.mask & ~left
    found = completion_errors(single, sequences, left)
    assert found.hidden == hidden.sum()
    x, seen = torch.from_numpy(sequences.x), torch.from_numpy(left)
    for filled, mse in (
        (single.complete(x, seen), found.mse),
        (forward_fill(x, seen), found.nearest_mse),
        (observed_mean(x, seen), found.mean_mse),
    ):
        assert mse == pytest.approx(np.square((filled - x).numpy())[hidden].mean(), rel=1e-5)


def test_what_is_missing_in_the_data_is_filled_in_and_the_rest_kept(single):
    sequences = walks()
    filled = fill(single, sequences)
    x, seen = torch.from_numpy(sequences.x), torch.from_numpy(sequences.mask)
    expected = sequences.restore(single.complete(x, seen))
    real = np.arange(8) < sequences.lengths[:, None]
    assert np.allclose(filled[real], expected[real], atol=1e-5) and not filled[~real].any()
    assert np.allclose(filled[sequences.mask], sequences.restore(x)[sequences.mask], atol=1e-5)
    whole = replace(sequences, mask=np.broadcast_to(real[..., None], sequences.mask.shape))
    with pytest.raises(ConfigError, match="nothing is missing"):
        fill(single, whole)


def test_a_context_in_which_nothing_is_observed_is_refused(single):
    sequences = walks()
    sequences.mask[:, :2] = False
    with pytest.raises(ConfigError, match="nothing is observed in the first 2 steps of any longer"):
        prediction_errors(single, sequences, context=2)


def test_the_baselines_are_what_they_say():
    nan = float("nan")
    x = torch.tensor([[[1.0, 9], [2, 9], [3, 9], [4, 9]]])
    mask = torch.tensor([[[0, 0], [1, 0], [0, 0], [1, 0]]]).bool()
    hidden = torch.where(mask, x, nan)
    assert forward_fill(hidden, mask)[0, :, 0].tolist() == [2, 2, 2, 4]
    assert forward_fill(hidden, mask)[0, :, 1].tolist() == [0] * 4  # the train part's mean
    assert observed_mean(x, mask).tolist() == [[[3, 0]]]


def test_a_prediction_repeats_no_value_that_was_missing(single):
    sequences = walks()
    found = prediction_errors(single, sequences, context=3)
    x, observed = torch.from_numpy(sequences.x), torch.from_numpy(sequences.mask)
    rows = (sequences.lengths > 3) & sequences.mask[:, :3].any((1, 2))
    last = forward_fill(x[:, :3], observed[:, :3])[:, -1]
    for step in range(3, 8):
        seen = observed[rows, step]
        expected = (last[rows] - x[rows, step])[seen].square().mean().item()
        assert found.repeat_mse[step - 3] == pytest.approx(expected, rel=1e-5)


def test_the_spread_holds_the_noise_of_the_likelihood_and_of_the_codes(single):
    sequences = walks(4)
    noise = single.model.scale.detach().numpy() * sequences.standard.scale

    def draw():
        return predict(single, sequences, 3, 2, sample=True)

    still = spread(single, sequences, lambda: np.zeros((4, 2, SIZE)))
    assert np.allclose(still, np.broadcast_to(noise, still.shape))
    assert (spread(single, sequences, draw) > noise).all()
    assert np.array_equal(spread(single, sequences, draw, 1), spread(single, sequences, draw, 1))
