"""Exact scores of fake models whose scores are known, and against a slow computation."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from conftest import tiny_model
from pyro_dsae import Sequences
from pyro_dsae.analyses.codes import encode
from pyro_dsae.evaluation.exact import Origin, PairingError, exact_scores, match_pairs, unlike

FACTORS = {"turn": 3, "speed": 2}  # classes of the dynamic factors
STEPS = 4


def scores_of(dsae, sequences, static, dynamic, *more, **options):
    """Of the posterior means."""
    codes = encode(dsae, sequences)
    return exact_scores(dsae, sequences, codes, static, dynamic, *more, **options)


def render(labels: np.ndarray) -> np.ndarray:
    """One pixel shows the appearance, the other the motion: uint8 (N, 4, 1, 2, 1)."""
    frames = np.zeros((len(labels), STEPS, 1, 2, 1), np.uint8)
    frames[:, :, 0, 0, 0] = 40 * labels[:, :1] + 15 * labels[:, 1:2]
    frames[:, :, 0, 1, 0] = 70 * labels[:, 2:3] + 30 * labels[:, 3:] + np.arange(STEPS)
    return frames


def part(lengths: np.ndarray | None = None) -> tuple[Sequences, np.ndarray, np.ndarray]:
    """Every combination of 3 x 2 appearances and 3 x 2 motions, shuffled."""
    labels = np.indices((3, 2, *FACTORS.values())).reshape(4, -1).T
    labels = np.random.default_rng(5).permutation(labels)
    lengths = np.full(len(labels), STEPS) if lengths is None else lengths
    frames = render(labels)
    for row, length in zip(frames, lengths, strict=True):
        row[length:] = 0
    return Sequences(frames, lengths, np.arange(len(labels))), labels[:, :2], labels[:, 2:]


class Fake(nn.Module):
    """Codes that are the two pixels; ``show`` draws them."""

    def __init__(self, show) -> None:
        super().__init__()
        self.here = nn.Parameter(torch.zeros(()))
        self.show = show

    def encode(self, x, mask=None, sample=False):
        return x[:, :, 0, 0].amax(dim=1), x[:, :, 0, 0]  # (B, 2), (B, T, 2)

    def decode(self, f, z):
        f = f.unsqueeze(1).expand_as(z)
        return self.show(f, z)[:, :, None, None, :]


def truth(f, z):
    return torch.stack([f[..., 0], z[..., 1]], dim=-1)


@pytest.mark.parametrize("lengths", [None, np.arange(36) % 4 + 1], ids=["whole", "ragged"])
def test_a_model_that_draws_the_truth_has_ratio_1_and_shows_bs_motion(lengths):
    sequences, static, dynamic = part(lengths)
    blurred = Fake(lambda f, z: truth(f, z) + 0.01)
    scores = scores_of(blurred, sequences, static, dynamic, FACTORS, render)
    assert scores.swap_ratio == pytest.approx(1, abs=1e-4)
    assert scores.swap_mse == pytest.approx(1e-4, rel=1e-4)
    assert scores.swap_psnr == pytest.approx(40, abs=1e-3)
    assert (scores.near_B, scores.near_A, scores.near_other, scores.pairs) == (1, 0, 0, 36)


def test_without_any_error_the_ratio_is_1():
    scores = scores_of(Fake(truth), *part(), FACTORS, render)
    assert (scores.reconstruction_mse, scores.swap_mse, scores.swap_ratio) == (0, 0, 1)
    assert scores.reconstruction_psnr == math.inf


def test_a_model_that_keeps_the_motion_in_f_shows_as_motion():
    # f holds the motion's brightest step; the motions are far enough apart for that.
    scores = scores_of(Fake(lambda f, z: f), *part(), FACTORS, render)
    assert (scores.near_A, scores.near_B) == (1, 0) and scores.swap_ratio > 100


def test_a_model_that_always_draws_one_motion_shows_neither():
    sequences, static, dynamic = part()
    still = Fake(lambda f, z: torch.stack([f[..., 0], torch.zeros_like(f[..., 0])], dim=-1))
    scores = scores_of(still, sequences, static, dynamic, FACTORS, render)
    # Each of the 6 motions is A's as often as B's.
    assert (scores.near_B, scores.near_A) == pytest.approx((1 / 6, 1 / 6))


def test_a_blend_says_which_factor_is_whose():
    sequences, static, dynamic = part()

    def blend(f, z):  # A's turn in B's speed
        of_f, of_z = ((255 * code[..., 1]).round() for code in (f, z))
        turn, speed = of_f.div(70, rounding_mode="floor"), of_z % 70
        return torch.stack([f[..., 0], (70 * turn + speed) / 255], dim=-1)

    scores = scores_of(Fake(blend), sequences, static, dynamic, FACTORS, render)
    differ = dynamic != dynamic[match_pairs(static, dynamic, 0)]
    assert scores.factors == {
        "turn": Origin(0, 1, differ[:, 0].sum()),
        "speed": Origin(1, 0, differ[:, 1].sum()),
    }
    assert scores.near_A == pytest.approx((~differ[:, 1]).mean())  # the turn was all that differed
    alike = np.hstack([dynamic[:, :1], np.zeros_like(dynamic[:, 1:])])
    scores = scores_of(Fake(blend), sequences, static, alike, FACTORS, render)
    assert scores.factors["speed"] == Origin(None, None, 0)


def test_a_motion_that_looks_like_bs_counts_as_bs():
    """A disc turns left as it turns right."""

    def alike(labels):
        return render(labels * [1, 1, 1, 0])

    sequences, static, dynamic = part()
    frames = alike(np.hstack([static, dynamic]))
    scores = scores_of(
        Fake(truth),
        Sequences(frames, sequences.lengths, sequences.groups),
        static,
        dynamic,
        FACTORS,
        alike,
    )
    assert scores.near_B == 1


def test_a_collapsed_model_has_ratio_1_and_shows_a_motion_as_often_as_it_comes():
    """Each pixel is of the appearance or of the motion, so that pairing leaves the error alone."""
    scores = scores_of(Fake(lambda f, z: 0 * z + 0.3), *part(), FACTORS, render)
    assert scores.swap_ratio == pytest.approx(1) and scores.reconstruction_mse > 0.01
    assert scores.near_B == pytest.approx(1 / 6) and scores.near_A == pytest.approx(1 / 6)


@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
def test_a_real_model_scores_what_a_slow_computation_gives(ragged):
    labels = np.indices((3, 4)).reshape(2, -1).T
    bank = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 16, 32, 2), dtype=np.uint8)
    lengths = np.arange(12) % 5 + 1 if ragged else np.full(12, 5)
    frames = bank[labels[:, 0], labels[:, 1]]
    for row, length in zip(frames, lengths, strict=True):
        row[length:] = 0
    dsae = tiny_model().float().eval()
    sequences = Sequences(frames, lengths, np.arange(12))
    scores = scores_of(
        dsae,
        sequences,
        labels[:, :1],
        labels[:, 1:],
        {"turn": 4},
        lambda rows: bank[tuple(rows.T)],
        3,
    )

    partner, squares, near = match_pairs(labels[:, :1], labels[:, 1:], 3), [[], []], {}
    for a, b in enumerate(partner):
        f, z = (dsae.encode(*sequences.batch(np.array([i]), torch.device("cpu"))) for i in (a, b))
        for where, latents, steps, true in (
            (0, f[1], lengths[a], bank[labels[a, 0], labels[a, 1]]),
            (1, z[1], lengths[b], bank[labels[a, 0], labels[b, 1]]),
        ):
            drawn = dsae.decode(f[0], latents)[0].permute(0, 2, 3, 1).numpy()
            for t in range(steps):
                squares[where] += ((drawn[t] - true[t] / 255) ** 2).ravel().tolist()
        far = [((drawn[:steps] - bank[labels[a, 0], m, :steps] / 255) ** 2).sum() for m in range(4)]
        shown = {labels[b, 1]: "B", labels[a, 1]: "A"}.get(int(np.argmin(far)), "other")
        near[shown] = near.get(shown, 0) + 1 / 12
    assert scores.reconstruction_mse == pytest.approx(np.mean(squares[0]), rel=1e-5)
    assert scores.swap_mse == pytest.approx(np.mean(squares[1]), rel=1e-5)
    assert scores.swap_ratio == pytest.approx(np.mean(squares[1]) / np.mean(squares[0]), rel=1e-5)
    found = (scores.near_A, scores.near_B, scores.near_other)
    assert found == pytest.approx([near.get(key, 0) for key in ("A", "B", "other")])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [(2, 2), (3, 9), (40, 9), (7, 2)], ids=str)
def test_pairs_differ_in_both_and_use_every_sequence_once_as_each(size, seed):
    labels = np.random.default_rng(seed).permutation(np.indices(size).reshape(2, -1).T)
    partner = match_pairs(labels[:, :1], labels[:, 1:], seed)
    assert sorted(partner) == list(range(len(labels)))
    assert (labels != labels[partner]).all()
    assert (partner == match_pairs(labels[:, :1], labels[:, 1:], seed)).all()


def test_pairs_depend_on_the_seed():
    labels = np.indices((5, 5)).reshape(2, -1).T
    one, other = (match_pairs(labels[:, :1], labels[:, 1:], seed) for seed in (0, 1))
    assert (one != other).any()


def test_pairs_are_found_where_only_few_fit():
    """Partners have to be passed on, for random ones rarely fit."""
    who = np.array([0, 1, 2, 3])[:, None]
    what = np.array([0, 0, 1, 1])[:, None]
    for seed in range(20):
        partner = match_pairs(who, what, seed)
        assert (what != what[partner]).all() and sorted(partner) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("who", "what"), [([0, 0], [0, 1]), ([0, 1], [0, 0]), ([0, 1, 2], [0, 0, 1])]
)
def test_pairs_that_cannot_be_are_refused(who, what):
    with pytest.raises(PairingError, match="cannot be paired"):
        match_pairs(np.array(who)[:, None], np.array(what)[:, None], 0)


def test_unlike_finds_partners_where_not_all_can_be_paired():
    who, what = np.array([0, 0, 0, 0, 1]), np.array([0, 1, 2, 3, 3])
    with pytest.raises(PairingError):
        match_pairs(who[:, None], what[:, None], 0)
    a = np.array([0, 4, 3])
    partner = unlike(who[:, None], what[:, None], a, 0)
    assert partner[0] == 4 and who[partner[1]] == 0 and what[partner[1]] != 3
    assert partner[2] != 3  # nothing differs from it in both
