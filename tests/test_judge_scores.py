"""Judge scores of fake models with known scores, by a judge that reads labels off the pixels."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from conftest import tiny_model
from pyro_dsae import Sequences
from pyro_dsae.analyses.codes import encode
from pyro_dsae.evaluation.exact import match_pairs
from pyro_dsae.evaluation.judge import JudgeConfig, JudgeError
from pyro_dsae.evaluation.judge_scores import entropies, intervention_score, judge_scores

STATIC, DYNAMIC = {"colour": 3, "shape": 4}, {"action": 2, "way": 3}
CONFIG = JudgeConfig((1, 16, 16), STATIC, DYNAMIC)
STEPS, COPIES = 3, 5
SIZES = (*STATIC.values(), *DYNAMIC.values())


def judged(dsae, judge, sequences, static, dynamic, *more, **options):
    """Of the posterior means."""
    codes = encode(dsae, sequences)
    return judge_scores(dsae, judge, sequences, codes, static, dynamic, *more, **options)


def part(lengths: np.ndarray | None = None) -> tuple[Sequences, np.ndarray, np.ndarray]:
    """Every combination, a few times: each factor's class is the value of a pixel of its own."""
    labels = np.tile(np.indices(SIZES).reshape(4, -1).T, (COPIES, 1))
    x = np.zeros((len(labels), STEPS, 16, 16, 1), np.uint8)
    x[:, :, 0, :4, 0] = labels[:, None]
    lengths = np.full(len(labels), STEPS) if lengths is None else lengths
    return Sequences(x, lengths, np.arange(len(labels))), labels[:, :2], labels[:, 2:]


class Fake(nn.Module):
    """f is the two pixels of appearance, z_t the two of motion; ``show`` turns them into pixels."""

    def __init__(self, show) -> None:
        super().__init__()
        self.here = nn.Parameter(torch.zeros(()))
        self.show = show
        self.model = self

    def encode(self, x, mask=None, sample=False):
        pixels = (255 * x[:, :, 0, 0, :4]).round()
        return torch.cat([pixels[:, 0, :2], pixels[:, 0, 2:]], dim=-1), pixels[..., 2:]

    def draw_static(self, sequences, draw):
        return torch.stack([torch.randint(size, (sequences,)) for size in SIZES], dim=-1).float()

    def draw_dynamic(self, f, steps, lengths, draw):
        motion = torch.stack([torch.randint(size, (len(f),)) for size in SIZES[2:]], dim=-1)
        return motion.float().unsqueeze(1).expand(-1, steps, -1)

    def decode(self, f, z):
        x = torch.zeros(*z.shape[:2], 1, 16, 16)
        x[..., 0, 0, :4] = self.show(f.unsqueeze(1).expand(-1, z.shape[1], -1), z) / 255
        return x


def disentangled(f, z):
    return torch.cat([f[..., :2], z], dim=-1)


def static_only(f, z):
    return f  # which holds the motion too


def collapsed(f, z):
    return torch.zeros_like(f)


