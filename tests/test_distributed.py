"""Several processes train as one does; they are real ones, of torchrun, and talk by gloo."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from conftest import ROOT, write_drawings
from pyro_dsae import load
from pyro_dsae.datasets import Factor
from pyro_dsae.distributed import World, own_device

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
precision = "fp32"
validation_fraction = 0.2
kl_warmup = 2
batch_size = 7
"""


@pytest.fixture
def folder(tmp_path):
    """A file whose batches do not divide by two, nor its epochs by a batch; lengths differ."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 5, 31)
    x = rng.integers(0, 256, (31, 4, 16, 32, 2), np.uint8)
    x[np.arange(4) >= lengths[:, None]] = 0
    labels = np.zeros((31, 1), int)
    factors = [Factor("kind", "static", ("any",))]
    parts = {"train": np.arange(31)}
    write_drawings(tmp_path / "x.h5", x, labels, factors, parts, lengths)
    (tmp_path / "c.toml").write_text(CONFIG)
    return tmp_path


def start(folder, run, *options, many=False, **process):
    command = TORCHRUN if many else [sys.executable]
    command = [*command, "-m", "pyro_dsae.cli", "fit", "x.h5", run, *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stderr=subprocess.PIPE, **process
    )


def fit(*arguments, **options):
    process = start(*arguments, **options)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def metrics(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if name != "sequences_per_second"}
        for line in lines
    ]


def test_two_processes_train_as_one_does_stop_together_and_resume(folder):
    epochs = ["--config", "c.toml", "--epochs", "3"]
    fit(folder, "one", *epochs)
    # Stopped at a step of an epoch: the second process alone is told.
    stopped = start(folder, "two", *epochs, many=True, start_new_session=True)
    while not (folder / "two" / "metrics.jsonl").exists():
        assert stopped.poll() is None
        time.sleep(0.01)
    os.kill(stopped.pid, signal.SIGTERM)  # torchrun passes it on
    _, said = stopped.communicate(timeout=300)
    assert stopped.returncode != 0 and "go on with --resume" in said
    assert len(metrics(folder / "two")) < 3
    said = fit(folder, "two", "--resume", many=True)
    assert said.count("on cpu, 2 processes") == 1  # the first one speaks

    for one, two in zip(metrics(folder / "one"), metrics(folder / "two"), strict=True):
        assert one == pytest.approx(two, rel=1e-4)
    one, two = (load(folder / run).state_dict() for run in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-3, msg=name)
    assert [path.name for path in folder.glob("two/.*")] == []


def test_the_death_of_one_process_ends_all_with_a_message(folder):
    running = start(folder, "run", "--config", "c.toml", "--epochs", "100000", many=True)
    while not (folder / "run" / "metrics.jsonl").exists():
        assert running.poll() is None
        time.sleep(0.01)
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(running.pid)], capture_output=True, text=True, check=True
    )
    pids = [int(pid) for pid in children.stdout.split()]
    assert len(pids) == PROCESSES
    os.kill(pids[1], signal.SIGKILL)
    _, said = running.communicate(timeout=300)
    assert running.returncode == 1
    assert re.search(r"Error: process \d of 2 lost another one.*--resume", said)
    assert load(folder / "run")  # and the last checkpoint is whole
    assert torch.load(folder / "run" / "checkpoint.pt", weights_only=True)["history"]


def test_a_batch_too_small_for_all_processes_is_refused(folder):
    refused = start(folder, "run", "--config", "c.toml", "--batch-size", "1", many=True)
    _, said = refused.communicate(timeout=300)
    assert refused.returncode == 1
    assert "Error: a batch has 1 sequences, but 2 processes train together" in said
    assert not (folder / "run").exists()


@pytest.mark.parametrize("sequences", [2, 7, 8])
def test_the_shares_of_a_batch_are_the_batch(sequences):
    rows = np.random.default_rng(0).permutation(sequences)
    shares = [World(rank, 2).share(rows) for rank in range(2)]
    assert np.array_equal(np.concatenate(shares), rows)
    assert all(len(share) for share in shares)


def test_a_process_takes_a_cuda_device_of_its_own(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device(torch.device("cuda")) == torch.device("cuda:3")
    assert own_device(torch.device("cuda:1")) == torch.device("cuda:1")
    assert own_device(torch.device("cpu")) == torch.device("cpu")


# Batch norm and noise, in two processes of one program without the trainer.
WHOLE_BATCH = """
import numpy as np, torch
from torch import distributed as dist, nn
from pyro_dsae.distributed import World

dist.init_process_group("gloo")
world = World.here()
rows = world.share(np.arange(5))


def compute(x, whole):
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(4).double()
    nn.init.uniform_(norm.weight)
    x.requires_grad_()
    y = norm(x)
    (y * weights[whole]).sum().backward()
    n = len(x)
    drawn = [torch.rand(n), torch.randn((n, 2)), torch.empty(n, 3).normal_(), torch.randn_like(x)]
    shared = torch.rand(7)  # whose first axis is no batch
    return [y, x.grad, *drawn], [norm.running_mean, norm.running_var, shared], norm.weight.grad


torch.manual_seed(0)
frames, weights = torch.randn(2, 5, 4, 6, 6).double() * 3 + 1
of_all, same, gradient = compute(frames.clone(), slice(None))
with world.whole_batch(5):
    own, also_same, own_gradient = compute(frames[rows].clone(), rows)
dist.all_reduce(own_gradient)
expected = [value[rows] for value in of_all] + same + [gradient]
for mine, one in zip([*own, *also_same, own_gradient], expected, strict=True):
    torch.testing.assert_close(mine, one, rtol=1e-10, atol=1e-12)
dist.destroy_process_group()
"""


def test_batch_norm_and_noise_are_those_of_the_whole_batch(tmp_path):
    (tmp_path / "program.py").write_text(WHOLE_BATCH)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([*TORCHRUN, tmp_path / "program.py"], env=environment, check=True, timeout=300)
