"""The scores of predictions and completions, against known answers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import tiny_model
from pyro_dsae import ConfigError, Sequences
from pyro_dsae.analyses.codes import BATCH
from pyro_dsae.analyses.complete import complete, completion_errors, hide, nearest_observed
from pyro_dsae.analyses.predict import predict, prediction_errors

STEPS = 5
CPU = torch.device("cpu")


def part(count: int = BATCH + 3, shortest: int = 1) -> Sequences:
    """Ragged sequences of random frames, more than one batch."""
    x = np.random.default_rng(0).integers(0, 256, (count, STEPS, 16, 32, 2), dtype=np.uint8)
    lengths = np.arange(count) % (STEPS + 1 - shortest) + shortest
    x[np.arange(STEPS) >= lengths[:, None]] = 0
    return Sequences(x, lengths, np.arange(count))


def grey(*levels: int) -> Sequences:
    """One sequence of plain frames of these levels."""
    x = np.array(levels, np.uint8)[None, :, None, None, None]
    return Sequences(
        np.broadcast_to(x, (1, len(levels), 16, 32, 2)).copy(),
        np.array([len(levels)]),
        np.zeros(1, int),
    )


class Constant(torch.nn.Module):
    """A decoder that always gives frames of one level."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def forward(self, latents):
        return latents.new_full((*latents.shape[:-1], 2, 16, 32), self.level)


@pytest.fixture
def dsae():
    return tiny_model().float().eval()


@pytest.fixture
def constant(dsae):
    dsae.model.decoder = Constant(0.2)  # 51 of 255
    return dsae


def test_the_errors_of_a_constant_prediction_and_of_the_last_frame(constant):
    found = prediction_errors(constant, grey(0, 255, 51, 102), context=2, horizon=3)
    assert found.sequences == 1
    assert found.mse == [pytest.approx(0, abs=1e-9), pytest.approx(0.2**2), None]
    assert found.repeat_mse == [pytest.approx(0.8**2), pytest.approx(0.6**2), None]


def test_each_step_is_scored_over_the_sequences_that_have_it(dsae):
    sequences, context = part(), 2
    found = prediction_errors(dsae, sequences, context)
    assert found.sequences == (sequences.lengths > context).sum()
    for step in range(context, STEPS):
        errors = []
        for row in np.flatnonzero(sequences.lengths > step):
            x, _ = sequences.batch(np.array([row]), CPU)
            predicted = dsae.predict(x[:, :context], step - context + 1)[0, -1]
            pair = (predicted, x[0, context - 1])
            errors.append([(frame - x[0, step]).square().mean().item() for frame in pair])
        expected = np.mean(errors, axis=0)
        scores = found.mse[step - context], found.repeat_mse[step - context]
        assert scores == pytest.approx(expected, rel=1e-5)


def test_a_prediction_keeps_its_step_where_the_context_ends_with_missing_ones(dsae):
    sequences, context = part(4, shortest=STEPS), 3
    mask = np.ones(sequences.x.shape[:2], bool)
    mask[1, 2], mask[2, 1:3], mask[3, 0] = False, False, False
    missing = replace(sequences, mask=mask)
    drawn = predict(dsae, missing, context, 2)
    for row, ends in enumerate((3, 2, 1, 3)):
        x, _ = sequences.batch(np.array([row]), CPU)
        held = torch.from_numpy(mask[row : row + 1, :ends])
        ahead = dsae.predict(x[:, :ends], STEPS - ends, held)[:, -2:]
        assert np.abs(drawn[row].astype(int) - sequences.restore(ahead)[0]).max() <= 1
    found = prediction_errors(dsae, missing, context)
    truth = missing.x[:, context:].astype(float) / 255
    errors = np.square(drawn / 255 - truth).mean(axis=(0, 2, 3, 4))
    assert found.mse == pytest.approx(errors.tolist(), rel=0.02)  # rounded to 8 bits


def test_frames_after_the_context_do_not_change_its_prediction(dsae):
    sequences = part(4, shortest=STEPS)
    drawn = predict(dsae, sequences, 2, 3)
    changed = sequences.x.copy()
    changed[:, 2:] = 0
    assert drawn.shape == (4, 3, 16, 32, 2)
    assert (predict(dsae, replace(sequences, x=changed), 2, 3) == drawn).all()


