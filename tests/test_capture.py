"""What needs no GPU of steps that are replayed; the rest is in test_cuda.py."""

from types import SimpleNamespace

import pytest
import torch
from torch.overrides import TorchFunctionMode

from conftest import objective_of, tiny_model
from pyro_dsae.capture import WARM_UP, Captured


def test_a_caller_may_take_what_a_replay_returns():
    """As the trainer does, which pops the loss."""
    captured = Captured(lambda x: {"loss": x.sum()}, sequences=2)
    captured.warm, captured.x = WARM_UP, torch.zeros(2)
    captured.outputs = captured.step(captured.x)
    captured.graph = SimpleNamespace(
        replay=lambda: captured.outputs["loss"].copy_(captured.x.sum())
    )
    assert [float(captured(torch.full((2,), n)).pop("loss")) for n in (1.0, 2.0)] == [2, 4]


class Copies(TorchFunctionMode):
    """Counts the tensors that are made of the host's values: a copy, which no graph can hold."""

    count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if function in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor):
            self.count += made.numel() > 0  # Pyro's plate asks an empty one for the device
        return made


@pytest.mark.parametrize(
    "options",
    [
        {"dynamic_view": "colour", "static_dropout": 0.5},
        {"dynamic_view": "blurred"},
        {"likelihood": "laplace", "static_view": "shuffled"},
        {"likelihood": "bernoulli"},
        {"learn_scale": True},
        {"frame_shape": (6,), "dynamic_view": "worn"},
    ],
)
def test_a_step_copies_nothing_from_the_host(options):
    objective = objective_of("elbo", tiny_model(**options))
    x = torch.rand(4, 3, *objective.dsae.config.frame_shape).double().round()
    objective(x, None, 1.0, 1.0)
    with Copies() as copies:
        objective(x, None, 1.0, 1.0).backward()
    assert copies.count == 0
