"""Training: SVI through Pyro's ELBO modules, with one torch optimizer over all parameters."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor, nn

from pyro_dsae.checkpoint import MODEL, load, save, write_whole
from pyro_dsae.config import ConfigError, one_of
from pyro_dsae.model import DSAE
from pyro_dsae.objectives.elbo import ESTIMATORS
from pyro_dsae.sequences import Sequences

ACTIVE = 0.01  # variance of the posterior mean over sequences above which a unit counts as active


class TrainingError(RuntimeError):
    """A run cannot start, go on or be resumed."""


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Args:
        epochs: passes over the train part.
        batch_size: sequences a step.
        learning_rate: Adam's; falls along a cosine to ``final_rate`` of it.
        final_rate: fraction of the learning rate at the end.
        clip_norm: the gradient's global norm is clipped to this, in nats a sequence.
        kl_warmup: epochs over which the KL weight rises linearly to 1; with 0 it is 1 throughout.
        estimator: a key of :data:`pyro_dsae.objectives.elbo.ESTIMATORS`.
        validation_fraction: fraction of the groups that is held out to choose the best weights.
        seed: drives the held-out part, the order of the data and the samples.
    """

    epochs: int = 10
    batch_size: int = 16
    learning_rate: float = 2e-3
    final_rate: float = 0.02
    clip_norm: float = 1e4
    kl_warmup: int = 0
    estimator: str = "analytic"
    validation_fraction: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("estimator", self.estimator, ESTIMATORS)
        for field in ("epochs", "batch_size"):
            if getattr(self, field) < 1:
                raise ConfigError(f"{field} is {getattr(self, field)}, but must be at least 1")
        for field in ("learning_rate", "clip_norm"):
            if not 0 < getattr(self, field) < math.inf:
                raise ConfigError(f"{field} is {getattr(self, field)}, but must be positive")
        for field in ("kl_warmup", "seed"):
            if getattr(self, field) < 0:
                raise ConfigError(f"{field} is {getattr(self, field)}, but must not be negative")


def fit(
    dsae: DSAE,
    sequences: Sequences,
    run: str | Path,
    config: TrainingConfig | None = None,
    *,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda metrics: None,
) -> DSAE:
    """Train ``dsae`` in place, where it lies, and leave it with its best weights in eval mode.

    The folder ``run`` gets ``config.json``, ``metrics.jsonl`` (a line an epoch, nats a sequence),
    ``checkpoint.pt`` (to resume after the last whole epoch) and ``model.safetensors`` (the weights
    with the best bound on the held-out part). A resumed run ends with bit for bit the weights and
    metrics of an uninterrupted one, all but the seconds.

    Args:
        report: called with each line of the metrics.

    Raises:
        TrainingError: when ``run`` exists and ``resume`` is False, when there is nothing to resume
            or it belongs to another model or training, when the data do not fit, or when the loss
            is not finite (the last checkpoint stays).
    """
    config, run = config or TrainingConfig(), Path(run)
    try:
        train, validation = sequences.hold_out(config.validation_fraction, config.seed)
    except ValueError as error:
        raise TrainingError(str(error)) from None
    _check_data(dsae, train, config)
    optimizer = torch.optim.Adam(dsae.parameters(), lr=config.learning_rate)
    settings = {
        "model": dsae.config.to_dict(),
        "training": dataclasses.asdict(config),
        "data": dict(sequences.origin),
    }
    settings = json.loads(json.dumps(settings))  # as they will be read back
    history: list[dict[str, Any]] = []
    if resume:
        history = _restore(run, settings, dsae, optimizer)
    elif run.exists():
        raise TrainingError(f"{run} exists; resume it or choose another folder")
    else:
        run.mkdir(parents=True)
        write_whole(run / "config.json", json.dumps(settings, indent=2).encode())
    write_whole(run / "metrics.jsonl", _lines(history))  # without an epoch that no checkpoint holds

    best = max((line["validation_elbo"] for line in history), default=-math.inf)
    for epoch in range(len(history), config.epochs):
        # Every epoch draws from a stream of its own, so resuming needs no state of a generator.
        stream = np.random.SeedSequence([config.seed, epoch]).generate_state(1)[0]
        # Pyro's validation costs as much as its sampling; the loss is checked at every step anyway.
        with torch.random.fork_rng(), pyro.validation_enabled(False):
            torch.manual_seed(int(stream))
            metrics = _train_epoch(dsae, train, optimizer, config, epoch)
            torch.manual_seed(config.seed)  # the same noise each time: epochs can be compared
            metrics |= _validate(dsae, validation, config)
        history.append(metrics)
        if metrics["validation_elbo"] > best:
            best = metrics["validation_elbo"]
            save(dsae, run / MODEL, overwrite=True)
        _save_checkpoint(run, settings, dsae, optimizer, history)
        write_whole(run / "metrics.jsonl", _lines(history))
        report(metrics)
    dsae.load_state_dict(load(run / MODEL).state_dict())
    return dsae.eval()


