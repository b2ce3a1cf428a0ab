import json
import math
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from conftest import tiny_model
from pyro_dsae import Sequences
from pyro_dsae.analyses.codes import Codes, encode
from pyro_dsae.evaluation import probes
from pyro_dsae.evaluation.probes import Probe, Target, draw_parts, probe
from pyro_dsae.networks import MIN_SCALE, DiagonalNormal

TRAIN, TEST = 400, 300


def drawn(count: int, seed: int) -> tuple[Codes, dict[str, np.ndarray]]:
    """f has the colour and a little of the turn, z the turn and, at a step, half of the speed."""
    random = np.random.default_rng(seed)
    labels = {
        "colour": random.integers(0, 3, count),
        "turn": random.integers(0, 2, count),
        "speed": random.integers(0, 3, count),
    }
    lengths = random.integers(2, 5, count)
    f, z = random.normal(size=(count, 6)), random.normal(size=(count, 4, 5))
    f[np.arange(count), labels["colour"]] += 8
    f[:, 5] += 2 * labels["turn"]
    z[..., 0] += 8 * labels["turn"][:, None]
    z[np.arange(count), :, 1 + labels["speed"]] += 1.5
    z[np.arange(4) >= lengths[:, None]] = 1e3  # what says nothing must not be read
    codes = Codes(torch.tensor(f).float(), torch.tensor(z).float(), lengths)
    return codes, labels


def targets(train: dict[str, np.ndarray], test: dict[str, np.ndarray]) -> list[Target]:
    roles = {"colour": "static", "turn": "dynamic", "speed": "dynamic"}
    return [Target(name, role, train[name], test[name]) for name, role in roles.items()]


def lines(found: list[Probe]) -> dict[tuple[str, str], Probe]:
    return {(line.factor, line.code): line for line in found}


@pytest.fixture(scope="module")
def found() -> probes.Probes:
    (train, train_labels), (test, test_labels) = drawn(TRAIN, 0), drawn(TEST, 1)
    return probe(train, test, targets(train_labels, test_labels))


def test_every_factor_and_the_combined_motion_is_read_from_every_code(found):
    names = ["colour", "turn", "speed", "turn x speed"]
    assert [(line.factor, line.code) for line in found.probes] == [
        (name, code) for code in ("f", "mean_z", "spread_z", "z_t") for name in names
    ]
    roles = [line.role for line in found.probes]
    assert roles == ["static", "dynamic", "dynamic", "dynamic"] * 4
    assert (found.train, found.boosting_train, found.test) == (TRAIN, TRAIN, TEST)
    assert json.loads(json.dumps(asdict(found)))["probes"][0]["code"] == "f"


@pytest.mark.parametrize("kind", ["logistic", "boosting"])
def test_what_a_code_has_is_read_and_what_it_lacks_is_not(kind, found):
    accuracy = {key: getattr(line, kind) for key, line in lines(found.probes).items()}
    floor = {key: line.floor for key, line in lines(found.probes).items()}
    assert accuracy["colour", "f"] > 0.99
    assert accuracy["turn", "mean_z"] > 0.99 and accuracy["turn", "z_t"] > 0.99
    # The means are 2 standard deviations apart: Phi(1), of any classifier at best.
    assert accuracy["turn", "f"] == pytest.approx(0.84, abs=0.06)
    # The mean over the steps has less noise than a step.
    assert (
        accuracy["speed", "mean_z"] > accuracy["speed", "z_t"] + 0.1 > floor["speed", "z_t"] + 0.2
    )
    for key in (("speed", "f"), ("colour", "mean_z"), ("colour", "z_t")):
        assert accuracy[key] == pytest.approx(1 / 3, abs=0.09)


