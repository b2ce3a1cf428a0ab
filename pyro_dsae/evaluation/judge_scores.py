"""What a judge sees in generated sequences: the field's table (Li & Mandt 2018, section 4.1).

Each row is a way to generate, judged against the labels it should show (on target) and against
those it should not (off target). There a disentangled model is at chance; the other's labels in a
swap it shows as often as the two share them, and of the motion never:

    fixed_motion    decode(f ~ p(f), z_A)      A's motion stays, A's appearance goes
    fixed_content   decode(f_A, z ~ p(z))      A's appearance stays, A's motion goes
    swap            decode(f_A, z_B)           A's appearance, B's motion

A judge is fooled by a blend of two sequences; :mod:`pyro_dsae.evaluation.exact` is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_dsae.analyses.codes import Codes, batches, device_of, seeded
from pyro_dsae.evaluation.exact import match_pairs
from pyro_dsae.evaluation.judge import MOTION, Judge, check_accuracy, check_frames, hits, judged
from pyro_dsae.model import DSAE
from pyro_dsae.sequences import Sequences, length_mask

REPEATS = 5  # draws from the priors that figures are averaged over


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over repeats; sd is None of a single one."""

    mean: float
    sd: float | None


@dataclass(frozen=True)
class Row:
    """Accuracies of the heads over all sequences, a fraction of 1.

    Args:
        on: against the labels that these sequences should show.
        off: against those they should not.
    """

    on: dict[str, Spread]
    off: dict[str, Spread]


@dataclass(frozen=True)
class Inception:
    """The motion's head on sequences of fixed motion, as many of each motion.

    Args:
        accuracy: how often the motion is right.
        score: the inception score, exp(mean KL(p(y|x) || p(y))) = exp(H(y) - H(y|x)), at best the
            number of motions.
        conditional_entropy: H(y|x) in nats, at best 0.
        entropy: H(y) in nats, at best the logarithm of the number of motions.
    """

    accuracy: Spread
    score: Spread
    conditional_entropy: Spread
    entropy: Spread


@dataclass(frozen=True)
class JudgeScores:
    """The rows of the field's table and, below, those that tell whether to believe it.

    Args:
        sequences: how many were judged in each row.
        repeats: draws from the priors, and shuffles.
        floors: 1 / classes of each head.
        fixed_motion, fixed_content, swap: see the header of this module. Swaps are of one pairing.
        inception: of the fixed motions.
        intervention: of fixed motion and fixed content together, see :func:`intervention_score`.
        real: the sequences themselves.
        reconstruction: decode(f_A, z_A).
        random: decode(f ~ p(f), z ~ p(z)), against labels it knows nothing of.
        shuffled: the real sequences against the labels of others.
    """

    sequences: int
    repeats: int
    floors: dict[str, float]
    fixed_motion: Row
    fixed_content: Row
    swap: Row
    inception: Inception
    intervention: Spread
    real: Row
    reconstruction: Row
    random: Row
    shuffled: Row


