"""What needs no GPU of steps that are replayed; the rest is in test_cuda.py."""

from types import SimpleNamespace

import torch

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