@pytest.mark.parametrize(
    ("context", "horizon", "message"),
    [
        (0, None, "context is 0, but must be at least 1"),
        (5, None, "context is 5, .* longest sequence, which has 5 steps"),
        (2, 0, "horizon is 0, but must be at least 1"),
    ],
)
def test_a_context_or_horizon_out_of_range_is_refused(context, horizon, message, dsae):
    with pytest.raises(ConfigError, match=message):
        prediction_errors(dsae, part(), context, horizon)


@pytest.mark.parametrize("missing", [0.01, 0.3, 0.5, 0.99])
def test_a_fraction_of_each_sequence_is_hidden_but_never_all(missing):
    lengths = np.array([1, 2, 3, 8, 8, 8])
    steps_there = np.arange(8) < lengths[:, None]
    observed = hide(steps_there, missing)
    assert not observed[~steps_there].any()
    for row, steps in zip(observed, lengths, strict=True):
        hidden = steps - row.sum()
        expected = np.clip(missing * steps, 1, steps - 1) if steps > 1 else 0
        assert abs(hidden - expected) <= 0.5
    assert (hide(steps_there, missing) == observed).all()


@pytest.mark.parametrize(("what", "axis"), [("steps", 1), ("channels", 0)])
def test_steps_and_channels_are_hidden_whole(what, axis):
    observed = np.random.default_rng(0).random((30, 6, 8)) < 0.7
    observed[3, 2], observed[4, :, 1] = False, False
    left = hide(observed, 0.5, seed=2, what=what)
    for row, kept in zip(observed, left, strict=True):
        there = row.any(axis=axis)
        gone = there & ~kept.any(axis=axis)
        assert gone.sum() == round(0.5 * there.sum())
        untouched = np.expand_dims(~gone, axis)
        assert (kept == row & untouched).all()
    assert (hide(observed[..., 0], 0.5, what="steps") == hide(observed[..., 0], 0.5)).all()


def test_each_step_can_be_hidden():
    whole = np.ones((100, 4), bool)
    assert not hide(whole, 0.5, seed=1).all(axis=0).any()
    assert (hide(whole, 0.5, seed=1) != hide(whole, 0.5, seed=2)).any()


def test_the_nearest_observed_frame_is_the_one_before_or_the_first():
    observed = np.array([[0, 1, 0, 0, 1], [1, 0, 1, 1, 0]], bool)
    assert nearest_observed(observed).tolist() == [[1, 1, 1, 1, 4], [0, 0, 2, 3, 3]]


def test_the_errors_of_a_constant_completion_and_of_the_nearest_frame(constant):
    observed = np.array([[False, True, True, False]])
    found = completion_errors(constant, grey(51, 0, 255, 102), observed)
    assert found.hidden == 2
    assert found.mse == pytest.approx((0 + 0.2**2) / 2)
    assert found.nearest_mse == pytest.approx((0.2**2 + 0.6**2) / 2)
    assert found.mean_mse == pytest.approx((0.3**2 + 0.1**2) / 2)


def test_completions_are_scored_over_the_hidden_frames_of_each_sequence_alone(dsae):
    sequences = part()
    observed = hide(sequences.observed(), 0.4, seed=3)
    squares = []
    for row, steps in enumerate(sequences.lengths):
        x = sequences.batch(np.array([row]), CPU)[0][:, :steps]
        seen = torch.from_numpy(observed[row : row + 1, :steps])
        squares += (dsae.complete(x, seen) - x)[~seen].square().mean(dim=(1, 2, 3)).tolist()
    found = completion_errors(dsae, sequences, observed)
    assert found.hidden == len(squares) and found.mse == pytest.approx(np.mean(squares), rel=1e-5)
    drawn = complete(dsae, sequences, observed)
    assert (drawn[observed] == sequences.x[observed]).all()


def test_nothing_that_can_be_hidden_is_refused():
    with pytest.raises(ConfigError, match="missing is 1.0, but must be between 0 and 1"):
        hide(np.ones((1, 4), bool), 1.0)
    with pytest.raises(ConfigError, match="of no sequence two values are observed"):
        hide(np.ones((2, 1), bool), 0.5)
    with pytest.raises(ConfigError, match="of no sequence two channels are observed"):
        hide(np.ones((2, 5, 1), bool), 0.5, what="channels")
    with pytest.raises(ConfigError, match="of frames all channels are there or none"):
        hide(np.ones((2, 5), bool), 0.5, what="channels")
    with pytest.raises(ConfigError, match="what is 'rows', but must be one of: values, steps"):
        hide(np.ones((2, 5), bool), 0.5, what="rows")
