import math
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch

from conftest import tiny_model
from pyro_dsae import Sequences
from pyro_dsae.analyses.codes import encode, seeded
from pyro_dsae.evaluation.judge import Judge, JudgeConfig, JudgeError
from pyro_dsae.evaluation.sample_quality import (
    frechet_distance,
    precision_recall,
    sample_quality,
    sharpness,
)


def quality_of(dsae, judge, sequences, static, dynamic, *more, **options):
    """Of the posterior means."""
    codes = encode(dsae, sequences)
    return sample_quality(dsae, judge, sequences, codes, static, dynamic, *more, **options)


def test_the_distance_of_a_set_to_itself_is_nothing():
    features = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(features, features) < 1e-10
    assert precision_recall(features, features) == (1, 1)


def whitened(count, size, seed):
    """Points whose sample mean is 0 and whose sample covariance is I, exactly."""
    points = torch.randn(count, size, generator=torch.Generator().manual_seed(seed)).double()
    points = points - points.mean(dim=0)
    return points @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(points.T))).T


def test_gaussians_have_their_known_frechet_distance():
    """|m - m'|^2 + sum (s - s')^2 with one basis; of two the square root of a product, by hand."""
    first, second = whitened(200, 3, 0), whitened(300, 3, 1)
    scales, others = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([2.0, 1.0, 0.0]).double()
    shift = torch.tensor([1.0, 0.0, -2.0]).double()
    rotation = torch.linalg.qr(torch.randn(3, 3).double()).Q
    pair = (first * scales) @ rotation, (second * others + shift) @ rotation
    assert frechet_distance(*pair) == pytest.approx(5 + 1 + 1 + 0.25)
    mixed = torch.tensor([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 1.0]]).double()
    # C = I and C' = M M^T, so (C C')^(1/2) = M for the symmetric M.
    expected = (torch.eye(3) + mixed @ mixed - 2 * mixed).trace().item()
    assert frechet_distance(first, second @ mixed) == pytest.approx(expected)


def test_precision_and_recall_of_sets_with_known_overlap():
    """On a line with gaps: two thirds of the samples lie far off, half of the real uncovered."""
    near, far, other = (torch.arange(20.0).unsqueeze(1) + at for at in (0, 1000, 5000))
    real, generated = torch.cat([near, far]), torch.cat([near + 0.5, other, other + 100])
    precision, recall = precision_recall(real, generated)
    assert precision == pytest.approx(1 / 3) and recall == pytest.approx(1 / 2)
    with pytest.raises(ValueError, match="there are 3 sequences, but 3 neighbours"):
        precision_recall(real[:3], generated)


def test_sharpness_of_known_pictures():
    """A checkerboard has a Laplacian of +-4, a plane none; half the contrast is a quarter."""
    rows = torch.arange(16)
    board = ((rows.unsqueeze(1) + rows) % 2).float().expand(1, 3, 16, 16)
    found = sharpness(torch.cat([board, board / 2, board * 0 + 0.3, (rows / 15.0) + 0 * board]))
    expected = 14 * 14 / (14 * 14 - 1) * 16
    assert found.tolist() == pytest.approx([expected, expected / 4, 0, 0], abs=1e-6)


NAMES = np.zeros((12, 1), int), np.zeros((12, 1), int)


def part():
    x = np.random.default_rng(0).integers(0, 256, (12, 4, 16, 16, 1), np.uint8)
    return Sequences(x, np.arange(12) % 3 + 2, np.arange(12))


@pytest.fixture
def judge(monkeypatch):
    """Untrained, and believed on the sequences for all that."""
    monkeypatch.setattr("pyro_dsae.evaluation.judge.REQUIRED", 0.0)
    torch.manual_seed(0)
    config = JudgeConfig((1, 16, 16), {"who": 2}, {"what": 2}, (4, 4, 4, 4), 6, 5)
    judge = Judge(config).eval()
    judge.accuracy = dict.fromkeys(config.heads, 1.0)
    return judge