@torch.no_grad()
def judge_scores(
    dsae: DSAE,
    judge: Judge,
    sequences: Sequences,
    codes: Codes,
    static: np.ndarray,
    dynamic: np.ndarray,
    repeats: int = REPEATS,
    seed: int = 0,
) -> JudgeScores:
    """Judge what ``dsae`` makes of all sequences, whose codes are posterior means.

    Args:
        dsae: in eval mode, where it shall run.
        judge: in eval mode, there as well.
        codes: the sequences' posterior means, by :func:`~pyro_dsae.analyses.codes.encode`.
        static: labels of the appearance, int (N, k), in the order of ``judge.config.static``.
        dynamic: labels of the motion, int (N, m), in the order of ``judge.config.dynamic``.
        repeats: draws from the priors, and shuffles.
        seed: of these and of the pairs. The caller's random numbers are left alone.

    A generated sequence is as long as the one its z is of, or else its f.
    Raises JudgeError when the judge does not fit the sequences or is below 99.9 % on a head, on its
    own test part or on these, PairingError as :func:`~pyro_dsae.evaluation.exact.match_pairs`, and
    ValueError without any repeat.
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}, but must be at least 1")
    check_accuracy(judge.accuracy, "its own test part")
    check_frames(judge, sequences)
    own = judge.config.targets(static, dynamic)
    device, count, lengths = device_of(dsae), len(sequences), sequences.lengths

    def decoded(
        f: Tensor, z: Tensor, lengths: np.ndarray
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        for rows in batches(count):
            yield dsae.decode(f[rows], z[rows]), length_mask(lengths[rows], z.shape[1], device)

    real = judged(judge, (sequences.batch(rows, device) for rows in batches(count)))
    check_accuracy(hits(real, own), "the sequences to evaluate")
    partner = match_pairs(static, dynamic, seed)
    reconstructions = judged(judge, decoded(codes.f, codes.z, lengths))
    swaps = judged(judge, decoded(codes.f, codes.z[partner], lengths[partner]))
    with seeded(seed, device):
        draws = []
        for _ in range(repeats):
            f = dsae.model.draw_static(count, _sample)
            draws.append((f, dsae.model.draw_dynamic(f, codes.z.shape[1], None, _sample)))
    motions = [judged(judge, decoded(f, codes.z, lengths)) for f, _ in draws]
    contents = [judged(judge, decoded(codes.f, z, lengths)) for _, z in draws]
    noise = [judged(judge, decoded(*draw, lengths)) for draw in draws]
    random = np.random.default_rng(seed)
    orders = [random.permutation(count) for _ in range(repeats)]
    shuffles = [{name: logits[order] for name, logits in real.items()} for order in orders]
    motion = {MOTION: own[MOTION]}
    content = {name: own[name] for name in judge.config.static}
    other_motion = {MOTION: own[MOTION][partner]}
    other_content = {name: labels[partner] for name, labels in content.items()}
    floors = {name: 1 / classes for name, classes in judge.config.heads.items()}
    interventions = [
        intervention_score(
            hits(moved, motion) | hits(kept, content),
            hits(moved, content) | hits(kept, motion),
            floors,
        )
        for moved, kept in zip(motions, contents, strict=True)
    ]
    return JudgeScores(
        sequences=count,
        repeats=repeats,
        floors=floors,
        fixed_motion=_row(motions, motion, content),
        fixed_content=_row(contents, content, motion),
        swap=_row([swaps], content | other_motion, other_content | motion),
        inception=_inception([logits[MOTION] for logits in motions], own[MOTION], random),
        intervention=_spread(interventions),
        real=_row([real], own, {}),
        reconstruction=_row([reconstructions], own, {}),
        random=_row(noise, {}, own),
        shuffled=_row(shuffles, {}, own),
    )


def entropies(probabilities: Tensor) -> tuple[float, float, float]:
    """Inception score, H(y|x) and H(y) in nats, of p(y|x) for N sequences x, shape (N, classes).

    The score is computed from the divergences, exp(mean KL(p(y|x) || p(y))), and asserted to be
    exp(H(y) - H(y|x)), which it is exactly.
    """
    p = probabilities.double()
    marginal = p.mean(dim=0)
    divergence = (torch.xlogy(p, p) - torch.xlogy(p, marginal)).sum(dim=1).mean().item()
    conditional = torch.special.entr(p).sum(dim=1).mean().item()
    entropy = torch.special.entr(marginal).sum().item()
    assert math.isclose(divergence, entropy - conditional, abs_tol=1e-9)
    return math.exp(divergence), conditional, entropy


def intervention_score(
    on: Mapping[str, float], off: Mapping[str, float], floors: Mapping[str, float]
) -> float:
    """MSD-Benchmark's two-factor score of an intervention by draws from the prior, at best 1.

        1 - (mean |on - 1| + mean |off - floor|) / 2

    Args:
        on: how often each head names what it should: with f drawn the motion, with z drawn the
            static factors.
        off: how often it names what was drawn anew, which is best at its floor.
        floors: 1 / classes of each head.

    There every dynamic factor has a head, here the motion has one.
    """
    wrong = np.mean([abs(accuracy - 1) for accuracy in on.values()])
    leaked = np.mean([abs(accuracy - floors[name]) for name, accuracy in off.items()])
    return float(1 - (wrong + leaked) / 2)


def _inception(
    repeats: Sequence[Tensor], motions: np.ndarray, random: np.random.Generator
) -> Inception:
    """Of the logits (N, classes) of each repeat, on as many sequences of each of the motions."""
    figures = []
    for logits in repeats:
        chosen = _balanced(motions, random)
        score, conditional, entropy = entropies(logits[chosen].double().softmax(dim=1))
        accuracy = hits({MOTION: logits[chosen]}, {MOTION: motions[chosen]})[MOTION]
        figures.append((accuracy, score, conditional, entropy))
    return Inception(*map(_spread, zip(*figures, strict=True)))


def _balanced(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Indices of as many sequences of each class as the rarest has, drawn at random."""
    size = np.unique(labels, return_counts=True)[1].min()
    shuffled = random.permutation(len(labels))
    groups = [shuffled[labels[shuffled] == label][:size] for label in np.unique(labels)]
    return np.concatenate(groups)


def _row(
    repeats: Sequence[Mapping[str, Tensor]],
    on: Mapping[str, np.ndarray],
    off: Mapping[str, np.ndarray],
) -> Row:
    """The accuracies of the logits of each repeat against either labels."""
    found = [[hits(logits, targets) for logits in repeats] for targets in (on, off)]
    return Row(
        *({name: _spread([hit[name] for hit in each]) for name in each[0]} for each in found)
    )


def _spread(values: Sequence[float]) -> Spread:
    several = len(values) > 1
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)) if several else None)


def _sample(name: str, distribution: dist.Distribution) -> Tensor:
    return distribution.sample()
