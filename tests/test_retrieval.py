"""The nearest true sequences of swaps, against brute force in whole numbers."""

import numpy as np
import pytest
import torch
from torch import nn

from conftest import tiny_model
from pyro_dsae import Sequences
from pyro_dsae.analyses.codes import encode
from pyro_dsae.evaluation.exact import match_pairs
from pyro_dsae.evaluation.retrieval import nearest_of, retrieval
from pyro_dsae.sequences import to_uint8

SIZES = (3, 4, 2)  # classes of a static and two dynamic factors
CANDIDATES = np.indices(SIZES).reshape(3, -1).T
STEPS = 3


def bank(kind: str) -> np.ndarray:
    """A true sequence for each combination, uint8 (3, 4, 2, 3, 8, 12, 2)."""
    random, shape = np.random.default_rng(0), (*SIZES, STEPS, 8, 12, 2)
    if kind == "noise":
        return random.integers(0, 256, shape, dtype=np.uint8)
    coarse = random.integers(0, 256, (*SIZES, STEPS, 2, 3, 2))
    smooth = coarse.repeat(4, axis=-3).repeat(4, axis=-2)
    return np.clip(smooth + random.integers(-20, 21, shape), 0, 255).astype(np.uint8)


def slow(swap: np.ndarray, length: int, truth: np.ndarray) -> set[int]:
    """The nearest by the definition, one candidate after the other."""
    errors = []
    for row in CANDIDATES:
        difference = swap[:length].astype(int) - truth[tuple(row)][:length].astype(int)
        errors.append(int((difference**2).sum()))
    return {n for n, error in enumerate(errors) if error == min(errors)}


@pytest.mark.parametrize("kind", ["noise", "smooth"])
@pytest.mark.parametrize("swaps", ["noise", "black", "near", "blend"])
def test_the_nearest_are_those_of_brute_force(kind, swaps, monkeypatch):
    truth = bank(kind)
    monkeypatch.setattr("pyro_dsae.evaluation.retrieval.BLOCK_BYTES", 5 * truth[0, 0, 0].nbytes)
    monkeypatch.setattr("pyro_dsae.evaluation.retrieval.DIMENSIONS", 18)
    truth[2, 3, 1] = truth[0, 1, 0]  # look the same, with others in between
    truth[1, 3, 1, :2] = truth[1, 1, 1, :2]  # the same at first
    random = np.random.default_rng(1)
    chosen, others = random.permutation(CANDIDATES), random.permutation(CANDIDATES)
    a, b = truth[tuple(chosen.T)].astype(float), truth[tuple(others.T)].astype(float)
    made = {
        "noise": random.integers(0, 256, a.shape),
        "black": np.zeros(a.shape),
        "near": a + random.normal(0, 40, a.shape),
        "blend": (a + b) / 2,
    }[swaps]
    made = np.clip(made.round(), 0, 255).astype(np.uint8)
    made[0], made[1] = truth[0, 1, 0], truth[1, 1, 1]
    lengths = np.arange(len(made)) % STEPS + 1
    found = nearest_of(made, lengths, CANDIDATES, lambda rows: truth[tuple(rows.T)])
    expected = [slow(*pair, truth) for pair in zip(made, lengths, strict=True)]
    assert [set(rows.tolist()) for rows in found] == expected
    assert len(found[0]) == len(found[1]) == 2


class Fake(nn.Module):
    """Codes that are the labels, which the first frame shows; ``change`` is made to a swap's."""

    def __init__(self, truth: np.ndarray, change=lambda labels: labels) -> None:
        super().__init__()
        self.here = nn.Parameter(torch.zeros(()))
        self.truth = torch.from_numpy(truth).float() / 255
        self.change = change

    def encode(self, x, mask=None, sample=False):
        frames = self.truth[..., 0, :, :, :].permute(0, 1, 2, 5, 3, 4).flatten(0, 2)  # (24, ...)
        shown = (x[:, None, 0] - frames).abs().flatten(2).sum(dim=-1).argmin(dim=1)
        labels = torch.from_numpy(CANDIDATES)[shown]
        return labels[:, :1], labels[:, None, 1:].expand(-1, STEPS, -1)

    def decode(self, f, z):
        labels = self.change(torch.cat([f, z[:, 0]], dim=-1))
        return self.truth[tuple(labels.T)].permute(0, 1, 4, 2, 3)