def test_a_model_that_copies_is_as_good_as_real_whatever_lies_in_the_padding(judge, monkeypatch):
    dsae = tiny_model(frame_shape=(1, 16, 16)).float().eval()
    sequences = part()
    x, _ = sequences.batch(np.arange(12), torch.device("cpu"))
    x[:, 3][sequences.lengths < 4] = 0.7
    kept = iter([*[torch.rand_like(x)] * 2, x])  # samples, fixed motion, reconstructions
    monkeypatch.setattr(dsae, "decode", lambda f, z: next(kept))
    state = torch.get_rng_state()
    found = quality_of(dsae, judge, sequences, *NAMES, neighbours=2)
    assert torch.equal(state, torch.get_rng_state())
    good = found.reconstructions
    assert good.frechet_distance < 1e-6 and (good.precision, good.recall) == (1, 1)
    assert good.sharpness == pytest.approx(1)
    assert found.samples.frechet_distance > 10 * good.frechet_distance
    assert (found.sequences, found.neighbours) == (12, 2)


def test_samples_have_f_and_z_of_the_prior_and_fixed_motions_f_alone(judge, monkeypatch):
    dsae, sequences = tiny_model(frame_shape=(1, 16, 16)).float().eval(), part()
    codes, seen, decode = encode(dsae, sequences), [], dsae.decode
    monkeypatch.setattr(dsae, "decode", lambda f, z: seen.append((f, z)) or decode(f, z))
    quality_of(dsae, judge, sequences, *NAMES, seed=3, neighbours=2)
    with seeded(3, torch.device("cpu")):
        f, z = dsae.model.draw(12, 4)
    expected = ((f, z), (f, codes.z), (codes.f, codes.z))
    assert len(seen) == len(expected)
    assert all(map(torch.equal, sum(seen, ()), sum(expected, ())))


def test_copies_of_one_sequence_are_precise_and_recall_one(judge, monkeypatch):
    dsae, sequences = tiny_model(frame_shape=(1, 16, 16)).float().eval(), part()
    sequences = replace(sequences, lengths=np.full(12, 4))
    x, _ = sequences.batch(np.arange(12), torch.device("cpu"))
    monkeypatch.setattr(dsae, "decode", lambda f, z: x[:1].expand(12, -1, -1, -1, -1) / 2)
    blurred = quality_of(dsae, judge, sequences, *NAMES).samples
    assert blurred.sharpness == pytest.approx(0.25, rel=0.1)
    monkeypatch.setattr(dsae, "decode", lambda f, z: x[:1].expand(12, -1, -1, -1, -1))
    copied = quality_of(dsae, judge, sequences, *NAMES).samples
    assert (copied.precision, copied.recall) == (1, pytest.approx(1 / 12))


def test_the_seed_decides_what_is_drawn(judge):
    dsae = tiny_model(frame_shape=(1, 16, 16)).float().eval()
    one, same, other = (quality_of(dsae, judge, part(), *NAMES, seed) for seed in (0, 0, 1))
    assert one == same
    assert one.samples != other.samples and one.reconstructions == other.reconstructions
    assert all(math.isfinite(value) for value in asdict(one)["samples"].values())
    assert [field.name for field in fields(one.samples)][0] == "frechet_distance"


def test_a_judge_that_is_not_believed_measures_nothing(judge, monkeypatch):
    monkeypatch.setattr("pyro_dsae.evaluation.judge.REQUIRED", 0.999)
    dsae = tiny_model(frame_shape=(1, 16, 16)).float().eval()
    either = np.arange(12)[:, None] % 2  # which it cannot know
    with pytest.raises(JudgeError, match="names .* of the sequences to evaluate"):
        quality_of(dsae, judge, part(), either, NAMES[1])
    judge.accuracy = {"motion": 0.9, "who": 1.0}
    with pytest.raises(JudgeError, match="names motion right in only 90"):
        quality_of(dsae, judge, part(), *NAMES)
