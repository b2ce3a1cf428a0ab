"""Probes: how well a classifier reads each factor from f and from z, and so what has leaked.

Static factors should be read from f alone and dynamic ones from z alone. What a probe is given are
codes drawn from q: means that hardly differ would be blown up by any scaling, so that a model whose
q is the prior, and which says nothing, could be read. A draw shows what the decoder gets.

To bound the time, gradient boosting has ``TREES`` trees, or ``ROUNDS`` for each class, and is
fitted on ``BOOSTED`` sequences at most, and the probes of single steps are fitted on one random
step of each sequence. All test sequences are scored, and all their steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from pyro_dsae.analyses.codes import Codes, encode
from pyro_dsae.evaluation import UnmeasurableError
from pyro_dsae.model import DSAE
from pyro_dsae.sequences import Sequences, known, numbered

BOOSTED = 3000  # train sequences of gradient boosting
TREES = 200  # of gradient boosting, over all classes
ROUNDS = 20  # of it at least: a tree for each class
LEAF = 20  # sequences in a leaf of a tree, at least
ITERATIONS = 100  # of logistic regression


@dataclass(frozen=True)
class Target:
    """A factor that the probes shall read.

    Args:
        name: of the factor.
        role: "static" or "dynamic".
        train: its class in each train sequence, int (N,); -1 is unknown and left out.
        test: its class in each test sequence, int (M,).
    """

    name: str
    role: str
    train: np.ndarray
    test: np.ndarray

    @property
    def known(self) -> bool:
        """Whether both parts hold a class that is known."""
        return bool((self.train >= 0).any() and (self.test >= 0).any())


@dataclass(frozen=True)
class Probe:
    """Test accuracies of reading one factor from one code.

    Args:
        factor: its name; the combined motion has the names of all dynamic factors, joined by " x ".
        role: "static" or "dynamic".
        code: "f", "mean_z" (over the steps of a sequence), "spread_z" (the standard deviation over
            the steps as well) or "z_t" (a single step).
        floor: accuracy of the class that is most frequent in train.
        logistic: of logistic regression.
        boosting: of gradient boosting.
        nats: what logistic regression finds out, a lower bound on the mutual information of factor
            and code: H(factor) less its mean -log q(factor | code), both of the test part (Barber &
            Agakov 2003). Below 0 where it is surer than it is right.
    """

    factor: str
    role: str
    code: str
    floor: float
    logistic: float
    boosting: float
    nats: float


@dataclass(frozen=True)
class Leakage:
    """Mean accuracy of reading, from the wrong code, the factors of a role; best at the floor."""

    floor: float
    logistic: float
    boosting: float


@dataclass(frozen=True)
class Probes:
    """What can be read from the codes.

    Args:
        train: train sequences, of which logistic regression saw all.
        boosting_train: of these, how many gradient boosting saw at most.
        test: test sequences.
        left_out: factors whose class is unknown in the whole train or test part.
        probes: every factor, and the combined motion, from every code.
        static_from_z: of the static factors from ``mean_z``; None where there are none.
        dynamic_from_f: of the dynamic factors from f; None where there are none.
    """

    train: int
    boosting_train: int
    test: int
    left_out: list[str]
    probes: list[Probe]
    static_from_z: Leakage | None
    dynamic_from_f: Leakage | None


def draw_parts(dsae: DSAE, train: Sequences, test: Sequences, seed: int = 0) -> tuple[Codes, Codes]:
    """One draw from q for each sequence of both parts. ``dsae`` is in eval mode.

    Each part has noise of its own. Were it the same, and the parts in the same order of classes, a
    probe could learn the class by the noise.
    """
    return encode(dsae, train, 2 * seed), encode(dsae, test, 2 * seed + 1)


@threadpool_limits.wrap(limits=1)  # a fit's products are small: with more threads they take longer
def probe(train: Codes, test: Codes, targets: Sequence[Target], seed: int = 0) -> Probes:
    """Fit the probes on ``train`` and score them on ``test``.

    Args:
        train, test: codes of the parts, by :func:`draw_parts`.
        targets: the factors that have classes.
        seed: of the subset of the train part, of the steps and of gradient boosting.

    Raises UnmeasurableError when no factor is known in both parts.
    """
    single = [target for target in targets if target.known]
    if not single:
        raise UnmeasurableError("no factor has a known class in both the train and the test part")
    together = [target for target in _combined(single) if target.known]
    order = np.random.default_rng(seed).permutation(len(train.f))
    found = []
    for code, (x, rows), (test_x, test_rows) in zip(
        ("f", "mean_z", "spread_z", "z_t"), _inputs(train, seed), _inputs(test), strict=True
    ):
        for target in [*single, *together]:
            y, test_y = target.train[rows], target.test[test_rows]
            chosen, scored = order[y[order] >= 0], test_y >= 0
            figures = _figures(x[chosen], y[chosen], test_x[scored], test_y[scored], seed)
            found.append(Probe(target.name, target.role, code, *figures))
    names = {target.name for target in single}  # a leakage is over single factors
    rows = [row for row in found if row.factor in names]
    return Probes(
        train=len(train.f),
        boosting_train=min(BOOSTED, len(train.f)),
        test=len(test.f),
        left_out=[target.name for target in targets if not target.known],
        probes=found,
        static_from_z=_leakage([p for p in rows if (p.role, p.code) == ("static", "mean_z")]),
        dynamic_from_f=_leakage([p for p in rows if (p.role, p.code) == ("dynamic", "f")]),
    )


def _inputs(codes: Codes, seed: int | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each code: the inputs (n, D) and the sequence of each, (n,).

    With a ``seed``, z_t is one random step of each sequence, in order; without, all real steps.
    """
    z = codes.z.cpu().numpy()
    if seed is None:
        rows, steps = np.nonzero(np.arange(z.shape[1]) < codes.lengths[:, None])
    else:
        rows, steps = np.arange(len(z)), np.random.default_rng(seed).integers(codes.lengths)
    every = np.arange(len(z))
    return [
        (codes.f.cpu().numpy(), every),
        (codes.mean_z.cpu().numpy(), every),
        (codes.spread_z.cpu().numpy(), every),
        (z[rows, steps], rows),
    ]


