"""Sequences that stay in their file, windows of long ones: the same numbers in bounded memory."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from conftest import TINY, write_drawings
from pyro_dsae import (
    DSAE,
    ConfigError,
    ModelConfig,
    Sequences,
    TrainingConfig,
    TrainingError,
    fit,
    training,
)
from pyro_dsae.datasets import Factor, SequenceFile, hdf5, series

STEPS = 70  # above 64 a file has several chunks a sequence
CONFIG = TrainingConfig(epochs=2, batch_size=4, validation_fraction=0.2)
CPU = torch.device("cpu")


@pytest.fixture
def file(tmp_path):
    """Sequences of 1 to 70 steps; each frame has its number as its value."""
    lengths = np.random.default_rng(0).integers(1, STEPS + 1, 24)
    lengths[:2] = STEPS, 3
    x = np.zeros((24, STEPS, 16, 32, 2), np.uint8)
    x[:] = np.arange(1, STEPS + 1)[:, None, None, None]
    x[np.arange(STEPS) >= lengths[:, None]] = 0
    labels, factors = np.zeros((24, 1), int), [Factor("kind", "static", ("any",))]
    # A part that is not the whole file, nor its beginning.
    write_drawings(tmp_path / "x.h5", x, labels, factors, {"train": np.arange(2, 24)}, lengths)
    with SequenceFile.open(tmp_path / "x.h5") as file:
        yield file


def model() -> DSAE:
    torch.manual_seed(0)
    return DSAE(ModelConfig(**TINY))


def test_frames_in_the_file_are_those_in_memory(file):
    whole, stored = file.sequences("train"), file.sequences("train", in_memory=False)
    held_out = whole.held_out(0.2, seed=1)
    for in_memory, in_file in (
        (whole, stored),
        (whole.take(held_out), stored.take(held_out)),
        (whole.windows(5, 1).take(np.array([7, 3])), stored.windows(5, 1).take(np.array([7, 3]))),
    ):
        rows = np.random.default_rng(0).permutation(len(in_memory))
        (x, mask), (y, also_mask) = (each.batch(rows, CPU) for each in (in_memory, in_file))
        assert len(in_memory) == len(in_file) and torch.equal(x, y)
        assert torch.equal(mask, also_mask)


def test_a_window_is_consecutive_real_steps_from_anywhere(file):
    sequences = file.sequences("train")
    first, second = sequences.windows(8, 1), sequences.windows(8, 2)
    frames = first.frames(np.arange(len(first)))[..., 0, 0, 0].astype(int)  # (N, 8)
    assert np.array_equal(first.lengths, np.minimum(sequences.lengths, 8))
    for row, length, whole in zip(frames, first.lengths, sequences.lengths, strict=True):
        assert np.array_equal(row[:length], row[0] + np.arange(length)) and not row[length:].any()
        assert row[0] + length - 1 <= whole
    assert (frames[:, 0] != second.frames(np.arange(len(first)))[:, 0, 0, 0, 0]).any()
    starts = np.concatenate([sequences.windows(8, seed).starts for seed in range(99)])
    longest = sequences.lengths.max()
    assert starts.min() == 0 and starts.max() == longest - 8


@pytest.mark.parametrize("window", [None, 6])
def test_training_from_the_file_equals_training_from_memory(file, window, tmp_path):
    config = dataclasses.replace(CONFIG, window=window)
    dsaes = [
        fit(model(), file.sequences("train", in_memory=held), tmp_path / str(held), config)
        for held in (True, False)
    ]
    first, second = (dsae.state_dict() for dsae in dsaes)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_windows_are_drawn_anew_each_epoch_and_resume(file, tmp_path, monkeypatch):
    seen, config = [], dataclasses.replace(CONFIG, window=6, epochs=3)
    cut, starts = Sequences.windows, []

    def windows(*arguments):
        drawn = cut(*arguments)
        starts.append(drawn.starts)
        return drawn

    monkeypatch.setattr(Sequences, "windows", windows)

    def run(name, **options):
        dsae = model()
        dsae.guide.register_forward_pre_hook(lambda _, call: seen.append(call[0]))
        return fit(dsae, file.sequences("train"), tmp_path / name, config, **options)

    def stop(line):
        raise KeyboardInterrupt

    whole = run("whole").state_dict()
    assert {x.shape[1] for x in seen} == {6}
    _, *epochs = starts  # the first are of the held-out part
    assert len(epochs) == 3 and (epochs[0] != epochs[1]).any() and (epochs[1] != epochs[2]).any()
    with pytest.raises(KeyboardInterrupt):
        run("cut", on_epoch=stop)
    resumed = run("cut", resume=True).state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_a_window_that_fits_nothing_is_refused(file, tmp_path):
    with pytest.raises(ConfigError, match="window is 1, but must be at least 2"):
        TrainingConfig(window=1)
    config = dataclasses.replace(CONFIG, window=STEPS + 1)
    with pytest.raises(TrainingError, match="window is 71, but the sequences have 70 steps"):
        fit(model(), file.sequences("train"), tmp_path / "run", config)


def test_data_are_read_whole_only_where_they_fit(file, monkeypatch):
    size = 22 * STEPS * 16 * 32 * 2
    pages = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 4 * size}
    monkeypatch.setattr(hdf5.os, "sysconf", pages.get)
    monkeypatch.setattr(hdf5, "MEMORY_LIMIT", file.path.with_name("memory.max"))
    held = lambda: isinstance(file.sequences("train", in_memory=None).x, np.ndarray)  # noqa: E731
    assert held()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # each of two processes needs its own
    assert not held()
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    hdf5.MEMORY_LIMIT.write_text(f"{4 * size - 1}\n")
    assert not held()
    hdf5.MEMORY_LIMIT.write_text("max\n")
    assert held()


class NoReading(TorchDispatchMode):
    """An error where a value of a tensor is read on the host."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function is not torch.ops.aten._local_scalar_dense.default, "a value was read"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("guide", ["full", "factorized", "framewise"])
