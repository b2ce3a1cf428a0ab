"""The interface of objectives: what the trainer does with one, whichever it is."""

import dataclasses
import signal
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from conftest import TINY
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
from pyro_dsae.objectives import OBJECTIVES
from pyro_dsae.objectives.elbo import Bound

SHORT = TrainingConfig(epochs=3, batch_size=8, validation_fraction=0.2, seed=3)


@pytest.fixture
def sequences() -> Sequences:
    x = np.random.default_rng(0).integers(0, 256, (20, 4, 16, 32, 2), np.uint8)
    pairs = np.arange(20) // 2
    return Sequences(x, np.full(20, 4), pairs, alike=pairs)


def model() -> DSAE:
    torch.manual_seed(0)
    return DSAE(ModelConfig(**TINY))


class Adversarial(Bound):
    """The bound, and a critic of f that only its own network feels."""

    bound = False
    estimates: ClassVar[bool] = False
    learning_rate = 1e-2

    @dataclass(frozen=True)
    class Options:
        weight: float = 1.0
        kind: str = "plain"

    def __init__(self, dsae, config, sequences):
        super().__init__(dsae, config, sequences)
        self.networks["critic"] = nn.Sequential(nn.Linear(5, 1), nn.Dropout(0.1))

    def forward(self, x, mask, kl_f_weight, kl_z_weight):
        loss = super().forward(x, mask, kl_f_weight, kl_z_weight)
        score = self.networks["critic"](self.dsae.encode(x)[0]).square().sum()
        self.parts = {**self.parts, "critic": score.detach()}
        return loss + self.options.weight * score


@pytest.fixture
def adversarial(monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "adversarial", Adversarial)
    return dataclasses.replace(SHORT, objective="adversarial", objective_options={"weight": 2.0})


def test_own_networks_train_by_their_own_rate_and_stay_out_of_the_model(
    adversarial, sequences, tmp_path
):
    dsae = fit(model(), sequences, tmp_path / "own", adversarial)
    state = torch.load(tmp_path / "own" / "checkpoint.pt", weights_only=True)
    assert set(state["trained"]["networks"]) == {"critic.0.weight", "critic.0.bias"}
    falling = 0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * 5 / 6))
    rates = [each["param_groups"][0]["lr"] for each in state["optimizers"].values()]
    assert rates == pytest.approx([3e-3 * falling, 1e-2 * falling])
    steps = [float(each["state"][0]["step"]) for each in state["optimizers"].values()]
    assert steps == [6, 6]
    plain = fit(model(), sequences, tmp_path / "plain", SHORT)
    assert dsae.state_dict().keys() == plain.state_dict().keys()


def test_parts_and_gradient_norms_are_logged_a_sequence(adversarial, sequences, tmp_path):
    lines = []
    fit(model(), sequences, tmp_path / "run", adversarial, on_epoch=lines.append)
    assert {"critic", "elbo", "model_gradient_norm", "networks_gradient_norm"} <= set(lines[0])
    assert lines[-1]["critic"] < lines[0]["critic"]
    fit(model(), sequences, tmp_path / "plain", SHORT, on_epoch=lines.append)
    assert "networks_gradient_norm" not in lines[-1] and lines[-1]["model_gradient_norm"] > 0


@pytest.mark.parametrize("bound", [True, False])
def test_only_of_a_bound_are_the_best_weights_kept(
    bound, adversarial, sequences, tmp_path, monkeypatch
):
    """With a bound that gets worse, so that best and last differ."""
    monkeypatch.setattr(Adversarial, "bound", bound)
    falling = iter([-1.0, -2.0, -3.0])
    monkeypatch.setattr(training, "elbo_parts", lambda *_: ({"elbo": next(falling)}, {}))
    dsae = fit(model(), sequences, tmp_path / "run", adversarial)
    last = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["trained"]["model"]
    same = all(torch.equal(value, last[name]) for name, value in dsae.state_dict().items())
    assert same == (not bound)


@pytest.mark.parametrize("name", [*OBJECTIVES, "adversarial"])
def test_every_objective_resumes_bit_for_bit(name, adversarial, sequences, tmp_path):
    """By its own defaults, with static dropout if it may, on sequences of unequal lengths."""
    defaults = OBJECTIVES[name].defaults
    options = {"capacity_z": 5.0} if name == "beta" else {}
    changes = {"objective": name, "objective_options": options, **defaults.get("training", {})}
    config = dataclasses.replace(SHORT, **changes)
    sequences = dataclasses.replace(sequences, lengths=np.arange(20) % 3 + 2)

    def start():
        torch.manual_seed(0)
        return DSAE(ModelConfig(**{**TINY, "static_dropout": 0.3, **defaults.get("model", {})}))

    whole = fit(start(), sequences, tmp_path / "whole", config)

    def stop(step):
        if step.progress > 0.4:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(TrainingError, match="after step 1 of epoch 2"):
        fit(start(), sequences, tmp_path / "cut", config, on_step=stop)
    torch.manual_seed(5)
    resumed = fit(start(), sequences, tmp_path / "cut", config, resume=True)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    states = [
        torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "cut")
    ]
    for part in states[0]["trained"]:
        for key, value in states[0]["trained"][part].items():
            assert torch.equal(value, states[1]["trained"][part][key]), key
    for line, other in zip(*(state["history"] for state in states), strict=True):
        del line["sequences_per_second"], other["sequences_per_second"]
        assert line == other


def test_the_progress_reaches_the_objective(adversarial, sequences, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Adversarial,
        "forward",
        lambda self, *batch: seen.append(self.progress) or Bound.forward(self, *batch),
    )
    fit(model(), sequences, tmp_path / "run", adversarial)
    assert seen == pytest.approx([step / 6 for step in range(6)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "gan"}, "objective is 'gan', but must be one of: elbo"),
        ({"objective_options": {"weight": 1.0}}, "'weight' of objective 'elbo'; known are: none"),
        (
            {"objective": "adversarial", "objective_options": {"wieght": 1.0}},
            "'wieght' of objective 'adversarial'; known are: weight, kind",
        ),
        (
            {"objective": "adversarial", "objective_options": {"weight": "much"}},
            "weight is 'much', but must be of type float",
        ),
        ({"objective": "adversarial", "free_bits": 1.0}, "free_bits is 1.0, but objective 'adv"),
        ({"objective": "adversarial", "estimator": "sampled"}, "estimator is 'sampled', but obj"),
    ],
)
def test_what_an_objective_does_not_use_is_refused_by_name(options, message, adversarial):
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**options)


def test_the_config_holds_every_option_of_the_objective(adversarial):
    assert adversarial.objective_options == {"weight": 2.0, "kind": "plain"}
