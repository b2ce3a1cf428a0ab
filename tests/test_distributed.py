"""Several processes train as one does. Where it takes real ones, torchrun starts them."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from conftest import ROOT, objective_of, tiny_model, write_drawings
from pyro_dsae import TrainingConfig, TrainingError, distributed, load
from pyro_dsae.cli.main import main
from pyro_dsae.datasets import Factor
from pyro_dsae.distributed import World, own_device
from pyro_dsae.objectives import OBJECTIVES, avb
from pyro_dsae.training import _check_shares

PROCESSES = 2
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(PROCESSES)]
TORCHRUN += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]  # a free port
CONFIG = """
preset = "small"
[model]
channels = [4, 4, 6, 6]
code_dim = 12
hidden_dim = 7
static_dim = 5
dynamic_dim = 3
[training]
epochs = 6
precision = "fp32"
validation_fraction = 0.2
kl_warmup = 0.5
objective = "vae-gan"  # whose discriminators have no gradient at first
batch_size = 7
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A file whose batches do not divide by two, nor its epochs by a batch; lengths differ."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 5, 31)
    x = rng.integers(0, 256, (31, 4, 16, 32, 2), np.uint8)
    x[np.arange(4) >= lengths[:, None]] = 0
    labels = np.zeros((31, 1), int)
    factors = [Factor("kind", "static", ("any",))]
    write_drawings(tmp_path / "x.h5", x, labels, factors, {"train": np.arange(31)}, lengths)
    (tmp_path / "c.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(*options) -> subprocess.Popen:
    command = [*TORCHRUN, "-m", "pyro_dsae.cli", "fit", "x.h5", "two", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE)


def wait_for_an_epoch(run, process) -> None:
    while not (run / "metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.01)


def metrics(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if name != "sequences_per_second"}
        for line in lines
    ]


def assert_resumes_to_the_run_of_one_process(folder):
    resumed = start("--resume")
    _, said = resumed.communicate(timeout=300)
    assert resumed.returncode == 0 and said.count("on cpu, 2 processes") == 1  # the first speaks
    result = CliRunner().invoke(main, ["fit", "x.h5", "one", "--config", "c.toml"])
    assert result.exit_code == 0, result.output
    for one, two in zip(metrics(folder / "one"), metrics(folder / "two"), strict=True):
        assert two == pytest.approx(one, rel=1e-4)
    one, two = (load(folder / run).state_dict() for run in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-3, msg=name)


def test_a_death_ends_all_and_the_resumed_run_equals_one_process(folder):
    running = start("--config", "c.toml")
    wait_for_an_epoch(folder / "two", running)
    children = ["ps", "-o", "pid=", "--ppid", str(running.pid)]
    pids = subprocess.run(children, capture_output=True, text=True, check=True).stdout.split()
    assert len(pids) == PROCESSES
    os.kill(int(pids[1]), signal.SIGKILL)
    _, said = running.communicate(timeout=300)
    assert running.returncode == 1
    assert re.search(r"Error: process \d of 2 lost another one.*--resume", said)
    assert len(metrics(folder / "two")) < 6
    assert_resumes_to_the_run_of_one_process(folder)


@pytest.mark.slow
def test_a_signal_stops_all_at_one_step_and_the_rest_equals_one_process(folder):
    running = start("--config", "c.toml")
    wait_for_an_epoch(folder / "two", running)
    os.kill(running.pid, signal.SIGTERM)  # torchrun passes it on
    _, said = running.communicate(timeout=300)
    assert running.returncode != 0 and "go on with --resume" in said
    assert_resumes_to_the_run_of_one_process(folder)


@pytest.fixture
def two_threads(monkeypatch):
    """Runs a function of the rank in two threads, between which all_reduce sums."""
    barrier, given = threading.Barrier(2, timeout=60), {}

    def all_reduce(tensor, *_):
        given[threading.get_ident()] = tensor.clone()
        barrier.wait()
        tensor.copy_(sum(given.values()))
        barrier.wait()

    def run(function):
        results = {}
        threads = [
            threading.Thread(target=lambda rank=rank: results.update({rank: function(rank)}))
            for rank in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [results[rank] for rank in range(2)]

    monkeypatch.setattr(distributed.dist, "all_reduce", all_reduce)
    return run


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_that_of_the_whole_batch(two_threads, affine, dtype):
    frames, weights = torch.randn(2, 5, 4, 6, 6, generator=torch.Generator().manual_seed(0)) * 3 + 1

    def compute(world):
        norm = nn.BatchNorm2d(4, affine=affine)
        norm = norm.double() if dtype == torch.float64 else norm
        if affine:
            nn.init.constant_(norm.weight, 1.5)
        rows = world.share(np.arange(5))
        x = frames[rows].to(dtype).requires_grad_()
        with world.whole_batch(5):
            y = norm(x)
        (y * weights[rows].to(dtype)).sum().backward()
        assert y.dtype == x.grad.dtype == dtype
        gradients = [parameter.grad for parameter in norm.parameters()]
        return [y, x.grad], [norm.running_mean, norm.running_var], gradients

    shares = two_threads(lambda rank: compute(World(rank, 2)))
    of_rows, same, summed = compute(World())
    close = (
        {"rtol": 1e-10, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 0.02, "atol": 0.02}
    )
    for n, whole in enumerate(of_rows):
        torch.testing.assert_close(torch.cat([share[0][n] for share in shares]), whole, **close)
    for n, whole in enumerate(same):
        for share in shares:
            torch.testing.assert_close(share[1][n], whole, **close)
    for n, whole in enumerate(summed):
        torch.testing.assert_close(sum(share[2][n] for share in shares), whole, **close)


@pytest.mark.parametrize("sequences", [2, 7, 8])
def test_the_shares_of_a_batch_and_of_its_noise_are_the_whole(sequences):
    def draw(count):
        torch.manual_seed(1)
        by_call = [torch.rand(count), torch.randn((count, 2)), torch.rand(count, 3)]
        like = torch.zeros(count, 2)
        fixed = torch.Generator().manual_seed(2)
        by_model = model.draw(count, 4)
        by_like = [torch.empty(count, 30).normal_(), torch.rand_like(like), torch.randn_like(like)]
        of_all = torch.rand(99), torch.randn(4, 1, 2, generator=fixed)
        return [*by_call, *by_model, *by_like, torch.empty(count).uniform_(2, 3)], torch.cat(
            [values.flatten() for values in of_all]
        )

    model = tiny_model(prior="standard").model
    rows, shares = np.random.default_rng(0).permutation(sequences), []
    whole, shared = draw(sequences)
    for rank in range(2):
        world = World(rank, 2)
        with world.whole_batch(sequences):
            own, same = draw(len(world.share(rows)))
        assert torch.equal(same, shared)  # and what is drawn for no sequence is the same for all
        shares.append((world.share(rows), own))
    assert np.array_equal(np.concatenate([own for own, _ in shares]), rows)
    for n, expected in enumerate(whole):
        assert torch.equal(torch.cat([drawn[n] for _, drawn in shares]), expected)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"beta-tc", "mi"}))