def test_a_step_reads_no_value_on_the_host(guide, file, tmp_path, monkeypatch):
    """So that no GPU is waited for, and a CUDA graph can hold it."""
    step, steps = training._Training._compute, []

    def watched(*arguments):
        steps.append(1)
        with NoReading():
            return step(*arguments)

    monkeypatch.setattr(training._Training, "_compute", watched)
    options = {"guide": guide, "static_dropout": 0.2, "dynamic_view": "colour"}
    rows = np.flatnonzero(file.sequences("train").lengths >= 5)
    config = dataclasses.replace(CONFIG, epochs=1, window=5, kl_warmup=0.5)
    fit(DSAE(ModelConfig(**TINY, **options)), file.sequences("train").take(rows), tmp_path, config)
    assert steps


def test_a_graph_is_refused_where_there_is_no_gpu(file, tmp_path):
    with pytest.raises(TrainingError, match="a step cannot be a CUDA graph: the device is cpu"):
        fit(model(), file.sequences("train"), tmp_path / "run", CONFIG, cuda_graph="on")
    with pytest.raises(ConfigError, match="cuda_graph is 'yes'.*auto, on, off"):
        fit(model(), file.sequences("train"), tmp_path / "run", CONFIG, cuda_graph="yes")


def test_a_rate_of_static_dropout_is_the_same_as_a_tensor():
    dsae, x = model().train(), torch.rand(6, 3, 2, 16, 32)
    drawn = []
    for rate in (0.4, torch.tensor(0.4)):
        dsae.guide.static_dropout = rate
        torch.manual_seed(3)
        drawn.append(dsae.guide(x)[0])
    assert torch.equal(*drawn)


def test_a_series_with_gaps_is_cut_and_read_from_its_file_as_from_memory(tmp_path):
    """And no window of it is without an observation."""
    random = np.random.default_rng(0)
    values = [random.normal(3, 2, (steps, 2)) for steps in (30, 12, 25, 4, 30)]
    for one in values:
        one[:-1][random.random(len(one) - 1) < 0.9] = np.nan  # most steps, but never the last
        one[random.random(one.shape) < 0.2] = np.nan
        one[-1, 0] = 1
    series.write(
        tmp_path / "x.h5",
        values,
        ids=list("abcde"),
        channels=["u", "v"],
        splits={"official": {"train": np.arange(1, 5)}},
        groups=np.arange(5),
        **dict.fromkeys(("name", "source", "licence", "attribution", "citation"), "drawn"),
        recipe={},
    )
    with SequenceFile.open(tmp_path / "x.h5") as file:
        whole, stored = (file.sequences("train", in_memory=held) for held in (True, False))
        rows = np.arange(len(whole))
        for seed in range(20):
            pairs = [(whole, stored), (whole.windows(5, seed), stored.windows(5, seed))]
            for in_memory, in_file in pairs:
                (x, mask), (y, also_mask) = (each.batch(rows, CPU) for each in (in_memory, in_file))
                assert torch.equal(x, y) and torch.equal(mask, also_mask)
                assert mask.flatten(1).any(dim=1).all() and not x[~mask].any()
                assert np.array_equal(in_memory.observed(), mask.numpy())
