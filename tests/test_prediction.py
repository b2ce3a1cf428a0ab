import pytest
import torch

from conftest import tiny_model
from linear_gaussian import linear_frames, linear_model, make_exact, posterior_law
from pyro_dsae.guides import GUIDES
from pyro_dsae.priors import PRIORS

CONTEXT, HORIZON = 4, 3
LENGTHS = [4, 2, 1, 3]
MASK = torch.arange(CONTEXT) < torch.tensor(LENGTHS).unsqueeze(-1)


@pytest.fixture
def context(frames):
    return frames[:, :CONTEXT]


def test_the_standard_prior_predicts_z_of_zero(context):
    dsae = tiny_model(prior="standard").eval()
    f, _ = dsae.encode(context)
    expected = dsae.decode(f, torch.zeros(4, HORIZON, 3).double())
    torch.testing.assert_close(dsae.predict(context, HORIZON), expected)


def test_the_lstm_prior_goes_on_from_the_inferred_z(context):
    """Step by step by hand: its means after it has seen z of the context, each fed to the next."""
    dsae = tiny_model(prior="lstm").eval()
    f, z = dsae.encode(context)
    state, previous, predicted = None, torch.zeros(4, 3).double(), []
    with torch.no_grad():
        for t in range(CONTEXT + HORIZON):
            prior, state = dsae.model.prior(previous, state)
            previous = z[:, t] if t < CONTEXT else prior.mean
            predicted.append(previous)
    expected = dsae.decode(f, torch.stack(predicted[CONTEXT:], dim=1))
    torch.testing.assert_close(dsae.predict(context, HORIZON), expected)


def test_a_ragged_context_is_predicted_as_its_sequences_are_alone(dsae, context):
    """Each from its own last frame on, and whatever lies behind that."""
    dsae.eval()
    together = dsae.predict(context, HORIZON, MASK)
    other = torch.where(MASK[..., None, None, None], context, 1 - context)
    assert torch.equal(together, dsae.predict(other, HORIZON, MASK))
    for i, length in enumerate(LENGTHS):
        alone = dsae.predict(context[i : i + 1, :length], HORIZON)
        torch.testing.assert_close(together[i : i + 1], alone)


def test_a_longer_horizon_goes_on_from_a_shorter_one(dsae, context):
    dsae.eval()
    torch.testing.assert_close(dsae.predict(context, 5)[:, :2], dsae.predict(context, 2))
    with pytest.raises(ValueError, match="horizon is 0, but must be at least 1"):
        dsae.predict(context, 0)


@pytest.mark.parametrize("prior", PRIORS)
def test_sampled_futures_spread_as_the_prior_says(prior, context):
    """z of 4,000 futures of one context: mean and scale within 5 standard errors."""
    dsae = tiny_model(prior=prior).eval()
    f, z = dsae.encode(context[:1])
    dsae.encode = lambda x, mask, sample: (f.expand(len(x), -1), z.expand(len(x), -1, -1))
    dsae.model.decode = lambda f, z: z
    torch.manual_seed(0)
    futures = dsae.predict(context[:1].expand(4000, *context.shape[1:]), 1, sample=True)[:, 0]
    state, previous = None, torch.zeros(1, 3).double()
    for t in range(CONTEXT + 1):
        expected, state = dsae.model.prior(previous, state)
        previous = z[:, min(t, CONTEXT - 1)]
    mean_error, scale_error = expected.stddev / 4000**0.5, expected.stddev / 8000**0.5
    assert ((futures.mean(0) - expected.mean).abs() < 5 * mean_error).all()
    assert ((futures.std(0) - expected.stddev).abs() < 5 * scale_error).all()


def test_complete_keeps_what_is_there_and_infers_the_rest(dsae, frames):
    dsae.eval()
    mask = torch.ones(4, 6, dtype=torch.bool)
    mask[0, 2] = mask[1, 4:] = mask[2, 0] = mask[2, 5] = False
    completed = dsae.complete(frames, mask)
    assert torch.equal(completed[mask], frames[mask])
    means = dsae.reconstruct(frames, mask)
    torch.testing.assert_close(completed[0, 2], means[0, 2])
    torch.testing.assert_close(completed[2, 0], means[2, 0])
    torch.testing.assert_close(completed[1:2, 4:], dsae.predict(frames[1:2, :4], 2))
    noise = torch.where(mask[..., None, None, None], frames, torch.rand_like(frames))
    torch.testing.assert_close(completed, dsae.complete(noise, mask))
    assert not torch.equal(completed[3], means[3])  # nothing missing: the frames themselves


@pytest.mark.parametrize("guide", GUIDES)
def test_the_future_does_not_leak_into_a_prediction(guide, frames):
    """A prediction from the first frames of a longer array is that of those frames alone."""
    dsae = tiny_model(guide=guide).eval()
    mask = (torch.arange(6) < CONTEXT).expand(4, 6)
    torch.testing.assert_close(
        dsae.predict(frames, HORIZON, mask), dsae.predict(frames[:, :CONTEXT], HORIZON)
    )
    torch.testing.assert_close(
        dsae.complete(frames, mask)[:, CONTEXT:], dsae.predict(frames[:, :CONTEXT], 2)
    )


def test_of_the_linear_model_both_are_the_exact_conditional_means():
    dsae = linear_model()
    x = linear_frames(dsae)
    for missing in ([1], [3], [0, 2], [2, 3]):
        mask = torch.ones(4, dtype=torch.bool)
        mask[missing] = False
        make_exact(dsae, mask)
        masks = mask.expand(3, 4)
        posterior = posterior_law(dsae, x, masks).mean
        f, z = posterior[:, :2], posterior[:, 2:].reshape(3, 4, 2)
        expected = dsae.decode(f, z)[:, missing]
        torch.testing.assert_close(dsae.complete(x, masks)[:, missing], expected)
