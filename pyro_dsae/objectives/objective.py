"""What an objective is: a loss of a model and a guide, and the networks that it takes besides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pyro.poutine import Trace
from torch import Tensor, nn

from pyro_dsae.model import DSAE

if TYPE_CHECKING:
    from pyro_dsae.training import TrainingConfig


class Objective(nn.Module, ABC):
    """What a training minimises: one scalar, of which the gradients of all parameters are taken.

    The trainer steps the parameters of ``dsae`` by one optimizer and those of ``networks`` by
    another, after one backward pass. A subclass that plays the two against each other routes the
    gradients itself: :func:`held` keeps one of a network's parameters, ``detach`` one of its
    inputs.

    Args:
        dsae: the model that is trained.
        config: how; its ``objective_options`` are fields of ``Options``.
        sequences: how many sequences there are to train on.

    Attributes:
        bound: whether the loss is a bound on the evidence, or near one, so that the weights with
            the best bound on held-out data are kept. If not, the latest are.
        estimates: whether ``estimator`` and ``free_bits`` of the config say how.
        idle: whether there are steps at which ``networks`` have no gradient.
        defaults: what ``dsae fit`` takes for granted unless told otherwise: fields of ModelConfig
            in ``model`` and of TrainingConfig in ``training``.
        networks: what the objective owns. They are in the run's checkpoint, not in its model.
        learning_rate: that of the networks; it falls as the model's does.
        progress: fraction of the training that is done; the trainer sets it before every step.
        parts: after a call: what the loss is made of and diagnostics, summed over the batch,
            detached. ``reconstruction``, ``kl_f`` and ``kl_z``, in nats, are among them.
    """

    bound: ClassVar[bool] = True
    estimates: ClassVar[bool] = False
    idle: ClassVar[bool] = False
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    learning_rate = 0.0

    @dataclass(frozen=True)
    class Options:
        """The objective's own options, validated; numbers and strings."""

    def __init__(self, dsae: DSAE, config: TrainingConfig, sequences: int) -> None:
        super().__init__()
        self.dsae = dsae
        self.options = self.Options(**config.objective_options)
        self.networks = nn.ModuleDict()
        self.progress = 0.0
        self.parts: dict[str, Tensor] = {}

    @abstractmethod
    def forward(
        self, x: Tensor, mask: Tensor | None, kl_f_weight: float, kl_z_weight: float
    ) -> Tensor:
        """The loss, summed over the sequences of a batch, and ``parts``.

        Args:
            x: frames in [0, 1], shape (B, T, C, H, W).
            mask: bool (B, T), True where a frame is observed; None where all are.
            kl_f_weight: weight of what keeps q(f) near its prior.
            kl_z_weight: weight of what keeps q(z_1:T) near its prior.
        """


@contextmanager
def held(*networks: nn.Module) -> Iterator[None]:
    """Within, gradients pass through the networks and do not reach their parameters."""
    trained = [p for network in networks for p in network.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def latents(trace: Trace) -> tuple[Tensor, Tensor]:
    """f (B, static_dim) and z (B, T, dynamic_dim) as they were drawn in a trace."""
    steps = [site["value"] for name, site in trace.nodes.items() if name.startswith("z_")]
    return trace.nodes["f"]["value"], torch.stack(steps, dim=-2)