class Oracle(nn.Module):
    """A judge that is always right, and remembers the lengths of what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.config, self.lengths = CONFIG, []
        self.accuracy = {"motion": 1.0, "colour": 0.9991, "shape": 1.0}

    def forward(self, x, mask=None):
        steps = torch.full((len(x),), x.shape[1]) if mask is None else mask.sum(dim=1)
        self.lengths.append(steps)
        last = (255 * x[torch.arange(len(x)), steps - 1, 0, 0, :4]).round().long()
        classes = {"motion": 3 * last[:, 2] + last[:, 3], "colour": last[:, 0], "shape": last[:, 1]}
        return {
            name: 1000.0 * nn.functional.one_hot(values, CONFIG.heads[name])
            for name, values in classes.items()
        }


def means(accuracies):
    return {name: spread.mean for name, spread in accuracies.items()}


FLOORS = {"motion": 1 / 6, "colour": 1 / 3, "shape": 1 / 4}


def at_the_floor(accuracies, names):
    """Of 360 sequences, four standard errors of a share of 1/3 are 0.1."""
    return means(accuracies) == {name: pytest.approx(FLOORS[name], abs=0.1) for name in names}


def test_a_disentangled_model_is_right_on_target_and_at_chance_off_it():
    scores = judged(Fake(disentangled), Oracle(), *part())
    assert scores.sequences == 360 and scores.repeats == 5 and scores.floors == FLOORS
    assert means(scores.fixed_motion.on) == {"motion": 1}
    assert at_the_floor(scores.fixed_motion.off, ["colour", "shape"])
    assert means(scores.fixed_content.on) == {"colour": 1, "shape": 1}
    assert at_the_floor(scores.fixed_content.off, ["motion"])
    assert means(scores.swap.on) == {"motion": 1, "colour": 1, "shape": 1}
    assert means(scores.swap.off)["motion"] == 0  # no pair shares it
    assert means(scores.real.on) == means(scores.reconstruction.on) == means(scores.swap.on)
    assert means(scores.inception.__dict__) == {
        "accuracy": 1,
        "score": pytest.approx(6),
        "conditional_entropy": 0,
        "entropy": pytest.approx(math.log(6)),
    }


def test_labels_of_others_and_random_codes_come_out_at_the_floor():
    scores = judged(Fake(disentangled), Oracle(), *part())
    for row in (scores.shuffled, scores.random):
        assert row.on == {} and at_the_floor(row.off, FLOORS)
    for row in (scores.fixed_motion, scores.fixed_content, scores.shuffled, scores.random):
        assert all(0 < spread.sd < 0.1 for spread in row.off.values())
    for row in (scores.swap, scores.real, scores.reconstruction):
        assert all(spread.sd is None for spread in row.on.values())  # nothing is drawn there


def test_a_model_that_keeps_the_motion_in_f_shows_as_motion():
    scores = judged(Fake(static_only), Oracle(), *part())
    assert means(scores.swap.on) == {"motion": 0, "colour": 1, "shape": 1}
    assert means(scores.swap.off)["motion"] == 1
    assert at_the_floor(scores.fixed_motion.on, ["motion"])
    assert means(scores.fixed_content.off) == {"motion": 1}
    assert means(scores.reconstruction.on) == {"motion": 1, "colour": 1, "shape": 1}


def test_a_collapsed_model_comes_out_as_what_it_is():
    scores = judged(Fake(collapsed), Oracle(), *part())
    for row in (scores.reconstruction, scores.swap):
        assert means(row.on) == pytest.approx(FLOORS)
    assert scores.inception.score.mean == pytest.approx(1)
    assert scores.inception.entropy.mean == pytest.approx(0)
    assert scores.inception.accuracy.mean == pytest.approx(1 / 6)


def test_the_appearances_of_swaps_off_target_are_as_often_right_as_pairs_share_them():
    sequences, static, dynamic = part()
    scores = judged(Fake(disentangled), Oracle(), sequences, static, dynamic, seed=3)
    shared = (static == static[match_pairs(static, dynamic, 3)]).mean(axis=0)
    assert means(scores.swap.off) == pytest.approx(
        {"motion": 0, "colour": shared[0], "shape": shared[1]}
    )


def test_every_sequence_is_judged_at_the_length_of_its_motion():
    lengths = np.arange(360) % STEPS + 1
    sequences, static, dynamic = part(lengths)
    oracle = Oracle()
    scores = judged(Fake(disentangled), oracle, sequences, static, dynamic, repeats=1)
    seen = torch.cat(oracle.lengths).reshape(6, 360).numpy()
    partner = match_pairs(static, dynamic, 0)
    expected = [lengths, lengths, lengths[partner], lengths, lengths, lengths]
    assert (seen == expected).all()
    assert scores.fixed_motion.on["motion"].mean == 1
    assert scores.fixed_motion.on["motion"].sd is None  # of one draw


def test_the_inception_score_is_of_as_many_sequences_of_each_motion():
    sequences, static, dynamic = part()
    often = (dynamic == 0).all(axis=1)  # one motion five times as often as any other
    chosen = np.flatnonzero(often | (np.arange(360) < 72))
    found = judged(
        Fake(disentangled), Oracle(), sequences.take(chosen), static[chosen], dynamic[chosen]
    )
    assert found.inception.score.mean == pytest.approx(6)
    assert found.inception.entropy.mean == pytest.approx(math.log(6))


def test_the_seed_decides_and_the_callers_random_numbers_are_left_alone():
    state = torch.get_rng_state()
    one, same, other = (
        judged(Fake(disentangled), Oracle(), *part(), repeats=2, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(state, torch.get_rng_state())
    assert one == same and one != other
    assert json.loads(json.dumps(asdict(one)))["swap"]["on"]["motion"] == {"mean": 1, "sd": None}


def test_without_a_repeat_there_is_nothing_to_score():
    with pytest.raises(ValueError, match="repeats is 0, but must be at least 1"):
        judged(Fake(disentangled), Oracle(), *part(), repeats=0)


def test_mean_and_deviation_are_over_the_repeats():
    one, two = (
        judged(Fake(disentangled), Oracle(), *part(), repeats=repeats).fixed_motion.off
        for repeats in (1, 2)
    )
    for name, spread in two.items():
        first = one[name].mean
        second = 2 * spread.mean - first
        assert spread.sd == pytest.approx(abs(first - second) / math.sqrt(2)) and first != second


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        (torch.eye(9), (9, 0, math.log(9))),
        (torch.full((4, 9), 1 / 9), (1, math.log(9), math.log(9))),
        (torch.eye(9)[[2, 2, 2]], (1, 0, 0)),
        # p(y) = (1/4, 1/2, 1/4): H(y) = 1.5 ln 2, H(y|x) = ln 2
        (
            torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]),
            (math.sqrt(2), math.log(2), 1.5 * math.log(2)),
        ),
    ],
)
def test_inception_score_and_entropies_of_known_distributions(probabilities, expected):
    assert entropies(probabilities) == pytest.approx(expected, abs=1e-6)


def test_the_inception_score_is_the_exponential_of_the_difference_of_the_entropies():
    logits = torch.randn(100, 9, generator=torch.Generator().manual_seed(0)) * 20
    score, conditional, entropy = entropies(logits.double().softmax(dim=1))
    assert score == pytest.approx(math.exp(entropy - conditional), rel=1e-9)
    assert 1 < score < 9


def test_the_intervention_score_by_hand():
    floors = {"motion": 0.2, "who": 0.5}
    assert intervention_score({"motion": 1, "who": 1}, {"motion": 0.2, "who": 0.5}, floors) == 1
    # Two heads .9 and .7 right are .2 short, .3 and .5 are .05 off their floors.
    found = intervention_score({"motion": 0.9, "who": 0.7}, {"motion": 0.3, "who": 0.5}, floors)
    assert found == pytest.approx(1 - (0.2 + 0.05) / 2)


@pytest.mark.parametrize(
    ("show", "expected"),
    # All in f: with f drawn the motion is at chance, 5/6 short, and with z drawn it is right, 5/6
    # above its floor; of three heads each. Nothing at all: always class 0, wherever it is the one.
    [(disentangled, 1), (static_only, 1 - (5 / 18 + 5 / 18) / 2), (collapsed, 1 - 0.75 / 2)],
)
def test_the_intervention_score_of_known_models(show, expected):
    found = judged(Fake(show), Oracle(), *part()).intervention
    assert found.mean == pytest.approx(expected, abs=0.03)


def test_a_judge_that_is_not_believed_scores_nothing():
    oracle = Oracle()
    oracle.accuracy = {"motion": 1.0, "colour": 0.9989, "shape": 1.0}
    with pytest.raises(JudgeError, match=r"names colour right in only 99\.890 % of its own test"):
        judged(Fake(disentangled), oracle, *part())
    oracle.accuracy = {}
    with pytest.raises(JudgeError, match="never tested"):
        judged(Fake(disentangled), oracle, *part())


def test_a_judge_of_other_sequences_scores_nothing():
    sequences, static, dynamic = part()
    with pytest.raises(JudgeError, match=r"names colour right in only .* of the sequences to eva"):
        judged(Fake(disentangled), Oracle(), sequences, (static + 1) % [3, 1], dynamic)
    with pytest.raises(JudgeError, match="not of the judge's factors"):
        judged(Fake(disentangled), Oracle(), sequences, static[:, :1], dynamic)
    wide = Sequences(np.zeros((2, 3, 16, 32, 1), np.uint8), np.full(2, 3), np.arange(2))
    with pytest.raises(JudgeError, match=r"frames are \(1, 16, 32\)"):
        judged(Fake(disentangled), Oracle(), wide, static[:2], dynamic[:2])


@pytest.mark.parametrize("prior", ["standard", "lstm"])
def test_a_real_model_decodes_its_own_posteriors_and_priors(prior, monkeypatch):
    monkeypatch.setattr("pyro_dsae.evaluation.judge_scores.check_accuracy", lambda *arguments: None)
    dsae = tiny_model(prior=prior, frame_shape=(1, 16, 16)).float().eval()
    sequences, static, dynamic = part()
    rows = np.arange(40)
    sequences, static, dynamic = sequences.take(rows), static[rows], dynamic[rows]
    oracle, seen = Oracle(), []

    def look(x, mask):
        seen.append(x)
        return {name: torch.zeros(len(x), classes) for name, classes in CONFIG.heads.items()}

    monkeypatch.setattr(oracle, "forward", look)
    judged(dsae, oracle, sequences, static, dynamic, repeats=1, seed=7)
    x, _ = sequences.batch(rows, torch.device("cpu"))
    own_f, own_z = dsae.encode(x)
    partner = match_pairs(static, dynamic, 7)
    torch.manual_seed(7)
    f = torch.randn(40, dsae.config.static_dim)
    with torch.no_grad():
        z = dsae.model.draw_dynamic(f, STEPS, None, lambda name, prior: prior.sample())
    pairs = [(own_f, own_z), (own_f, own_z[partner]), (f, own_z), (own_f, z), (f, z)]
    expected = torch.stack([x, *(dsae.decode(*codes) for codes in pairs)])
    assert torch.allclose(torch.cat(seen).reshape(expected.shape), expected, atol=1e-5)
