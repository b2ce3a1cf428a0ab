import pytest

from conftest import objective_of, tiny_model
from fixed_noise import FixedNoise, standard_noise
from pyro_dsae import ConfigError
from pyro_dsae.objectives.beta import Beta
from pyro_dsae.objectives.elbo import AnalyticELBO


@pytest.mark.parametrize(("progress", "risen"), [(0.0, 0.0), (0.1, 0.25), (0.4, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize("capacity", [0.0, 0.5, 1e3])
def test_the_kl_is_drawn_to_a_capacity_that_rises(capacity, progress, risen, frames):
    """By hand, from a capacity far below the KL to one far above."""
    dsae = tiny_model()
    objective = objective_of(
        "beta", dsae, capacity_f=capacity, capacity_z=2 * capacity, capacity_until=0.4
    )
    objective.progress = progress
    with FixedNoise(standard_noise(4)):
        loss = objective(frames, None, 3.0, 5.0).item()
        AnalyticELBO.loss(elbo := AnalyticELBO(), dsae.model, dsae.guide, frames)
    parts = {name: value.item() for name, value in elbo.parts.items()}
    expected = (
        3 * abs(parts["kl_f"] - 4 * risen * capacity)
        + 5 * abs(parts["kl_z"] - 4 * risen * 2 * capacity)
        - parts["reconstruction"]
    )
    assert loss == pytest.approx(expected, rel=1e-9)
    assert {name: value.item() for name, value in objective.parts.items()} == pytest.approx(parts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"capacity_f": -1.0}, "capacity_f is -1.0.*negative"),
        ({"capacity_until": 0.0}, "capacity_until is 0.0.*above 0"),
    ],
)
def test_a_bad_capacity_is_named(options, message):
    with pytest.raises(ConfigError, match=message):
        Beta.Options(**options)
