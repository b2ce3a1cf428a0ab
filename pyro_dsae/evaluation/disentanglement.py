"""Whether each unit of a code belongs to one factor, and each factor to one unit.

Every score takes codes, shape (N, D), and the classes of factors, int (N, K). It is 1 for a code
of one unit for each factor, and near 0 where all units know as much of all factors; of few
sequences MIG and modularity are lower, see ``ESTIMATORS``. It raises
UnmeasurableError where D or K is below two or a factor has one class only.

The code of a sequence is f beside the mean of z over its steps. It is to be drawn from q: every
estimator here looks through any scaling, and would read means that hardly differ. The modularity
counts every unit alike, and that of a unit which knows nothing is chance, so where many units are
inactive it says little.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from pyro_dsae.analyses.codes import Codes, at_most
from pyro_dsae.evaluation import UnmeasurableError
from pyro_dsae.sequences import known

BINS = 20
TREES = 20

_INFORMATION = (
    f"mutual information in a histogram of {BINS} bins of one width for each unit, as it is in the "
    "sample: too high by about (bins - 1) (classes - 1) / 2N nats of N sequences"
)
ESTIMATORS = {
    "mig": _INFORMATION,
    "modularity": _INFORMATION,
    "dci": f"random forest of {TREES} trees for each factor, fitted on one half of the sequences; "
    "accuracy on the other",
    "sap": "decision tree of a leaf for each class on one unit, fitted on one half of the "
    "sequences; balanced accuracy above chance on the other",
}


@dataclass(frozen=True)
class DCI:
    """Scores of Eastwood & Williams (2018).

    Args:
        disentanglement: whether a unit matters for one factor only.
        completeness: whether one unit only matters for a factor.
        informativeness: accuracy of the prediction, mean over the factors.
    """

    disentanglement: float
    completeness: float
    informativeness: float


@dataclass(frozen=True)
class Disentanglement:
    """Scores of the units of f and mean z together.

    Args:
        sequences: how many they are over.
        units: of f and z.
        factors: how many there are that have several classes.
        mig: see :func:`mig`.
        dci: see :func:`dci`.
        modularity: see :func:`modularity`.
        sap: see :func:`sap`.
        estimators: how each was estimated, in words.
    """

    sequences: int
    units: int
    factors: int
    mig: float
    dci: DCI
    modularity: float
    sap: float
    estimators: dict[str, str] = field(default_factory=ESTIMATORS.copy)


def disentanglement(codes: Codes, factors: np.ndarray, seed: int = 0) -> Disentanglement:
    """All scores of a part.

    Args:
        codes: draws from q, that is ``encode(dsae, sequences, seed)``, of N sequences.
        factors: classes of the factors, static and dynamic, int (N, K). Left out are factors that
            are unknown, -1, throughout, then sequences with an unknown class, and then factors with
            one class only.
        seed: of the ``AT_MOST`` sequences that are taken of more, of the halves and of the forests.

    Raises UnmeasurableError when no sequence is left, or fewer than two factors.
    """
    factors = factors[:, (factors >= 0).any(axis=0)]
    rows = np.flatnonzero(known(factors))
    if not len(rows):
        raise UnmeasurableError("no sequence has a known class of every factor")
    chosen = at_most(rows, seed)
    codes = codes.take(chosen)
    units = torch.cat([codes.f, codes.mean_z], dim=-1).cpu().numpy()
    factors = factors[chosen]
    factors = factors[:, (factors != factors[:1]).any(axis=0)]
    return Disentanglement(
        sequences=len(chosen),
        units=units.shape[1],
        factors=factors.shape[1],
        mig=mig(units, factors),
        dci=dci(units, factors, seed),
        modularity=modularity(units, factors),
        sap=sap(units, factors, seed),
    )


def mutual_information(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Of each unit, cut into ``BINS`` bins of one width, and each factor, in nats: (D, K)."""
    units = np.arange(codes.shape[1])
    width = np.ptp(codes, axis=0)
    scaled = (codes - codes.min(axis=0)) / np.where(width > 0, width, 1)
    bins = np.minimum((scaled * BINS).astype(int), BINS - 1)  # (N, D)
    columns = []
    for labels, classes in _numbered(codes, factors):
        # In whole numbers, so that what is independent has an information of exactly 0.
        joint = np.zeros((len(units), BINS, classes), int)
        np.add.at(joint, (units, bins, labels[:, None]), 1)
        independent = joint.sum(axis=2, keepdims=True) * joint.sum(axis=1, keepdims=True)
        there = joint > 0
        ratio = np.divide(joint * len(codes), independent, out=np.ones(joint.shape), where=there)
        columns.append((joint * np.log(ratio)).sum(axis=(1, 2)) / len(codes))
    return np.stack(columns, axis=-1)


