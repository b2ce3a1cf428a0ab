import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from pyro_dsae.analyses.codes import Codes
from pyro_dsae.evaluation import UnmeasurableError
from pyro_dsae.evaluation.disentanglement import (
    BINS,
    concentration,
    dci,
    disentanglement,
    mig,
    modularity,
    mutual_information,
    sap,
)

LN2 = math.log(2)
CLASSES = (2, 3, 4)
FACTORS = np.tile(np.indices(CLASSES).reshape(3, -1).T, (20, 1))  # (480, 3), all combinations
SCORES = {
    "mig": mig,
    "modularity": modularity,
    "sap": sap,
    "disentanglement": lambda codes, factors: dci(codes, factors).disentanglement,
    "completeness": lambda codes, factors: dci(codes, factors).completeness,
}


@pytest.fixture(params=SCORES)
def score(request):
    return SCORES[request.param]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape)


def test_a_unit_for_each_factor_scores_1(score):
    assert score(FACTORS * [3.0, -1.0, 0.5], FACTORS) == pytest.approx(1)
    assert dci(FACTORS.astype(float), FACTORS).informativeness == 1


@pytest.mark.parametrize("name", sorted(SCORES.keys() - {"modularity"}))  # of nothing it is chance
def test_a_code_that_says_nothing_scores_near_0(name):
    assert SCORES[name](noise(2000, 10), FACTORS[np.arange(2000) % 480]) < 0.02


def test_a_code_that_is_spread_over_all_units_scores_low(score):
    """A rotation of independent factors: all is there, in every unit."""
    factors = np.random.default_rng(0).integers(0, 4, (3000, 4))
    hadamard = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    assert score((factors - 1.5) @ hadamard, factors) < (0.2 if score is modularity else 0.02)
    assert score(factors - 1.5, factors) == pytest.approx(1, abs=0.02)


def test_the_order_and_the_scale_of_the_units_do_not_matter(score):
    codes = FACTORS @ np.array([[1, 0.5, 0], [0, 1, 0.5], [0.2, 0, 1]]) + noise(480, 3) / 3
    mixed = codes[:, [2, 0, 1]] * [4.0, -1.0, 0.5]
    assert score(mixed, FACTORS) == pytest.approx(score(codes, FACTORS), abs=0.02)
    assert 0.3 < score(codes, FACTORS) < 0.98


def test_mutual_information_is_that_of_scikit_learn():
    codes = noise(480, 4) + FACTORS[:, [0, 1, 2, 2]]
    found = mutual_information(codes, FACTORS)
    assert found.shape == (4, 3)
    for d in range(4):
        edges = np.histogram_bin_edges(codes[:, d], BINS)
        bins = np.digitize(codes[:, d], edges[1:-1])
        for k in range(3):
            assert found[d, k] == pytest.approx(mutual_info_score(bins, FACTORS[:, k]))
    assert (mutual_information(np.ones((480, 2)), FACTORS) == 0).all()  # constant units


def test_mig_by_hand():
    """Of two fair bits."""
    a, b, c = np.indices((2, 2, 2)).reshape(3, -1)
    factors = np.stack([a, b], axis=-1)
    assert mig(np.stack([a, b], axis=-1), factors) == pytest.approx(1)
    assert mig(np.stack([a, a, b], axis=-1), factors) == pytest.approx((0 + 1) / 2)
    # b where c is 1, otherwise 2: I = H(unit) - H(unit | b) = 1.5 ln 2 - ln 2.
    assert mig(np.stack([a, np.where(c, b, 2)], axis=-1), factors) == pytest.approx((1 + 0.5) / 2)


def test_modularity_by_hand():
    a, b, c = np.indices((2, 2, 2)).reshape(3, -1)
    factors = np.stack([a, b, c], axis=-1)
    # The second unit tells a and b, each with ln 2, and nothing of c: 1 - 1 / (3 - 1).
    codes = np.stack([c, 2 * a + b], axis=-1)
    np.testing.assert_allclose(
        mutual_information(codes, factors), [[0, 0, LN2], [LN2, LN2, 0]], atol=1e-12
    )
    assert modularity(codes, factors) == pytest.approx((1 + 0.5) / 2)
    dead = np.stack([c, np.zeros(8)], axis=-1)
    assert modularity(dead, factors) == pytest.approx((1 + 0) / 2)


