import csv
import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import tiny_model
from pyro_dsae import ConfigError, Sequences
from pyro_dsae.analyses.codes import BATCH, Codes, at_most, encode
from pyro_dsae.analyses.embed import to_csv, to_npz
from pyro_dsae.analyses.reconstruct import psnr, reconstruction_mse
from pyro_dsae.analyses.similarity import similarity
from pyro_dsae.analyses.swap import swap
from pyro_dsae.evaluation.verification import verification
from pyro_dsae.sequences import to_float, to_uint8

CPU = torch.device("cpu")


def part(count: int = BATCH + 3) -> Sequences:
    """Ragged sequences of random frames, more than one batch."""
    x = np.random.default_rng(0).integers(0, 256, (count, 4, 16, 32, 2), dtype=np.uint8)
    lengths = np.arange(count) % 4 + 1
    x[np.arange(4) >= lengths[:, None]] = 0
    return Sequences(x, lengths, np.arange(count))


def test_frames_come_back_from_floats_exactly():
    x = part().x
    assert (to_uint8(to_float(x, CPU)) == x).all()


def test_codes_of_batches_are_the_codes_of_each_sequence_alone():
    dsae, sequences = tiny_model().float().eval(), part()
    codes = encode(dsae, sequences)
    for row in (0, BATCH - 1, BATCH, BATCH + 2):
        f, z = dsae.encode(*sequences.batch(np.array([row]), CPU))
        steps = sequences.lengths[row]
        torch.testing.assert_close(codes.f[row], f[0])
        torch.testing.assert_close(codes.z[row, :steps], z[0, :steps])


def test_with_a_seed_codes_are_one_draw_from_q_and_the_callers_random_numbers_are_left_alone():
    dsae, sequences = tiny_model(guide="factorized").float().eval(), part()
    means, drawn = encode(dsae, sequences), encode(dsae, sequences, seed=1)
    torch.manual_seed(5)
    again = encode(dsae, sequences, seed=1)
    after = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(3))
    assert torch.equal(drawn.f, again.f) and torch.equal(drawn.z, again.z)
    assert not torch.equal(drawn.f, encode(dsae, sequences, seed=2).f)
    # An untrained posterior has a scale of about 0.1.
    assert 0.05 < (drawn.f - means.f).std() < 0.2
    assert 0.05 < (drawn.z - means.z)[sequences.lengths == 4].std() < 0.2


def test_the_mean_and_the_spread_of_z_are_over_the_real_steps():
    z = torch.tensor([[1.0, 3.0, 8.0], [5.0, 9.0, 9.0]]).unsqueeze(-1)
    codes = Codes(torch.zeros(2, 1), z, np.array([3, 1]))
    assert codes.mean_z.flatten().tolist() == [4, 5]
    assert codes.spread_z.tolist() == [[4, pytest.approx(np.std([1, 3, 8]))], [5, 0]]


def test_reconstruction_mse_counts_every_real_pixel_once():
    dsae, sequences = tiny_model().float().eval(), part()
    squares = []
    for row, steps in enumerate(sequences.lengths):
        x, mask = sequences.batch(np.array([row]), CPU)
        squares += (dsae.reconstruct(x, mask) - x)[0, :steps].square().flatten().tolist()
    found = reconstruction_mse(dsae, sequences, encode(dsae, sequences))
    assert found == pytest.approx(np.mean(squares), rel=1e-5)
    assert psnr(0.01) == pytest.approx(20) and psnr(0) == np.inf


def test_a_swap_has_f_of_a_and_z_of_b_and_with_itself_reconstructs():
    dsae, sequences = tiny_model().float().eval(), part()
    a, b = np.array([0, 3]), np.array([7, 11])
    codes = encode(dsae, sequences)
    expected = to_uint8(dsae.decode(codes.f[a], codes.z[b]))
    assert np.abs(swap(dsae, sequences, a, b).astype(int) - expected).max() <= 1
    whole = np.array([3, 7])  # without padding
    again = to_uint8(dsae.reconstruct(to_float(sequences.x[whole], CPU)))
    assert np.abs(swap(dsae, sequences, whole, whole).astype(int) - again).max() <= 1


@pytest.fixture
def labelled() -> tuple[Codes, np.ndarray, np.ndarray]:
    """Five appearances in each of three motions, and each of these twice but for one."""
    labels = np.tile(np.indices((5, 3)).reshape(2, -1).T, (2, 1))[:-1]
    generator = torch.Generator().manual_seed(0)
    f = torch.randn(5, 6, generator=generator)[labels[:, 0]]
    z = torch.randn(3, 4, 2, generator=generator)[labels[:, 1]]
    codes = Codes(
        f + 0.5 * torch.randn(f.shape, generator=generator),
        z + 0.5 * torch.randn(z.shape, generator=generator),
        np.arange(len(labels)) % 3 + 2,
    )
    return codes, labels[:, :1], labels[:, 1:]