def test_the_gradients_of_the_shares_add_up_to_those_of_the_batch(name, masked, monkeypatch):
    """Of all objectives but those that compare the sequences of a batch."""
    monkeypatch.setattr(avb, "SPARED", math.inf)  # is spared each share, on average over it
    x = torch.rand(8, 6, 2, 16, 32, generator=torch.Generator().manual_seed(0)).double()
    lengths = torch.tensor([6, 2, 4, 1, 5, 6, 3, 4])
    mask = torch.arange(6) < lengths.unsqueeze(1) if masked else None
    model = {
        "static_dropout": 0.5,
        "batch_norm": False,
        **OBJECTIVES[name].defaults.get("model", {}),
    }

    def gradients(world):
        objective = objective_of(name, tiny_model(**model))
        objective.progress = 1.0  # all terms are in
        torch.manual_seed(1)
        for parameter in objective.networks.parameters():  # at first their outputs are 0
            parameter.data += 0.1 * torch.randn_like(parameter)
        rows = world.share(np.arange(8))
        with world.whole_batch(8):
            objective(x[rows], None if mask is None else mask[rows], 0.7, 1.3).backward()
        return {key: of.grad for key, of in objective.named_parameters() if of.grad is not None}

    whole, *shares = (gradients(world) for world in (World(), World(0, 2), World(1, 2)))
    assert len(whole) > 20
    for key, gradient in whole.items():
        torch.testing.assert_close(sum(share[key] for share in shares), gradient)


@pytest.mark.parametrize(
    ("train", "held_out", "batch", "message"),
    [
        (9, 4, 1, "a batch has 1 sequences, but 2 processes"),
        (9, 4, 4, "the last batch of an epoch has 1 sequences"),
        (8, 1, 4, "the held-out part has 1 sequences"),
    ],
)
def test_a_batch_too_small_for_all_processes_is_refused(train, held_out, batch, message):
    config = TrainingConfig(batch_size=batch)
    with pytest.raises(TrainingError, match=message):
        _check_shares(World(0, 2), range(train), range(held_out), config)
    _check_shares(World(), range(train), range(held_out), config)


def test_a_process_takes_a_cuda_device_of_its_own(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device(torch.device("cuda")) == torch.device("cuda:3")
    assert own_device(torch.device("cuda:1")) == torch.device("cuda:1")
    assert own_device(torch.device("cpu")) == torch.device("cpu")