def test_concentration_by_hand():
    assert concentration(np.eye(3)) == pytest.approx(1)
    assert concentration(np.ones((4, 3))) == pytest.approx(0)
    assert concentration(np.zeros((4, 3))) == 0  # where no forest splits
    # Rows of weight 3/4 and 1/4; the first has (1/2, 1/2, 0), the second one column.
    importance = np.array([[1.5, 1.5, 0], [0, 0, 1], [0, 0, 0]])
    assert concentration(importance) == pytest.approx(0.75 * (1 - LN2 / math.log(3)) + 0.25)


def test_two_units_for_a_factor_are_modular_but_not_complete():
    """The first factor is written in two bits, of which each has half of the importance."""
    factors = np.random.default_rng(0).integers(0, 4, (2000, 2))
    bits = np.stack([factors[:, 0] // 2, factors[:, 0] % 2], axis=-1)
    found = dci(np.hstack([bits, factors[:, 1:]]).astype(float), factors)
    assert found.disentanglement == pytest.approx(1, abs=0.02)
    assert found.completeness == pytest.approx((1 - LN2 / math.log(3) + 1) / 2, abs=0.03)
    assert found.informativeness == 1


def test_sap_by_hand():
    """A unit that knows one of three classes gets it and one more: 2/3, where chance is 1/3."""
    factors = np.random.default_rng(0).integers(0, 3, (3000, 2))
    knows_one = factors[:, :1] == 2
    codes = np.hstack([factors, knows_one]).astype(float)
    assert sap(codes, factors) == pytest.approx(((1 - 0.5) + 1) / 2, abs=0.03)


def test_the_informativeness_is_of_sequences_that_no_forest_saw():
    assert dci(noise(480, 6), FACTORS).informativeness < np.mean([1 / c for c in CLASSES]) + 0.1


def test_sap_counts_every_class_alike():
    """One of ten has the class; a unit that only knows which is frequent knows nothing."""
    random = np.random.default_rng(3)
    factors = (random.uniform(size=(4000, 2)) < 0.1).astype(int)
    exact = np.hstack([factors, random.normal(size=(4000, 1))]).astype(float)
    assert sap(exact, factors) == pytest.approx(1, abs=0.08)
    # Means 2 apart: the best threshold is right in Phi(1) of either class, .68 above chance.
    noisy = 2 * factors + random.normal(size=(4000, 2))
    assert sap(noisy, factors) == pytest.approx(0.683, abs=0.08)


def test_a_factor_copied_into_two_units_has_no_gap():
    doubled = np.hstack([FACTORS, FACTORS]).astype(float)
    assert mig(doubled, FACTORS) == 0 and sap(doubled, FACTORS) == 0
    assert modularity(doubled, FACTORS) == pytest.approx(1)


def part() -> tuple[Codes, np.ndarray]:
    """f is the first two factors, mean z the third, in sequences of 1 to 3 steps."""
    lengths = np.arange(480) % 3 + 1
    z = torch.full((480, 3, 1), 99.0)
    for row, length in enumerate(lengths):
        z[row, :length] = torch.tensor(FACTORS[row, 2]) + torch.arange(length).sub(
            (length - 1) / 2
        ).unsqueeze(-1)
    return Codes(torch.tensor(FACTORS[:, :2]).float(), z, lengths), FACTORS


def test_the_units_are_those_of_f_and_mean_z():
    found = disentanglement(*part())
    assert (found.sequences, found.units, found.factors) == (480, 3, 3)
    scores = (found.mig, found.modularity, found.sap, found.dci.disentanglement)
    assert scores == pytest.approx((1, 1, 1, 1), abs=1e-6)
    assert json.loads(json.dumps(asdict(found)))["dci"]["informativeness"] == 1
    assert set(found.estimators) == {"mig", "modularity", "sap", "dci"}


def test_unknown_classes_and_constant_factors_are_left_out():
    codes, factors = part()
    factors = np.hstack([factors, np.full((480, 1), 7)])
    factors[:10, 1] = -1
    found = disentanglement(codes, factors)
    assert (found.sequences, found.factors) == (470, 3)
    assert found.modularity > 0.99


def test_without_a_sequence_of_known_classes_there_is_nothing_to_score():
    codes, factors = part()
    factors = np.where(np.arange(480)[:, None] % 3 == np.arange(3), -1, factors)
    with pytest.raises(UnmeasurableError, match="no sequence has a known class of every factor"):
        disentanglement(codes, factors)


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="3 units and 1 factors with several classes"):
        mig(FACTORS, FACTORS[:, :1])
    with pytest.raises(ValueError, match="factor 1 is 0 in all sequences; leave it out"):
        sap(FACTORS, FACTORS * [1, 0, 1])