def _combined(targets: Sequence[Target]) -> list[Target]:
    """All dynamic factors as one, where there are several."""
    dynamic = [target for target in targets if target.role == "dynamic"]
    if len(dynamic) < 2:
        return []
    labels = np.stack([np.concatenate([target.train, target.test]) for target in dynamic], axis=-1)
    numbers = np.where(known(labels), numbered(labels), -1)
    count = len(dynamic[0].train)
    name = " x ".join(target.name for target in dynamic)
    return [Target(name, "dynamic", numbers[:count], numbers[count:])]


def _figures(
    x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, seed: int
) -> tuple[float, float, float, float]:
    """The accuracy of the class prior, of logistic regression, and of gradient boosting on the
    first rows; and the nats of logistic regression."""
    floor = float(np.mean(test_y == np.bincount(y).argmax()))
    if (y == y[0]).all():
        return floor, floor, floor, 0.0
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the limit is there for the time
        logistic.fit(x, y)
    boosted = y[:BOOSTED]
    boosting = HistGradientBoostingClassifier(
        max_iter=max(ROUNDS, TREES // len(np.unique(boosted))),
        min_samples_leaf=min(LEAF, max(1, len(boosted) // 10)),  # or a small set has no split
        early_stopping=False,
        random_state=seed,
    )
    boosting.fit(x[:BOOSTED], boosted)
    accuracies = (float(model.score(test_x, test_y)) for model in (logistic, boosting))
    return floor, *accuracies, _nats(logistic, test_x, test_y)


def _nats(classifier: Pipeline, x: np.ndarray, y: np.ndarray) -> float:
    """H(y) less the classifier's mean -log q(y | x), over classes that it was fitted on."""
    column = {label: n for n, label in enumerate(classifier.classes_)}
    known = np.isin(y, classifier.classes_)
    if not known.any():
        return 0.0
    columns = [column[label] for label in y[known]]
    logits = classifier.decision_function(x[known])  # scikit-learn's probabilities may be 0
    if logits.ndim == 1:  # of two classes, the log of the odds of the second
        logits = np.stack([np.zeros_like(logits), logits], axis=1)
    log_q = logits[np.arange(len(columns)), columns] - np.logaddexp.reduce(logits, axis=1)
    share = np.unique(columns, return_counts=True)[1] / len(columns)
    return float(log_q.mean() - share @ np.log(share))


def _leakage(rows: list[Probe]) -> Leakage | None:
    if not rows:
        return None
    columns = ([row.floor, row.logistic, row.boosting] for row in rows)
    return Leakage(*(float(value) for value in np.mean(list(columns), axis=0)))