def test_the_nats_of_a_probe_are_the_mutual_information_where_it_fits(found):
    nats = {key: line.nats for key, line in lines(found.probes).items()}
    assert nats["colour", "f"] == pytest.approx(math.log(3), abs=0.02)
    assert nats["turn", "mean_z"] == pytest.approx(math.log(2), abs=0.02)
    # Two Gaussians of variance 1 whose means are 2 apart: log q(y | x) is -softplus(-2 s), and the
    # distance s from the middle, on the side of the mean, is Gaussian about 1.
    s, weights = np.polynomial.hermite_e.hermegauss(60)
    surprise = np.logaddexp(0, -2 * (s + 1)) @ weights / weights.sum()
    assert nats["turn", "f"] == pytest.approx(math.log(2) - surprise, abs=0.06)
    for key in (("speed", "f"), ("colour", "mean_z"), ("colour", "z_t")):
        assert nats[key] == pytest.approx(0, abs=0.06)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_nats_of_a_probe_that_is_sure_and_wrong_are_finite(classes):
    y = np.arange(30) % classes
    classifier = make_pipeline(StandardScaler(), LogisticRegression()).fit(np.eye(classes)[y], y)
    random = np.random.default_rng(0)
    x, labels = random.normal(size=(40, classes)), random.integers(0, classes, 40)
    share = np.bincount(labels) / 40
    entropy = -(share @ np.log(share))
    log_q = classifier.predict_log_proba(x)[np.arange(40), labels]
    assert probes._nats(classifier, x, labels) == pytest.approx(entropy + log_q.mean())
    assert -np.inf < probes._nats(classifier, 1e4 * x, labels) < -1e3


@pytest.mark.parametrize("kind", ["floor", "logistic", "boosting"])
def test_leakages_are_means_over_single_factors_from_the_wrong_code(kind, found):
    accuracy = {key: getattr(line, kind) for key, line in lines(found.probes).items()}
    assert getattr(found.static_from_z, kind) == accuracy["colour", "mean_z"]
    expected = (accuracy["turn", "f"] + accuracy["speed", "f"]) / 2
    assert getattr(found.dynamic_from_f, kind) == pytest.approx(expected)


def test_how_far_a_motion_goes_is_read_from_the_spread_of_z():
    parts, labels = [], []
    for seed, count in enumerate((TRAIN, TEST)):
        random = np.random.default_rng(seed)
        labels.append(random.integers(0, 2, count))
        z = random.normal(size=(count, 12, 3)) * (1 + 2 * labels[-1][:, None, None])
        f, lengths = torch.zeros(count, 2), np.full(count, 12)
        parts.append(Codes(f, torch.tensor(z - z.mean(1, keepdims=True)).float(), lengths))
    by = lines(probe(*parts, [Target("size", "dynamic", *labels)]).probes)
    assert by["size", "spread_z"].logistic > 0.99
    assert by["size", "mean_z"].logistic == pytest.approx(0.5, abs=0.09)


def test_boosting_reads_what_is_plain_from_few_sequences():
    """scikit-learn's own leaves of 20 sequences leave less than 40 whole, and all at the floor."""
    y = np.arange(30) % 2
    x = y[:, None] + 0.01 * np.random.default_rng(0).normal(size=(30, 3))
    floor, logistic, boosting, _ = probes._figures(x, y, x, y, seed=0)
    assert floor == 0.5 and logistic == boosting == 1


def test_the_floor_is_the_most_frequent_class_of_train_in_test():
    train, test = drawn(8, 0)[0], drawn(5, 1)[0]
    common = Target("a", "static", np.array([0, 1, 1, 1, 2, 2, 0, 1]), np.array([1, 0, 0, 0, 1]))
    constant = Target("b", "static", np.ones(8, int), np.array([1, 1, 1, 1, 0]))
    by = lines(probe(train, test, [common, constant]).probes)
    assert by["a", "f"].floor == 2 / 5
    assert by["b", "f"] == Probe("b", "static", "f", 4 / 5, 4 / 5, 4 / 5, 0)
    # All real steps of the test sequences count.
    assert by["a", "z_t"].floor == test.lengths[[0, 4]].sum() / test.lengths.sum()