def mig(codes: np.ndarray, factors: np.ndarray) -> float:
    """Mutual information gap: by how much the best unit of a factor beats the second best.

        1/K sum_k (I_best,k - I_second,k) / H_k

    Chen, Li, Grosse & Duvenaud (2018), Isolating Sources of Disentanglement in VAEs.
    """
    *_, second, best = np.sort(mutual_information(codes, factors), axis=0)
    entropies = [
        _entropy(np.bincount(labels) / len(labels)) for labels, _ in _numbered(codes, factors)
    ]
    return float(np.mean((best - second) / entropies))


def modularity(codes: np.ndarray, factors: np.ndarray) -> float:
    """How far each unit informs about one factor only, mean over the units.

        1 - 1/D sum_d sum_{k not best} I_dk^2 / (I_d,best^2 (K - 1))

    Ridgeway & Mozer (2018), Learning Deep Disentangled Embeddings with the F-Statistic Loss. A unit
    without any information counts 0.
    """
    squares = mutual_information(codes, factors) ** 2
    best = squares.max(axis=1)
    informed = best > 0
    others = squares.sum(axis=1)[informed] / best[informed] - 1
    return float((1 - others / (factors.shape[1] - 1)).sum() / len(best))


def dci(codes: np.ndarray, factors: np.ndarray, seed: int = 0) -> DCI:
    """Disentanglement, completeness and informativeness by the importances of random forests.

    Each factor has a forest, which is fitted on a random half of the sequences and predicts the
    other. Its trees choose among all units at every node, and the importance of a unit is how much
    it lowers the Gini impurity. Eastwood & Williams (2018), A Framework for the Quantitative
    Evaluation of Disentangled Representations.
    """
    fitted, scored = _halves(len(codes), seed)
    importance, accuracies = [], []
    for labels, _ in _numbered(codes, factors):
        forest = RandomForestClassifier(
            TREES, max_features=None, min_samples_leaf=5, random_state=seed
        )
        forest.fit(codes[fitted], labels[fitted])
        importance.append(forest.feature_importances_)
        accuracies.append(forest.score(codes[scored], labels[scored]))
    return DCI(
        disentanglement=concentration(np.stack(importance, axis=-1)),
        completeness=concentration(np.stack(importance)),
        informativeness=float(np.mean(accuracies)),
    )


def concentration(importance: np.ndarray) -> float:
    """How far each row (R, C) lies in one column: 1 for all of it, 0 for equal parts.

        sum_r w_r (1 - H(p_r) / ln C)

    with p_r the row over its sum, and w_r its sum over that of all rows. 0 where all are 0: nothing
    was found to matter, as in the codes of a collapsed model.
    """
    sums = importance.sum(axis=1)
    if not sums.any():
        return 0.0
    rows = importance[sums > 0] / sums[sums > 0, None]
    return float(sums[sums > 0] @ (1 - _entropy(rows) / np.log(rows.shape[1])) / sums.sum())


def sap(codes: np.ndarray, factors: np.ndarray, seed: int = 0) -> float:
    """Separated attribute predictability: by how much a factor's best unit beats the second best.

    A factor is predicted from one unit by thresholds: a tree with a leaf for each class, fitted on
    a random half of the sequences. Its score is the balanced accuracy on the other, scaled so that
    chance is 0 and all right is 1, lest factors with few classes count less. Kumar, Sattigeri &
    Balakrishnan (2018), Variational Inference of Disentangled Latent Concepts from Unlabeled
    Observations.
    """
    fitted, scored = _halves(len(codes), seed)
    gaps = []
    for labels, classes in _numbered(codes, factors):
        members = [labels[scored] == c for c in np.unique(labels[scored])]
        scores = []
        for unit in codes.T[..., None]:  # (N, 1)
            tree = DecisionTreeClassifier(
                max_leaf_nodes=classes, class_weight="balanced", random_state=seed
            )
            right = tree.fit(unit[fitted], labels[fitted]).predict(unit[scored]) == labels[scored]
            scores.append(np.mean([right[rows].mean() for rows in members]))
        chance = 1 / classes
        *_, second, best = np.sort(np.maximum(scores, chance))
        gaps.append((best - second) / (1 - chance))
    return float(np.mean(gaps))


def _numbered(codes: np.ndarray, factors: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """The classes of each factor numbered from 0 without gaps, (N,), and how many there are."""
    if codes.shape[1] < 2 or factors.shape[1] < 2:
        raise UnmeasurableError(
            f"there are {codes.shape[1]} units and {factors.shape[1]} factors with several "
            "classes, but the scores need two of each"
        )
    found = []
    for k, column in enumerate(factors.T):
        values, labels = np.unique(column, return_inverse=True)
        if len(values) < 2:
            raise UnmeasurableError(f"factor {k} is {values[0]} in all sequences; leave it out")
        found.append((labels, len(values)))
    return found


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    """In nats, over the last axis."""
    return -(probabilities * np.log(np.where(probabilities > 0, probabilities, 1))).sum(axis=-1)


def _halves(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(seed).permutation(count)
    return order[: count // 2], order[count // 2 :]