def _check_data(dsae: DSAE, train: Sequences, config: TrainingConfig) -> None:
    _, steps, height, width, channels = train.x.shape
    if (channels, height, width) != dsae.config.frame_shape:
        raise TrainingError(
            f"the frames are {(channels, height, width)}, but the model's frame_shape is "
            f"{dsae.config.frame_shape}"
        )
    if steps < 2:
        raise TrainingError(f"the sequences have {steps} step, but a sequence needs two at least")
    if config.batch_size > len(train):
        raise TrainingError(
            f"batch_size is {config.batch_size}, but the train part has {len(train)} sequences"
        )


def _train_epoch(
    dsae: DSAE,
    train: Sequences,
    optimizer: torch.optim.Optimizer,
    config: TrainingConfig,
    epoch: int,
) -> dict[str, Any]:
    dsae.train()
    estimator = ESTIMATORS[config.estimator]()
    loss_module = estimator(dsae.model, dsae.guide)
    device = next(dsae.parameters()).device
    order = np.random.default_rng([config.seed, epoch]).permutation(len(train))
    starts = range(0, len(order), config.batch_size)
    totals: dict[str, Tensor] = {}
    started = time.perf_counter()
    for step, start in enumerate(starts):
        progress = epoch + step / len(starts)  # in epochs
        rate = _cosine(progress / config.epochs, config)
        for group in optimizer.param_groups:
            group["lr"] = rate
        kl_weight = min(1.0, (progress + 1 / len(starts)) / (config.kl_warmup or 1 / len(starts)))
        chosen = order[start : start + config.batch_size]
        x, mask = train.batch(chosen, device)
        loss = loss_module(x, mask, kl_weight) / len(chosen)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} in step {step} of epoch {epoch + 1}; the last whole "
                "epoch is kept. Try a smaller learning_rate or a larger scale"
            )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(dsae.parameters(), config.clip_norm)
        optimizer.step()
        for name, value in estimator.parts.items():
            totals[name] = totals.get(name, 0) + value
    seconds = time.perf_counter() - started
    return {
        "epoch": epoch + 1,
        "learning_rate": rate,
        "sequences_per_second": round(len(train) / seconds, 1),
        **_per_sequence(totals, len(train)),
    }


@torch.no_grad()
def _validate(dsae: DSAE, validation: Sequences, config: TrainingConfig) -> dict[str, Any]:
    dsae.eval()
    estimator = ESTIMATORS[config.estimator]()
    device = next(dsae.parameters()).device
    totals: dict[str, Tensor] = {}
    means_f, means_z = [], []
    for start in range(0, len(validation), config.batch_size):
        chosen = np.arange(start, min(start + config.batch_size, len(validation)))
        x, mask = validation.batch(chosen, device)
        estimator.loss(dsae.model, dsae.guide, x, mask)
        for name, value in estimator.parts.items():
            totals[name] = totals.get(name, 0) + value
        f, z = dsae.encode(x, mask)
        means_f.append(f)
        means_z.append(z.flatten(0, 1) if mask is None else z[mask])
    parts = _per_sequence(totals, len(validation))
    active = {
        f"active_{name}": int((torch.cat(means).var(dim=0, correction=0) > ACTIVE).sum())
        for name, means in (("f", means_f), ("z", means_z))
    }
    return {f"validation_{name}": value for name, value in parts.items()} | active


def _per_sequence(totals: dict[str, Tensor], count: int) -> dict[str, float]:
    parts = {name: total.item() / count for name, total in totals.items()}
    return {"elbo": parts["reconstruction"] - parts["kl_f"] - parts["kl_z"], **parts}


def _cosine(progress: float, config: TrainingConfig) -> float:
    falling = 0.5 * (1 + math.cos(math.pi * progress))
    return config.learning_rate * (config.final_rate + (1 - config.final_rate) * falling)


def _lines(history: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in history).encode()


def _save_checkpoint(
    run: Path,
    settings: dict[str, Any],
    dsae: DSAE,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, Any]],
) -> None:
    state = {"settings": settings, "history": history, "model": dsae.state_dict()}
    content = io.BytesIO()
    torch.save({**state, "optimizer": optimizer.state_dict()}, content)
    write_whole(run / "checkpoint.pt", content.getvalue())


def _restore(
    run: Path, settings: dict[str, Any], dsae: DSAE, optimizer: torch.optim.Optimizer
) -> list[dict[str, Any]]:
    """Put the checkpoint's state into the model and the optimizer; returns its metrics."""
    path = run / "checkpoint.pt"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found, history = state["settings"], state["history"]
    except FileNotFoundError:
        raise TrainingError(f"{path}: no such file, so there is nothing to resume") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError):
        raise TrainingError(f"{path}: truncated, or not a checkpoint of this package") from None
    for part, options in settings.items():
        for key, value in options.items():
            if found[part].get(key) != value:
                raise TrainingError(
                    f"{path}: was trained with {key}={found[part].get(key)!r}, not {value!r}; "
                    "resume with the same options or choose another folder"
                )
    dsae.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return history
