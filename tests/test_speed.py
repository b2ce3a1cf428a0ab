"""The benchmark of speed measures what it says; how fast that is, no test asks."""

import importlib
import json
import operator
import os
import sys

import pytest
import torch
from click.testing import CliRunner

from conftest import ROOT, TINY, tiny_model
from pyro_dsae import DSAE, ModelConfig, TrainingConfig
from pyro_dsae.config import PRESETS
from pyro_dsae.guides import GUIDES
from pyro_dsae.objectives.elbo import AnalyticELBO
from pyro_dsae.priors import PRIORS

MODULES = [path.stem for path in (ROOT / "benchmarks").glob("*.py")]
RECIPES = (
    {},
    {"static_dropout": 0.4, "dynamic_view": "colour"},
    {"shared_encoder": False, "dynamic_view": "colour"},
)


@pytest.fixture
def benchmark(monkeypatch):
    """Imports a benchmark as running it would, its folder first on the path, and forgets it."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("guide", GUIDES)
def test_the_plain_step_has_our_loss_and_gradients(benchmark, frames, guide, prior, recipe):
    dsae = tiny_model(guide=guide, prior=prior, **recipe)
    losses = {
        "ours": AnalyticELBO()(dsae.model, dsae.guide),
        "plain": lambda *given: benchmark("plain").negative_elbo(dsae, *given),
    }
    values, gradients = [], []
    for name, loss in losses.items():
        dsae.zero_grad()
        torch.manual_seed(1)
        arguments = (frames, None, 0.7, 1.6) if name == "ours" else (frames, 0.7, 1.6)
        value = loss(*arguments)
        value.backward()
        values.append(value.detach())
        gradients.append([parameter.grad for parameter in dsae.parameters()])
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*gradients)


def test_parts_are_counted_once_each(benchmark):
    """A part within another is its own alone, and together they are no more than the whole."""
    timing, parts = benchmark("timing"), benchmark("parts")
    dsae = DSAE(ModelConfig(**TINY))
    config = TrainingConfig(epochs=10, batch_size=4, precision="fp32")
    with parts.parts(dsae) as spent:
        times = timing.take_turns(dsae, timing.noise(dsae.config, 3, 40), config, {}, 0)["ours"]
    assert len(times) == timing.LEAST
    rounds = timing.LEAST + timing.WARM_UP
    assert len(spent["backward"]) == len(spent["optimizer"]) == rounds
    whole = sum(map(sum, zip(*(each[-timing.LEAST :] for each in spent.values()), strict=True)))
    assert 0 < whole <= sum(times)


def test_a_ratio_is_of_neighbours(benchmark):
    """Whatever slows both of a pair is not in it."""
    found = benchmark("timing").ratio([2, 20, 200, 4000, 2.2], [1, 10, 100, 1000, 1])
    assert found == {"median": 2, "low": 2, "high": 2.2}


def test_operations_are_those_of_the_networks(benchmark):
    """A sequence twice as long has twice as many, but for those of f."""
    gflop = benchmark("step").gflop
    dsae = DSAE(ModelConfig(frame_shape=(3, 32, 32), channels=(8, 8, 8, 8)))
    assert gflop(dsae, 8) / gflop(dsae, 4) == pytest.approx(2, rel=0.05)


def test_operations_of_a_peer_are_those_of_its_own_step(benchmark):
    """A product of matrices of 100 x 100 and its two gradients."""
    weight = torch.ones(100, 100, requires_grad=True)
    step = lambda: (weight @ weight).sum().backward()  # noqa: E731
    assert benchmark("step").operations(step) == pytest.approx(3 * 2 * 100**3 / 1e9)


def test_the_page_has_every_case(benchmark, tmp_path, monkeypatch):
    step, peaks, peers = benchmark("step"), benchmark("peaks"), benchmark("peers")

    class Fake(peers.Peer):
        repository, batch_size, shipped, architecture = "nowhere", 2, "nothing", "the same"
        step = one_pass = lambda *given, **how: lambda: torch.ones(100, 100) @ torch.ones(100, 100)
        ours = lambda peer: DSAE(ModelConfig(**TINY))  # noqa: E731

    class Beside:
        """In this process: what a test defines is not to be found in another."""

        def __init__(self, make, device, memory_kept):
            self.step = make()

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def __call__(self):
            return self.step()

        def ask(self, question):
            return question(self.step)

    monkeypatch.setattr(step, "Neighbour", Beside)
    monkeypatch.setitem(step.PEERS, "fake", Fake)
    monkeypatch.setattr(peaks, "REPEATS", 1)
    small = {"channels": (2, 2, 4, 4), "code_dim": 8, "hidden_dim": 6, "frame_shape": (3, 16, 16)}
    for preset in PRESETS.values():
        monkeypatch.setitem(preset, "model", small)
    monkeypatch.setattr(step, "CASES", (("small", 2), ("small", 3)))
    monkeypatch.setattr(step, "LONG", step.SHORT + 1)
    monkeypatch.setattr(step, "peaks", lambda device: peaks.peaks(device, [32], [(8, 3, 1, 8, 2)]))
    page, data = tmp_path / "speed.md", tmp_path / "speed.json"
    command = [
        str(page),
        str(data),
        "--seconds",
        "0",
        "--precision",
        "fp32",
        "--peer",
        f"fake={tmp_path}",
    ]
    result = CliRunner().invoke(step.main, command, catch_exceptions=False)
    assert result.exit_code == 0
    found = json.loads(data.read_text())
    assert [case["T"] for case in found["cases"]] == [2, 3]
    assert [row["batches"]["fake"] for row in found["peers"]] == [2] * 4
    assert all(row["fraction_of_peak"]["fake"] > 0 for row in found["peers"])
    assert "fake: nowhere; as shipped: nothing; the same architecture: the same" in page.read_text()
    for case in found["cases"]:
        assert case["over_plain"]["median"] > 0 and case["fraction_of_peak"] > 0
        assert f"| `small` | {case['T']} | {case['batch']} | fp32 |" in page.read_text()


def _make():
    return os.getpid


def _where(step):
    return step(), torch.get_num_threads()


def _leave(step):
    os._exit(3)


def test_a_neighbour_is_a_process_of_its_own(benchmark):
    """With our number of threads; what fails there is told here, and it goes on."""
    with benchmark("neighbour").Neighbour(_make, torch.device("cpu")) as neighbour:
        neighbour()
        process, threads = neighbour.ask(_where)
        assert process != os.getpid() and threads == torch.get_num_threads()
        with pytest.raises(AttributeError, match="has no attribute 'upper'"):
            neighbour.ask(operator.methodcaller("upper"))
        assert neighbour.ask(_where) == (process, threads)
        with pytest.raises(ChildProcessError, match="ended with 3"):
            neighbour.ask(_leave)


@pytest.mark.parametrize("text", ["", "class DisentangledVAE: pass\nraise ValueError"])
def test_a_peer_that_is_another_is_named(benchmark, tmp_path, text):
    (tmp_path / "model.py").write_text(text)
    step = benchmark("step")
    peer = step.PEERS["yatindandi"](tmp_path)
    with pytest.raises(step.click.ClickException, match="model.py: (has no|cannot be imported)"):
        peer.step(2, torch.device("cpu"))


def test_networks_after_a_peer_keep_the_shapes(benchmark):
    peers = benchmark("peers")
    wide = {"channels": 4, "code_dim": 8}
    encoder, decoder = peers.WideEncoder(**wide), peers.WideDecoder(288, **wide)
    x = torch.rand(2, 3, 3, 64, 64)
    assert encoder(x).shape == (2, 3, 8)
    assert decoder(torch.randn(2, 3, 288)).shape == x.shape


def test_processes_are_compared_by_their_epochs(benchmark, tmp_path, monkeypatch):
    """The first epoch warms up, and the losses are compared in all."""
    processes = benchmark("processes")

    def train(data, run, n, options):
        assert options == ("--epochs", "3")
        losses = dict.fromkeys(processes.LOSSES, 10.0)
        slow = {**losses, "kl_z": 10.0 if n == 1 else 10.5, "sequences_per_second": 1.0}
        return [slow] + 2 * [{**losses, "sequences_per_second": 50.0 * n}]

    monkeypatch.setattr(processes, "train", train)
    page = tmp_path / "processes.md"
    command = [str(page), str(page), "--processes", "3", "--rounds", "2", "--", "--epochs", "3"]
    page.write_text("")
    result = CliRunner().invoke(processes.main, command, catch_exceptions=False)
    assert result.exit_code == 0
    assert "| 1 | 50.0 |" in page.read_text() and "| 3 | 150.0 |" in page.read_text()
    assert "3.00 (3.00 to 3.00). Losses differ by 4.8e-02" in page.read_text()