def test_similarity_is_what_a_loop_over_all_pairs_gives(labelled):
    codes, who, what = labelled
    found = similarity(codes, who, what)
    strata: dict = {}
    for i in range(len(who)):
        for j in range(i + 1, len(who)):
            steps = min(codes.lengths[i], codes.lengths[j])
            u, v = codes.z[i, :steps].flatten(), codes.z[j, :steps].flatten()
            cosines = [torch.cosine_similarity(*pair, dim=0) for pair in (codes.f[[i, j]], (u, v))]
            key = (bool(who[i] == who[j]), bool(what[i] == what[j]))
            strata.setdefault(key, []).append([cosine.item() for cosine in cosines])
    assert len(found.strata) == 4
    for stratum in found.strata:
        expected = np.array(strata[stratum.same_appearance, stratum.same_motion])
        assert stratum.pairs == len(expected)
        for column, spread in enumerate((stratum.cos_f, stratum.cos_z)):
            values = (spread.mean, spread.percentile_5, spread.percentile_95)
            low, high = np.percentile(expected[:, column], (5, 95))
            assert values == pytest.approx((expected[:, column].mean(), low, high), abs=1e-6)
    for column, area in enumerate((found.auroc_appearance, found.auroc_motion)):
        alike = [row[column] for key, rows in strata.items() if key[column] for row in rows]
        unlike = [row[column] for key, rows in strata.items() if not key[column] for row in rows]
        assert area == pytest.approx(np.mean([x > y for x in alike for y in unlike]))


def test_the_table_has_twelve_pairs_as_many_of_each_stratum(labelled):
    codes, who, what = labelled
    table = similarity(codes, who, what, seed=1).table
    kinds = [(pair.same_appearance, pair.same_motion) for pair in table]
    assert [kinds.count(kind) for kind in dict.fromkeys(kinds)] == [3, 3, 3, 3]
    for pair in table:
        assert (who[pair.a] == who[pair.b]) == pair.same_appearance and pair.a < pair.b
    assert table == similarity(codes, who, what, seed=1).table
    assert table != similarity(codes, who, what, seed=2).table


def test_of_too_many_sequences_some_are_compared(labelled, monkeypatch):
    codes, who, what = labelled
    monkeypatch.setattr("pyro_dsae.analyses.codes.AT_MOST", 12)
    found = similarity(codes, who, what)
    taken = at_most(np.arange(len(who)), 0)
    assert found.sequences == len(taken) == 12 and (np.diff(taken) > 0).all()
    few = similarity(codes.take(taken), who[taken], what[taken])
    table = [replace(pair, a=taken[pair.a], b=taken[pair.b]) for pair in few.table]
    assert found == replace(few, table=table)
    assert verification(codes, who) == verification(codes.take(taken), who[taken])


def test_similarity_of_one_sequence_is_refused(labelled):
    codes, who, what = labelled
    one = Codes(codes.f[:1], codes.z[:1], codes.lengths[:1])
    with pytest.raises(ConfigError, match="the part has 1 sequence, but a pair needs two"):
        similarity(one, who[:1], what[:1])


def test_similarity_without_a_pair_of_the_same_appearance_has_no_auroc_of_it(labelled):
    codes, who, what = labelled
    found = similarity(codes, np.arange(len(who))[:, None], what)
    assert found.auroc_appearance is None and 0 <= found.auroc_motion <= 1
    assert len(found.table) == 12 and len(found.strata) == 2


def test_sequences_of_unknown_labels_are_no_pair(labelled):
    codes, who, what = labelled
    unknown = np.arange(len(who)) % 4 == 1
    kept = Codes(codes.f[~unknown], codes.z[~unknown], codes.lengths[~unknown])
    expected = similarity(kept, who[~unknown], what[~unknown])
    hidden = np.where(unknown[:, None], -1, what)
    found = similarity(codes, who, hidden)
    assert (found.strata, found.auroc_motion) == (expected.strata, expected.auroc_motion)
    assert found.auroc_appearance == similarity(codes, who, what).auroc_appearance
    found = similarity(codes, who, np.full_like(what, -1))
    assert found.table == found.strata == [] and found.auroc_motion is None


def test_codes_near_nothing_have_cosines_still(labelled):
    codes, who, what = labelled
    tiny = Codes(1e-20 * codes.f, 1e-20 * codes.z, codes.lengths)
    found, expected = (similarity(each, who, what) for each in (tiny, codes))
    assert [pair.cos_z for pair in found.table] == pytest.approx(
        [pair.cos_z for pair in expected.table], abs=1e-5
    )


def test_collapsed_codes_are_alike_neither_way(labelled):
    codes, who, what = labelled
    found = similarity(Codes(codes.f * 0, codes.z, codes.lengths), who, what)
    assert found.auroc_appearance == 0.5


@pytest.mark.parametrize("write", [to_npz, to_csv])
def test_a_table_of_codes_reads_back(write, labelled):
    codes, who, _ = labelled
    ids = [f"s{i}" for i in range(len(who))]
    factors = {"body": np.array(list("abcde"))[who[:, 0]], "speed": who[:, 0] / 2}
    content = write(codes, ids, factors)
    if write is to_npz:
        table = np.load(io.BytesIO(content), allow_pickle=False)
        assert table["id"].tolist() == ids and (table["length"] == codes.lengths).all()
        assert (table["f"] == codes.f.numpy()).all() and (table["z"] == codes.z.numpy()).all()
        assert (table["factor_body"] == factors["body"]).all()
        assert (table["factor_speed"] == factors["speed"]).all()
        return
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert [row["id"] for row in rows] == ids
    assert [row["body"] for row in rows] == factors["body"].tolist()
    assert [float(row["speed"]) for row in rows] == factors["speed"].tolist()
    for n, row in enumerate(rows):
        assert float(row["f_5"]) == codes.f[n, 5].item()
        for t in range(4):
            expected = str(codes.z[n, t, 1].item()) if t < codes.lengths[n] else ""
            assert row[f"z_{t}_1"] == expected
