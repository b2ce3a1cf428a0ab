"""Which parameters feel which term of an objective, with which sign and weight.

For each group of parameters the derivative of the loss, as one backward pass gives it, is that of a
sum of the parts that the objective reports, by finite differences along a random direction.
"""

import pytest
import torch

from conftest import objective_of, tiny_model
from pyro_dsae.objectives import avb
from pyro_dsae.objectives.objective import held

KL_F, KL_Z = 0.7, 1.3
BOUND = {"kl_f": KL_F, "kl_z": KL_Z, "reconstruction": -1}
OWN = {"discriminator_loss": 1}
CASES = {
    "beta": ({}, {"dsae": BOUND}),
    "beta-tc": (
        {"tc_f": 2.0, "tc_z": 3.0},
        {"dsae": BOUND | {"tc_f": 2, "tc_z": 3}},
    ),
    "mi": (
        {"mi": 2.0, "contrast_f": 3.0, "contrast_z": 4.0},
        {"dsae": BOUND | {"mi": 2, "contrast_f": 3, "contrast_z": 4}, "networks": OWN},
    ),
    "vae-gan": (
        {"gan": 2.0, "pixels": 0.5, "begin": 0.0},
        {
            "dsae.guide": {"kl_f": KL_F, "kl_z": KL_Z, "reconstruction": -0.5, "feature_error": 1},
            "dsae.model.prior": {"kl_z": KL_Z},
            "dsae.model.decoder": {"reconstruction": -0.5, "feature_error": 1, "fooling": 2},
            "networks": OWN,
        },
    ),
    "aae": (
        {},
        {
            "dsae.guide": {"reconstruction": -1, "match_f": KL_F, "match_z": KL_Z},
            "dsae.model.prior": {"log_prior": -1},
            "dsae.model.decoder": {"reconstruction": -1},
            "networks": OWN,
        },
    ),
    "avb": (
        {},
        {
            "dsae.guide": BOUND,
            "dsae.model.prior": {"kl_z": KL_Z},
            "dsae.model.decoder": {"reconstruction": -1},
            "networks": OWN,
        },
    ),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_every_group_feels_its_own_terms(name, masked, frames, monkeypatch):
    options, groups = CASES[name]
    noise = {"noise_dim": 2} if name == "avb" else {}
    view = {"dynamic_view": "colour"} if name == "mi" else {}
    dsae = tiny_model(guide="full", **noise, **view)
    objective = objective_of(name, dsae, **options)
    for parameter in objective.networks.parameters():  # or the zeros they start with hide a term
        parameter.data += 0.1 * torch.randn_like(parameter)
    if name == "mi":  # below 0 it is not felt
        objective.networks["pairs"].layers[-1].bias.data += 5.0
    mask = torch.arange(6) < torch.tensor([[6], [2], [4], [3]]) if masked else None
    if name == "avb":  # what the gradient is not to see does not move
        reading = dsae.guide.read(frames, mask)
        drawn = dsae.guide.walk(reading, lambda _, q: q.sample())
        fixed = avb.moments(dsae.guide, reading, *drawn), avb.context(reading)
        monkeypatch.setattr(avb, "moments", lambda *_: fixed[0])
        monkeypatch.setattr(avb, "context", lambda *_: fixed[1])

    def loss():
        torch.manual_seed(1)
        return objective(frames, mask, KL_F, KL_Z)

    loss().backward()
    for group, terms in groups.items():
        parameters = list(objective.get_submodule(group).parameters())
        directions = [torch.randn_like(parameter) for parameter in parameters]
        slope = sum(
            (parameter.grad * direction).sum().item()
            for parameter, direction in zip(parameters, directions, strict=True)
            if parameter.grad is not None
        )

        def moved(by, parameters=parameters, directions=directions, terms=terms):
            with torch.no_grad():
                for parameter, direction in zip(parameters, directions, strict=True):
                    parameter += by * direction
                loss()
            return sum(weight * objective.parts[part].item() for part, weight in terms.items())

        step = 1e-8
        above = moved(step)
        below = moved(-2 * step)
        moved(step)
        assert slope == pytest.approx((above - below) / (2 * step), rel=1e-3, abs=1e-3), group


def test_a_held_network_passes_gradients_on_and_takes_none():
    network, x = torch.nn.Linear(3, 1), torch.ones(2, 3, requires_grad=True)
    network.bias.requires_grad_(False)
    with held(network):
        loss = network(x).sum()
    loss.backward()
    assert torch.equal(x.grad, network.weight.detach().expand(2, 3))
    assert network.weight.grad is None
    assert network.weight.requires_grad and not network.bias.requires_grad
