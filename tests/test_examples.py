"""Every example runs, here with few steps, and does what it says."""

import importlib
import math
import sys
from unittest.mock import patch

import numpy as np
import pyro
import pytest
import torch

from conftest import ROOT, TINY
from pyro_dsae import DSAE, ModelConfig, Sequences, TrainingConfig, fit
from pyro_dsae.guides import GUIDES
from pyro_dsae.objectives.elbo import AnalyticELBO
from pyro_dsae.priors import PRIORS

EXAMPLES = sorted(
    path.stem for path in (ROOT / "examples").glob("*.py") if "def main(" in path.read_text()
)


@pytest.fixture
def example(monkeypatch):
    """Imports an example as running it would, its folder first on the path, and forgets it."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    with patch.dict(GUIDES), patch.dict(PRIORS):
        yield importlib.import_module
    for name in ("common", *EXAMPLES):
        sys.modules.pop(name, None)


def svi(module):
    losses = module.main(steps=20)
    assert set(losses) == set(module.LOSSES)
    for values in losses.values():
        assert sum(values[-5:]) < 0.7 * sum(values[:5])


def predictive(module):
    found = module.main(draws=5, steps=3)
    for sites in found.values():
        assert sites["x"].shape == sites["_RETURN"].shape == (5, 2, 4, 3, 32, 32)
        assert sites["z_0"].squeeze().shape == (5, 2, 4)
        assert (sites["z_0"].std(dim=0) > 0).all()  # each draw is one
    prior, posterior, varied = found.values()
    assert prior["f"].std(dim=0).min() > 0 and posterior["f"].std(dim=0).min() > 0
    assert torch.equal(varied["f"], varied["f"][:1].expand(5, 2, 8))


def posterior(module):
    """The Markov chain and the normal that is fitted to this one sequence know each other's mean.

    Within one standard deviation of each latent; the little trained guide need not.
    """
    found = module.main(train_steps=60, steps=250, draws=60)
    assert found["bounds"]["AutoNormal"] > found["bounds"]["guide"]
    for site in ("f", "z_0", "z_1", "z_2"):
        assert set(found["samples"]) == {"guide", "AutoNormal", "NUTS"}
        fitted, chain = (
            found["samples"][name][site].reshape(60, -1) for name in ("AutoNormal", "NUTS")
        )
        assert ((fitted.mean(dim=0) - chain.mean(dim=0)).abs() < chain.std(dim=0)).all()


def own_parts(module):
    found = module.main(steps=20)
    assert sum(found["losses"][-5:]) < 0.9 * sum(found["losses"][:5])
    again, dsae, x = found["again"], found["dsae"], found["x"][:2]
    assert type(again.guide).__name__ == "Difference"
    assert type(again.model.prior).__name__ == "RandomWalk"
    assert torch.equal(again.reconstruct(x), dsae.reconstruct(x))


def supervised(module):
    found = module.main(steps=120)
    assert found["held out"] > found["most frequent class"]


def render(module, folder):
    paths = module.main(folder)
    model, guide = (path.read_text() for path in paths)
    assert "z_1 -> z_2" in model and "f -> x" in model and "f -> z_0" not in model
    assert "z_1 -> z_2" in guide and "x" not in guide.split()


CHECKS = {check.__name__: check for check in (svi, predictive, posterior, own_parts, supervised)}


@pytest.mark.parametrize("name", CHECKS)
def test_an_example_does_what_it_says(name, example, capsys):
    CHECKS[name](example(name))
    assert capsys.readouterr().out


def test_the_graphs_are_drawn(example, tmp_path):
    pytest.importorskip("graphviz", reason="pyro.render_model needs the package graphviz")
    render(example("render"), tmp_path)


def test_every_example_is_checked():
    assert set(EXAMPLES) == {*CHECKS, "render"}


def test_plain_svi_takes_the_steps_of_our_trainer_bit_for_bit(example, tmp_path):
    """Given the same first weights, batches, noise, loss and optimizer.

    The trainer's loss is the mean over a batch and SVI's the sum, 8 times that: Adam's steps are
    the same where its eps is 8 times as large too, exactly because 8 is a power of two.
    """
    rng, batch, epochs, rate, final = np.random.default_rng(0), 8, 5, 2e-3, 0.02
    x = rng.integers(0, 256, (40, 6, 16, 32, 2), dtype=np.uint8)
    sequences = Sequences(x, np.full(40, 6), np.arange(40))
    config = TrainingConfig(
        epochs=epochs,
        batch_size=batch,
        learning_rate=rate,
        final_rate=final,
        clip_norm=1e30,
        precision="fp32",
        validation_fraction=0.2,
    )
    steps = []
    torch.manual_seed(0)
    trained = DSAE(ModelConfig(**TINY))
    fit(trained, sequences, tmp_path / "run", config, on_step=lambda step: steps.append(step.parts))
    weights = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["trained"]["model"]

    def learning_rate(step: int) -> float:
        progress = (step // 4 + step % 4 * batch / 32) / epochs
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

    adam = {"lr": rate, "eps": batch * 1e-8, "fused": True}
    optimizer = pyro.optim.LambdaLR(
        {"optimizer": torch.optim.Adam, "optim_args": adam, "lr_lambda": learning_rate}
    )
    loss, parts = AnalyticELBO(), []

    def batches():
        train, _ = sequences.hold_out(config.validation_fraction, config.seed)
        for epoch in range(epochs):
            order = np.random.default_rng([config.seed, epoch]).permutation(32)
            for step, chosen in enumerate(np.split(order, 4)):
                stream = np.random.SeedSequence([config.seed, epoch, step]).generate_state(1)[0]
                torch.manual_seed(int(stream))
                yield train.batch(chosen, torch.device("cpu"))[0]
                parts.append(loss.parts)
                optimizer.step()

    torch.manual_seed(0)
    plain = DSAE(ModelConfig(**TINY))
    with pyro.get_param_store().scope():
        losses = example("svi").train(plain, batches(), optimizer, loss)
    assert len(losses) == len(steps) == 20
    for ours, theirs, total in zip(steps, parts, losses, strict=True):
        assert {name: ours[name] for name in theirs} == theirs
        found = (ours["kl_f"] + ours["kl_z"] - ours["reconstruction"]).item()
        assert total == pytest.approx(found, rel=1e-6)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, weights[name]), name
