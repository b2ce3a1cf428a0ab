"""Where a step of the trainer spends its time."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from pyro_dsae import DSAE, Sequences
from timing import wait


@contextmanager
def parts(dsae: DSAE) -> Iterator[dict[str, list[float]]]:
    """Seconds of every call of each part of a step, without those of the parts inside it.

    ``encode`` includes the view; ``guide`` and ``model`` are the programs without their networks
    over frames; what is none of the parts is the loss.
    """
    device = next(dsae.parameters()).device
    spent: dict[str, list[float]] = {}
    inner = [0.0]  # seconds of the parts within each one that has begun

    def timed(name: str, function: Callable) -> Callable:
        spent[name] = []

        def call(*arguments: Any, **options: Any) -> Any:
            wait(device)
            inner.append(0.0)
            before = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                wait(device)
                whole = time.perf_counter() - before
                spent[name].append(whole - inner.pop())
                inner[-1] += whole

        return call

    with ExitStack() as stack:
        for name, owner, attribute in (
            ("data", Sequences, "batch"),
            ("encode", dsae.guide, "encode"),
            ("guide", dsae.guide, "forward"),
            ("decode", dsae.model.decoder, "forward"),
            ("model", dsae.model, "forward"),
            ("backward", torch.Tensor, "backward"),
            ("clip", nn.utils, "clip_grad_norm_"),
            ("optimizer", torch.optim.Adam, "step"),
        ):
            changed = timed(name, getattr(owner, attribute))
            stack.enter_context(patch.object(owner, attribute, changed))
        yield spent
