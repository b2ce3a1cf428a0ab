import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from pyro_dsae.analyses.pairs import auroc, equal_error_rate, roc


def scored(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, higher for positives."""
    random = np.random.default_rng(seed)
    positive = random.random(80) < 0.4
    return (random.integers(0, 8, 80) + 2 * positive).astype(float), positive


@pytest.mark.parametrize("seed", range(5))
def test_the_roc_and_its_area_are_those_of_scikit_learn(seed):
    scores, positive = scored(seed)
    false, true, _ = roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(roc(scores, positive), (false, true))
    assert auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))


@pytest.mark.parametrize("seed", range(5))
def test_at_the_equal_error_rate_both_errors_of_scikit_learns_roc_are_equal(seed):
    scores, positive = scored(seed)
    rate = equal_error_rate(scores, positive)
    false, true, _ = roc_curve(positive, scores, drop_intermediate=False)
    assert 0 < rate < 0.5
    # The rate may lie on a vertical piece of the curve, where several true rates meet one false.
    below, above = true[false <= rate].max(), true[false >= rate].min()
    crossing = np.interp(rate, false, true)
    assert min(below, above, crossing) - 1e-12 <= 1 - rate <= max(below, above, crossing) + 1e-12


@pytest.mark.parametrize(
    ("positive", "negative", "rate"),
    [
        ([4, 3], [2, 1], 0),
        ([2, 1], [4, 3], 1),
        ([5, 5], [5, 5, 5], 0.5),  # a collapsed code
        ([4, 2], [3, 1], 0.5),  # above 2.5, half of each is wrong
        ([5, 4, 1], [3, 2, 0, -1], 1 / 3),  # between a quarter and a half of the negatives
    ],
)
def test_equal_error_rates_by_hand(positive, negative, rate):
    scores = np.array(positive + negative, float)
    labels = np.arange(len(scores)) < len(positive)
    assert equal_error_rate(scores, labels) == pytest.approx(rate)
    assert equal_error_rate(np.exp(scores), labels) == pytest.approx(rate)
    assert equal_error_rate(-scores, ~labels) == pytest.approx(rate)


def test_auroc_counts_wins_and_half_the_ties():
    scores, positive = scored(0)
    pairs = [(x > y) + (x == y) / 2 for x in scores[positive] for y in scores[~positive]]
    assert auroc(scores, positive) == pytest.approx(np.mean(pairs))
    assert auroc(np.array([3.0, 2.0, 1.0]), np.array([True, False, False])) == 1


@pytest.mark.parametrize("score", [auroc, equal_error_rate])
def test_without_both_kinds_there_is_no_rate(score):
    scores = np.arange(4.0)
    assert score(scores, np.ones(4, bool)) is None
    assert score(scores, np.zeros(4, bool)) is None