def retrieve(change, lengths=None, truth=None):
    truth = bank("smooth") if truth is None else truth
    labels = np.random.default_rng(3).permutation(CANDIDATES)
    lengths = np.full(len(labels), STEPS) if lengths is None else lengths
    frames = truth[tuple(labels.T)]
    frames[np.arange(STEPS) >= lengths[:, None]] = 0
    dsae = Fake(truth, change)
    sequences = Sequences(frames, lengths, np.arange(len(labels)))
    return retrieval(
        dsae,
        sequences,
        encode(dsae, sequences),
        labels[:, :1],
        labels[:, 1:],
        ("who", "action", "direction"),
        CANDIDATES,
        lambda rows: truth[tuple(rows.T)],
        seed=4,
    )


@pytest.mark.parametrize("lengths", [None, np.arange(24) % STEPS + 1], ids=["whole", "ragged"])
def test_a_model_that_draws_the_truth_finds_it(lengths):
    found = retrieve(lambda labels: labels, lengths)
    assert found.top_1 == 1 and set(found.factors.values()) == {1}
    assert (found.candidates, found.swaps) == (24, 24)


def test_a_model_that_gets_one_factor_wrong_has_the_others_right():
    turned = retrieve(lambda labels: labels * torch.tensor([1, 1, 0]))
    assert turned.factors == {"who": 1, "action": 1, "direction": pytest.approx(0.5)}
    assert turned.top_1 == pytest.approx(0.5)
    other = retrieve(lambda labels: torch.stack([(labels[:, 0] + 1) % 3, *labels.T[1:]], dim=1))
    assert other.factors == {"who": 0, "action": 1, "direction": 1} and other.top_1 == 0


def test_a_collapsed_model_finds_a_class_as_often_as_it_comes():
    collapsed = retrieve(lambda labels: 0 * labels)
    assert collapsed.factors == {
        "who": pytest.approx(1 / 3),
        "action": pytest.approx(1 / 4),
        "direction": pytest.approx(1 / 2),
    }
    assert collapsed.top_1 <= 2 / 24


@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
def test_a_real_model_retrieves_what_a_slow_computation_finds(ragged):
    labels = np.indices((3, 4)).reshape(2, -1).T
    dsae = tiny_model().float().eval()
    with torch.no_grad():  # the truth is what it draws, with weights that make pictures differ
        for weights in dsae.parameters():
            weights *= 3
        z = torch.randn(4, 5, dsae.config.dynamic_dim)
        looks = torch.randn(3, 1, dsae.config.static_dim).expand(-1, 4, -1)
        bank = np.stack([to_uint8(dsae.decode(f, z)) for f in looks])
    lengths = np.arange(12) % 5 + 1 if ragged else np.full(12, 5)
    frames = bank[tuple(labels.T)]
    frames[np.arange(5) >= lengths[:, None]] = 0
    sequences = Sequences(frames, lengths, np.arange(12))
    who, turn = labels[:, :1], labels[:, 1:]
    render = lambda rows: bank[tuple(rows.T)]  # noqa: E731
    codes = encode(dsae, sequences)
    found = retrieval(dsae, sequences, codes, who, turn, ("who", "turn"), labels, render, seed=3)

    nearest, right = [], []
    for a, b in enumerate(match_pairs(who, turn, 3)):
        f, z = (dsae.encode(*sequences.batch(np.array([i]), torch.device("cpu"))) for i in (a, b))
        drawn = dsae.decode(f[0], z[1])[0].permute(0, 2, 3, 1).detach().numpy()[: lengths[b]]
        drawn = (255 * drawn).round().astype(int)
        errors = ((drawn - bank[:, :, : lengths[b]].astype(int)) ** 2).sum(axis=(2, 3, 4, 5))
        nearest.append(np.unravel_index(errors.argmin(), errors.shape))
        right.append(np.array(nearest[-1]) == [who[a, 0], turn[b, 0]])
    assert len(set(nearest)) > 2
    assert found.top_1 == pytest.approx(np.mean([each.all() for each in right]))
    assert list(found.factors.values()) == pytest.approx(np.mean(right, axis=0).tolist())


def test_a_sequence_that_looks_like_the_right_one_is_right():
    truth = bank("smooth")
    truth[..., 1, :, :, :, :] = truth[..., 0, :, :, :, :]  # both directions look the same
    found = retrieve(lambda labels: labels * torch.tensor([1, 1, 0]), truth=truth)
    assert found.top_1 == 1 and found.factors["direction"] == 1


def test_the_pairs_are_those_of_the_exact_scores():
    labels = np.random.default_rng(3).permutation(CANDIDATES)
    partner = match_pairs(labels[:, :1], labels[:, 1:], 4)
    drawn = []
    retrieve(lambda swapped: drawn.append(swapped.numpy()) or swapped)
    assert (np.concatenate(drawn) == np.hstack([labels[:, :1], labels[partner, 1:]])).all()
