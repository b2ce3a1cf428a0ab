from dataclasses import replace

import numpy as np
import pytest
import torch

from pyro_dsae.sequences import Sequences


@pytest.fixture
def sequences() -> Sequences:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (20, 4, 16, 16, 3), dtype=np.uint8)
    return Sequences(x, np.array([4] * 10 + [2] * 10), np.repeat(np.arange(10), 2))


def test_a_batch_is_the_stored_frames_in_unit_range(sequences):
    x, mask = sequences.batch(np.array([3, 1]), torch.device("cpu"))
    assert x.shape == (2, 4, 3, 16, 16) and mask is None
    assert torch.equal(
        (x[0, 2, 1] * 255).round().byte(), torch.from_numpy(sequences.x[3, 2, ..., 1])
    )


def test_frames_that_lie_on_a_device_are_taken_like_others(sequences):
    rows = np.array([15, 3])
    lying = replace(sequences, x=torch.from_numpy(sequences.x)).take(rows)
    assert torch.equal(lying.x, torch.from_numpy(sequences.x[rows]))


def test_padding_is_masked(sequences):
    _, mask = sequences.batch(np.array([0, 15]), torch.device("cpu"))
    assert mask.tolist() == [[True] * 4, [True, True, False, False]]


def test_no_group_is_in_both_parts(sequences):
    train, validation = sequences.hold_out(0.2, seed=0)
    assert len(train) == 16 and len(validation) == 4
    assert not set(train.groups) & set(validation.groups)
    again = sequences.hold_out(0.2, seed=0)[1]
    assert np.array_equal(again.groups, validation.groups)


def test_each_two_look_alike_and_all_come_up(sequences):
    alike = np.array([0] * 7 + [1] * 4 + [2] + [-1] * 8)
    some = replace(sequences, alike=alike).take(np.arange(19))
    seen = []
    for seed in range(20):
        order = some.paired(seed)
        assert len(order) == len(set(order)) == 6 + 4  # of 7, 4 and 1
        pairs = some.alike[order].reshape(-1, 2)
        assert (pairs[:, 0] == pairs[:, 1]).all() and (pairs >= 0).all()
        seen.append(tuple(order))
    assert len(set(seen)) == 20 and set(np.concatenate(seen)) == set(range(11))
    assert (some.paired(3) == some.paired(3)).all()
    assert len(sequences.paired(0)) == 0  # nothing says who is who


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_an_empty_part_is_refused(sequences, fraction):
    with pytest.raises(ValueError, match=f"cannot hold out {fraction} of 10 groups"):
        sequences.hold_out(fraction, seed=0)
