from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve

from pyro_dsae.analyses.codes import Codes
from pyro_dsae.evaluation.verification import verification

WHO = np.repeat(np.arange(6), 10)[:, None]


def codes(noise: float = 0.1) -> Codes:
    """f is of the speaker, with noise; z is noise, in sequences of 1 to 4 steps."""
    generator = torch.Generator().manual_seed(0)
    f = torch.randn(6, 8, generator=generator)[WHO[:, 0]]
    f = f + noise * torch.randn(f.shape, generator=generator)
    return Codes(f, torch.randn(60, 4, 5, generator=generator), np.arange(60) % 4 + 1)


def test_f_knows_the_speaker_and_z_does_not():
    found = verification(codes(), WHO)
    assert (found.sequences, found.pairs, found.same_pairs) == (60, 1770, 270)
    assert found.eer_f < 0.02 and abs(found.eer_z - 0.5) < 0.05


def test_the_codes_the_other_way_round_are_found_out():
    one = codes()
    swapped = Codes(one.mean_z, one.f[:, None].repeat(1, 4, 1), one.lengths)
    found, expected = verification(swapped, WHO), verification(one, WHO)
    assert found.eer_f == pytest.approx(expected.eer_z)
    assert found.eer_z == pytest.approx(expected.eer_f)


def test_the_rates_are_what_a_loop_over_all_pairs_and_scikit_learn_give():
    noisy = codes(noise=1.5)
    found = verification(noisy, WHO)
    means = torch.stack(
        [steps[:length].mean(0) for steps, length in zip(noisy.z, noisy.lengths, strict=True)]
    )
    for vectors, rate in ((noisy.f, found.eer_f), (means, found.eer_z)):
        pairs = [(i, j) for i in range(60) for j in range(i)]
        scores = [torch.cosine_similarity(vectors[i], vectors[j], dim=0).item() for i, j in pairs]
        false, true, _ = roc_curve([WHO[i, 0] == WHO[j, 0] for i, j in pairs], scores)
        nearest = np.argmin(np.abs(false - (1 - true)))
        assert rate == pytest.approx((false + 1 - true)[nearest] / 2, abs=0.01)


def test_a_collapsed_code_is_a_coin():
    constant = Codes(torch.ones(60, 8), torch.ones(60, 4, 5), np.full(60, 4))
    found = verification(constant, WHO)
    assert (found.eer_f, found.eer_z) == pytest.approx((0.5, 0.5), abs=0.05)


def test_who_is_all_labels_together_and_each_by_itself():
    labels = np.stack([WHO[:, 0] // 2, WHO[:, 0] % 2], axis=-1)
    found = verification(codes(), labels, ["who", "side"])
    assert replace(found, factors={}) == verification(codes(), WHO)
    for n, name in enumerate(found.factors):
        alone = verification(codes(), labels[:, n : n + 1])
        assert asdict(alone) == {**asdict(found.factors[name]), "factors": {}}
    assert found.factors["who"].same_pairs == 3 * 190 > found.same_pairs


def test_who_is_unknown_is_no_pair():
    unknown = np.arange(60) % 7 == 0
    one = codes(noise=1.5)
    kept = Codes(one.f[~unknown], one.z[~unknown], one.lengths[~unknown])
    hidden = np.where(unknown[:, None], -1, WHO)
    assert verification(one, hidden) == verification(kept, WHO[~unknown])


def test_without_two_of_a_kind_there_is_no_rate():
    found = verification(codes(), np.arange(60)[:, None])
    assert found.eer_f is None and found.eer_z is None and found.same_pairs == 0