def test_unknown_classes_are_left_out_of_both_parts():
    (train, train_labels), (test, test_labels) = drawn(TRAIN, 0), drawn(TEST, 1)
    known = targets(train_labels, test_labels)[:2]
    wrong = [
        np.where(np.arange(n) % 3 == 0, 1 - y, y)
        for n, y in ((TRAIN, known[1].train), (TEST, known[1].test))
    ]
    hidden = [
        np.where(np.arange(n) % 3 == 0, -1, y)
        for n, y in ((TRAIN, known[1].train), (TEST, known[1].test))
    ]
    by = lines(probe(train, test, [known[0], Target("turn", "dynamic", *hidden)]).probes)
    assert by["turn", "mean_z"].logistic > 0.99
    assert ("colour x turn", "f") not in by and len(by) == 8  # one dynamic factor is all the motion
    by = lines(probe(train, test, [Target("turn", "dynamic", *wrong)]).probes)
    assert by["turn", "mean_z"].logistic < 0.75
    nothing = Target("turn", "dynamic", known[1].train, np.full(TEST, -1))
    found = probe(train, test, [known[0], nothing])
    assert found.left_out == ["turn"] and found.dynamic_from_f is None
    assert {line.factor for line in found.probes} == {"colour"}
    with pytest.raises(ValueError, match="no factor has a known class in both"):
        probe(train, test, [nothing])


def test_the_same_seed_gives_the_same_figures_and_boosting_has_a_bound(monkeypatch):
    monkeypatch.setattr(probes, "BOOSTED", 50)
    (train, train_labels), (test, test_labels) = drawn(TRAIN, 0), drawn(TEST, 1)
    chosen = targets(train_labels, test_labels)[:1]
    one, again, other = (probe(train, test, chosen, seed=seed) for seed in (0, 0, 1))
    assert one.boosting_train == 50
    assert one == again and one != other
    # The order of the sequences is of no matter to logistic regression, the steps of z_t are.
    assert one.probes[0].logistic == pytest.approx(other.probes[0].logistic, abs=1e-9)


@pytest.fixture
def collapsed():
    """q is the prior but for a millionth of the means, which a scaling could blow up."""
    dsae = tiny_model(guide="framewise", prior="standard").float().eval()
    with torch.no_grad():
        for head in dsae.guide.modules():
            if isinstance(head, DiagonalNormal):
                size = len(head.parameters_of.bias) // 2
                head.parameters_of.weight[:size] *= 1e-6
                head.parameters_of.weight[size:] = 0
                head.parameters_of.bias[:size] = 0
                head.parameters_of.bias[size:] = math.log(math.expm1(1 - MIN_SCALE))
    return dsae


def test_a_collapsed_model_is_at_the_floor(collapsed):
    """Its standardised means are read, though q is the prior; its draws say nothing.

    Both parts have the same order of classes, which noise that they shared would give away.
    """
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (300, 2)).astype(np.uint8)
    parts = []
    for _ in range(2):
        x = random.integers(0, 60, (300, 3, 16, 32, 2), dtype=np.uint8)
        x += 120 * labels[:, None, None, None]
        parts.append(Sequences(x, np.full(300, 3), np.arange(300)))
    both = [
        Target("colour", "static", labels[:, 0], labels[:, 0]),
        Target("turn", "dynamic", labels[:, 1], labels[:, 1]),
    ]
    means = probe(*(encode(collapsed, part) for part in parts), both)
    drawn = probe(*draw_parts(collapsed, *parts), both)
    assert min(max(line.logistic, line.boosting) for line in means.probes) > 0.85
    accuracies = [(line.logistic, line.boosting) for line in drawn.probes]
    assert np.abs(np.array(accuracies) - 0.5).max() < 0.1  # 3.5 standard errors


def test_the_package_imports_without_scikit_learn():
    code = "import sys, pyro_dsae, pyro_dsae.cli.main; print('sklearn' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout == "False\n", answer.stderr
