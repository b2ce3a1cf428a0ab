"""The benchmark of speed measures what it says; how fast that is, no test asks."""

import importlib
import sys

import pytest
import torch

from conftest import ROOT, tiny_model
from pyro_dsae.guides import GUIDES
from pyro_dsae.objectives.elbo import AnalyticELBO
from pyro_dsae.priors import PRIORS

MODULES = [path.stem for path in (ROOT / "benchmarks").glob("*.py")]


@pytest.fixture
def benchmark(monkeypatch):
    """Imports a benchmark as running it would, its folder first on the path, and forgets it."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("recipe", [{}, {"static_dropout": 0.4, "dynamic_view": "colour"}])
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
