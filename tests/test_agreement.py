"""f that is the same for all that look alike: against closed forms, and learned."""

import dataclasses

import numpy as np
import pyro.distributions as dist
import pytest
import torch

from conftest import TINY, objective_of, tiny_model
from fixed_noise import FixedNoise, standard_noise
from pyro_dsae import DSAE, ConfigError, ModelConfig, Sequences, TrainingConfig, fit
from pyro_dsae.analyses.codes import encode
from pyro_dsae.objectives.agreement import Agreement, kl_between_mates
from pyro_dsae.objectives.elbo import AnalyticELBO


def test_the_disagreement_of_known_gaussians():
    """KL(N(m, s) || N(n, t)) = ln t/s + (s^2 + (m - n)^2) / 2 t^2 - 1/2, in both directions."""
    loc = torch.tensor([[0.0, 1], [3, 1], [5, 5], [5, 5]]).double()
    scale = torch.tensor([[1.0, 2], [2, 2], [1, 3], [1, 3]]).double()
    forth = np.log(2) + (1 + 9) / 8 - 1 / 2
    back = -np.log(2) + (4 + 9) / 2 - 1 / 2
    found = kl_between_mates(dist.Normal(loc, scale).to_event(1))
    assert found.item() == pytest.approx(forth + back)


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_the_loss_is_the_bound_by_the_other_one_and_the_disagreement(weight, frames):
    dsae = tiny_model(static_view="partner")
    objective = objective_of("agreement", dsae, weight=weight)
    with FixedNoise(standard_noise(4)):
        loss = objective(frames, None, 2.0, 3.0).item()
    with FixedNoise(standard_noise(4)):
        bound = AnalyticELBO().differentiable_loss(dsae.model, dsae.guide, frames, None, 2.0, 3.0)
    disagreement = objective.parts["disagreement"].item()
    assert disagreement > 0.01
    assert loss == pytest.approx(bound.item() + weight * disagreement, rel=1e-9)


def test_who_agrees_says_nothing_of_the_motion(tmp_path):
    """Bright or dark, above or below: f may know the one, and the other only of itself."""
    labels = np.indices((2, 2)).reshape(2, -1).T.repeat(12, axis=0)
    x = np.zeros((48, 3, 16, 32, 2), np.uint8)
    for row, (who, what) in zip(x, labels, strict=True):
        row[:, 8 * what : 8 * what + 8] = 80 + 170 * who
    groups = np.arange(48) % 12
    sequences = Sequences(x, np.full(48, 3), groups, alike=labels[:, 0])
    apart = {}
    for weight in (0.0, 10.0):
        torch.manual_seed(0)
        dsae = DSAE(ModelConfig(**{**TINY, **Agreement.defaults["model"]}))
        config = TrainingConfig(
            epochs=12,
            batch_size=4,
            objective="agreement",
            objective_options={"weight": weight},
            kl_f_weight=0.1,
        )
        fit(dsae, sequences, tmp_path / str(weight), config)
        f = encode(dsae, sequences).f
        means = torch.stack([f[(labels == row).all(axis=1)].mean(dim=0) for row in labels[::12]])
        means = means.reshape(2, 2, -1)  # of who and what
        who = (means[1] - means[0]).square().sum(dim=-1).mean()
        what = (means[:, 1] - means[:, 0]).square().sum(dim=-1).mean()
        apart[weight] = (what / who).item()
    assert apart[10.0] < 0.1 * apart[0.0]


@pytest.mark.parametrize("changes", [{"static_view": "none"}, {"static_dropout": 0.1}])
def test_without_pairs_or_with_f_dropped_there_is_nothing_to_agree_on(changes):
    dsae = tiny_model(**{"static_view": "partner", **changes})
    with pytest.raises(ConfigError, match="objective 'agreement' needs 'partner' and 0"):
        objective_of("agreement", dsae)
    with pytest.raises(ConfigError, match="weight is -1.0, but must not be negative"):
        dataclasses.replace(Agreement.Options(), weight=-1.0)
