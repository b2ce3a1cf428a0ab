"""Times of the trainer's own steps, and of what takes turns with them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from pyro_dsae import DSAE, ModelConfig, Sequences, TrainingConfig, fit

WARM_UP = 4  # rounds that do not count: thread pools, caches, code made at a first call, new memory
LEAST = 5  # rounds of a slow step, however little time it is given
OURS = "ours"


def wait(device: torch.device) -> None:
    """Until ``device`` has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """How long a call takes, until ``device`` is through with it."""
    wait(device)
    before = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - before


def noise(config: ModelConfig, steps: int, count: int) -> Sequences:
    """``count`` sequences of random frames: what they show costs no time."""
    channels, height, width = config.frame_shape
    x = np.random.default_rng(0).integers(
        256, size=(count, steps, height, width, channels), dtype=np.uint8
    )
    return Sequences(x, np.full(count, steps), np.arange(count))


def take_turns(
    dsae: DSAE,
    sequences: Sequences,
    config: TrainingConfig,
    others: Mapping[str, Callable[[], Any]],
    budget: float,
) -> dict[str, list[float]]:
    """Seconds of the trainer's steps and of a call of each of ``others`` between any two of them.

    A neighbour that slows the machine for a while then slows all alike. All that the trainer does
    in a step counts; validation and writing at the end of an epoch do not.

    Args:
        budget: for so many seconds, all together.
    """
    device = next(dsae.parameters()).device
    rounds: list[dict[str, float]] = []
    end = time.perf_counter() + budget

    class EnoughError(Exception):
        """Ends the training."""

    def start(_: Any) -> None:
        nonlocal before
        before = time.perf_counter()

    def finish(_: Any) -> None:
        wait(device)
        spent = time.perf_counter() - before
        rounds.append({OURS: spent} | {name: seconds(run, device) for name, run in others.items()})
        if len(rounds) >= WARM_UP + LEAST and time.perf_counter() > end:
            raise EnoughError
        start(None)

    before = time.perf_counter()
    with TemporaryDirectory() as folder, suppress(EnoughError):
        fit(dsae, sequences, Path(folder) / "run", config, on_epoch=start, on_step=finish)
    return {name: [each[name] for each in rounds[WARM_UP:]] for name in (OURS, *others)}


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """The median of the ratios of paired times, and the quartiles around it."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}
