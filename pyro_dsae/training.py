"""Training: SVI through Pyro's ELBO modules, with one torch optimizer over all parameters."""

from __future__ import annotations

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor, nn

from pyro_dsae.checkpoint import MODEL, load_generative, read, save
from pyro_dsae.config import PRESETS, ConfigError, check_fields, one_of
from pyro_dsae.evaluation.bound import elbo_parts
from pyro_dsae.model import DSAE
from pyro_dsae.networks import bfloat16_is_fast
from pyro_dsae.objectives.elbo import ESTIMATORS, per_sequence
from pyro_dsae.run_folder import RunFolder, TrainingError
from pyro_dsae.sequences import Sequences

CHECKPOINT_SECONDS = 300  # a kill inside a long epoch costs no more than this
PRECISIONS = {"auto": None, "fp32": False, "bf16": True}  # whether the convolutions use bfloat16


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Args:
        epochs: passes over the train part; 10 when neither this nor ``minutes`` is given.
        minutes: train for this long instead, by the clock, validation included. The learning rate
            then follows the clock as well, so two such runs are not equal bit for bit.
        batch_size: sequences a step.
        learning_rate: Adam's; falls along a cosine to ``final_rate`` of it.
        final_rate: fraction of the learning rate at the end.
        clip_norm: the gradient's global norm is clipped to this, in nats a sequence.
        kl_f_weight: weight of KL_f in the loss. Whatever it is, the metrics are unweighted and the
            model with the best ELBO is kept.
        kl_z_weight: weight of KL_z in the loss.
        kl_warmup: epochs over which both rise linearly to these weights; 0 for none.
        free_bits: nats that f and each z_t may cost for nothing; the analytic estimator's. See
            :class:`~pyro_dsae.objectives.elbo.AnalyticELBO`.
        static_dropout_until: fraction of the training over which the model's static dropout falls
            to 0, along a line. By then z carries what happens; later it would take up appearance.
        estimator: a key of :data:`pyro_dsae.objectives.elbo.ESTIMATORS`.
        precision: ``bf16`` or ``fp32`` convolutions; ``auto`` takes bf16 where the device has
            instructions for it.
        validation_fraction: fraction of the groups that is held out to choose the best weights.
        seed: drives the held-out part, the order of the data and the samples.
        generative_from: a run, or a model file, whose generative model is taken and kept frozen, so
            that a guide alone is trained; None for all that is trained.
    """

    epochs: int | None = None
    minutes: float | None = None
    batch_size: int = 8
    learning_rate: float = 3e-3
    final_rate: float = 0.02
    clip_norm: float = 1e4
    kl_f_weight: float = 1.0
    kl_z_weight: float = 1.0
    kl_warmup: int = 0
    free_bits: float = 0.0
    static_dropout_until: float = 1.0
    estimator: str = "analytic"
    precision: str = "auto"
    validation_fraction: float = 0.05
    seed: int = 0
    generative_from: str | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None and self.minutes is not None:
            raise ConfigError(
                f"epochs is {self.epochs} and minutes is {self.minutes}, but give only one of them"
            )
        if self.epochs is None and self.minutes is None:
            object.__setattr__(self, "epochs", 10)
        one_of("estimator", self.estimator, ESTIMATORS)
        one_of("precision", self.precision, PRECISIONS)
        for field in ("epochs", "batch_size"):
            if getattr(self, field) is not None and getattr(self, field) < 1:
                raise ConfigError(f"{field} is {getattr(self, field)}, but must be at least 1")
        rates = ("learning_rate", "clip_norm", "kl_f_weight", "kl_z_weight", "static_dropout_until")
        for field in ("minutes", *rates):
            if getattr(self, field) is not None and not 0 < getattr(self, field) < math.inf:
                raise ConfigError(f"{field} is {getattr(self, field)}, but must be positive")
        for field in ("kl_warmup", "free_bits", "seed"):
            if not getattr(self, field) >= 0:
                raise ConfigError(f"{field} is {getattr(self, field)}, but must not be negative")
        if self.free_bits and self.estimator != "analytic":
            raise ConfigError(
                f"free_bits is {self.free_bits}, but estimator {self.estimator!r} has none; "
                "use 'analytic'"
            )
        for field in ("final_rate", "validation_fraction"):
            if not 0 < getattr(self, field) < 1:
                raise ConfigError(f"{field} is {getattr(self, field)}, but must be between 0 and 1")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> TrainingConfig:
        """The training of the preset ``name`` (a key of :data:`pyro_dsae.config.PRESETS`), with
        ``changes`` applied; its epochs give way to ``minutes``."""
        one_of("preset", name, PRESETS)
        options = dict(PRESETS[name]["training"])
        if changes.get("minutes") is not None:
            del options["epochs"]
        return cls.from_dict({**options, **changes})

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> TrainingConfig:
        """The config of these fields. Unknown keys are refused by name."""
        check_fields(cls, options)
        return cls(**options)


@dataclasses.dataclass(frozen=True)
class Step:
    """What a step of training reports.

    Args:
        progress: fraction of the training that is done.
        sequences: sequences in the batch.
        parts: ``reconstruction``, ``kl_f`` and ``kl_z`` in nats, summed over the batch. They lie on
            the device; reading them waits for it.
    """

    progress: float
    sequences: int
    parts: dict[str, Tensor]


def fit(
    dsae: DSAE,
    sequences: Sequences,
    run: str | Path,
    config: TrainingConfig | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    on_epoch: Callable[[dict[str, Any]], None] = lambda metrics: None,
    on_step: Callable[[Step], None] = lambda step: None,
) -> DSAE:
    """Train ``dsae`` in place, where it lies, and leave it with its best weights in eval mode.

    The folder ``run`` gets ``config.json``, ``metrics.jsonl`` (a line an epoch, nats a sequence),
    ``checkpoint.pt`` (to resume) and ``model.safetensors`` (the weights with the best bound on the
    held-out part). A resumed run of so many epochs ends with bit for bit the weights and metrics of
    an uninterrupted one, all but the seconds. SIGINT (Ctrl-C) and SIGTERM end the step at hand,
    save the checkpoint and raise TrainingError; a second one acts at once.

    Args:
        resume: go on from the checkpoint in ``run``.
        overwrite: replace a run that is in ``run``.
        on_epoch: called with each line of the metrics.
        on_step: called after each step.

    Raises:
        TrainingError: when ``run`` holds a run and neither ``resume`` nor ``overwrite`` is given,
            when there is nothing to resume or it belongs to another model, training or data, when
            the data do not fit, when the loss is not finite (the last good checkpoint stays), or
            when a signal stopped it.
    """
    config = config or TrainingConfig()
    try:
        train, validation = sequences.hold_out(config.validation_fraction, config.seed)
    except ValueError as error:
        raise TrainingError(str(error)) from None
    _check_data(dsae, train, config)
    settings = {
        "model": dsae.config.to_dict(),
        "training": dataclasses.asdict(config),
        "data": dict(sequences.origin),
    }
    training = _Training(dsae, train, validation, config, RunFolder(run, settings))
    if config.generative_from is not None:
        dsae.model.freeze()
    if resume:
        training.restore()
    else:
        if config.generative_from is not None:
            load_generative(dsae, config.generative_from)
        training.folder.create(training.state(), overwrite)
    devices = [training.device] if training.device.type == "cuda" else []
    # Pyro's validation costs as much as its sampling; the loss is checked at every step anyway.
    with (
        _signals() as received,
        torch.random.fork_rng(devices),
        pyro.validation_enabled(False),
    ):
        while not training.done:
            metrics = training.epoch(received, on_step)
            on_epoch(metrics)
    dsae.load_state_dict(read(training.folder.path)[1])
    return dsae.eval()


class _Training:
    """The state of a training and how it goes on: all that a checkpoint holds."""

    def __init__(
        self,
        dsae: DSAE,
        train: Sequences,
        validation: Sequences,
        config: TrainingConfig,
        folder: RunFolder,
    ) -> None:
        self.dsae, self.train, self.validation = dsae, train, validation
        self.config, self.folder = config, folder
        self.device = next(dsae.parameters()).device
        fast = PRECISIONS[config.precision]
        dsae.use_bfloat16(bfloat16_is_fast(self.device) if fast is None else fast)
        self.optimizer = torch.optim.Adam(dsae.parameters(), lr=config.learning_rate, fused=True)
        self.history: list[dict[str, Any]] = []
        self.steps = math.ceil(len(train) / config.batch_size)  # of an epoch
        self.step = 0  # within the epoch
        self.totals: dict[str, Tensor] = {}  # of the epoch so far
        self.epoch_seconds = 0.0
        self.started = self.saved = time.perf_counter()

    def state(self) -> dict[str, Any]:
        return {
            "history": self.history,
            "step": self.step,
            "totals": self.totals,
            "epoch_seconds": self.epoch_seconds,
            "seconds": time.perf_counter() - self.started,
            "model": self.dsae.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def save(self) -> None:
        self.saved = time.perf_counter()
        self.folder.save(self.state())

    def restore(self) -> None:
        state = self.folder.restore()
        self.dsae.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history, self.step, self.totals = state["history"], state["step"], state["totals"]
        self.epoch_seconds = state["epoch_seconds"]
        self.saved = time.perf_counter()
        self.started = self.saved - state["seconds"]
        self.folder.write_metrics(self.history)  # without an epoch that no checkpoint holds

    @property
    def progress(self) -> float:
        """Fraction of the training that is done."""
        if self.config.minutes is None:
            return (len(self.history) + self.step / self.steps) / self.config.epochs
        return min(1.0, (time.perf_counter() - self.started) / (60 * self.config.minutes))

    @property
    def done(self) -> bool:
        return self.progress >= 1 and self.step == 0 and bool(self.history)

    def epoch(
        self, received: list[signal.Signals], on_step: Callable[[Step], None]
    ) -> dict[str, Any]:
        """Train to the end of the epoch or of the minutes, validate, save; returns the metrics."""
        config = self.config
        self.dsae.train()
        options = {"free_bits": config.free_bits} if config.free_bits else {}
        estimator = ESTIMATORS[config.estimator](**options)
        loss_module = estimator(self.dsae.model, self.dsae.guide)
        order = np.random.default_rng([config.seed, len(self.history)]).permutation(len(self.train))
        before = time.perf_counter() - self.epoch_seconds
        while self.step < self.steps:
            rate = self._set_rates()
            start = self.step * config.batch_size
            chosen = order[start : start + config.batch_size]
            self._take_step(estimator, loss_module, chosen)
            self.step += 1
            progress = self.progress
            on_step(Step(progress, len(chosen), estimator.parts))
            self.epoch_seconds = time.perf_counter() - before
            if received:
                self.save()
                raise TrainingError(
                    f"stopped by {received[0].name} after step {self.step} of epoch "
                    f"{len(self.history) + 1}; go on with --resume (resume=True)"
                )
            if config.minutes is not None and progress >= 1:
                break
            if time.perf_counter() - self.saved > CHECKPOINT_SECONDS:
                self.save()
        seen = min(self.step * config.batch_size, len(order))
        metrics = {
            "epoch": len(self.history) + 1,
            "learning_rate": rate,
            "sequences_per_second": round(seen / self.epoch_seconds, 1),
            **per_sequence(self.totals, seen),
            **self._validate(),
        }
        best = max((line["validation_elbo"] for line in self.history), default=-math.inf)
        self.history.append(metrics)
        self.step, self.totals, self.epoch_seconds = 0, {}, 0.0
        if metrics["validation_elbo"] > best:
            save(self.dsae, self.folder.path / MODEL, overwrite=True)
        self.save()
        self.folder.write_metrics(self.history)
        return metrics

    def _set_rates(self) -> float:
        """Set the learning rate and the rate of static dropout; returns the former."""
        progress, final = self.progress, self.config.final_rate
        left = max(0.0, 1 - progress / self.config.static_dropout_until)
        self.dsae.guide.static_dropout = left * self.dsae.config.static_dropout
        falling = 0.5 * (1 + math.cos(math.pi * progress))
        rate = self.config.learning_rate * (final + (1 - final) * falling)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _take_step(self, estimator: Any, loss_module: nn.Module, chosen: np.ndarray) -> None:
        warmup = self.config.kl_warmup
        epochs = len(self.history) + (self.step + 1) / self.steps
        warm = min(1.0, epochs / warmup) if warmup else 1.0
        weights = warm * self.config.kl_f_weight, warm * self.config.kl_z_weight
        x, mask = self.train.batch(chosen, self.device)
        # Every step draws from a stream of its own, so resuming needs no state of a generator.
        position = [self.config.seed, len(self.history), self.step]
        torch.manual_seed(int(np.random.SeedSequence(position).generate_state(1)[0]))
        loss = loss_module(x, mask, *weights) / len(chosen)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.dsae.parameters(), self.config.clip_norm)
        if not torch.isfinite(loss + norm):
            raise TrainingError(
                f"the loss is {loss.item()} and its gradient's norm {norm.item()} in step "
                f"{self.step + 1} of epoch {len(self.history) + 1}; the last checkpoint is kept. "
                "Try a smaller learning_rate or a larger scale"
            )
        self.optimizer.step()
        for name, value in estimator.parts.items():
            self.totals[name] = self.totals.get(name, 0) + value.double()

    def _validate(self) -> dict[str, Any]:
        self.dsae.eval()
        torch.manual_seed(self.config.seed)  # the same noise each time: epochs can be compared
        parts, active = elbo_parts(
            self.dsae, self.validation, self.config.estimator, self.config.batch_size
        )
        if not math.isfinite(parts["elbo"]):
            raise TrainingError(
                f"the bound on the held-out part is {parts['elbo']} after epoch "
                f"{len(self.history) + 1}; the last checkpoint is kept. Try a smaller learning_rate"
            )
        return {f"validation_{name}": value for name, value in parts.items()} | active


@contextmanager
def _signals() -> Iterator[list[signal.Signals]]:
    """Collects the first SIGINT or SIGTERM instead of acting on it; a second one acts at once."""
    received: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread can handle signals
        return

    def note(number: int, frame: Any) -> None:
        received.append(signal.Signals(number))
        restore()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        yield received
    finally:
        restore()


def _check_data(dsae: DSAE, train: Sequences, config: TrainingConfig) -> None:
    steps = train.x.shape[1]
    if train.frame_shape != dsae.config.frame_shape:
        raise TrainingError(
            f"the frames are {train.frame_shape}, but the model's frame_shape is "
            f"{dsae.config.frame_shape}"
        )
    # Training runs without Pyro's own check of the values.
    if dsae.config.likelihood == "bernoulli" and ((train.x != 0) & (train.x != 255)).any():
        raise TrainingError(
            "the likelihood is bernoulli, but the frames have values other than 0 and 255; "
            "use normal or laplace"
        )
    if steps < 2:
        raise TrainingError(f"the sequences have {steps} step, but a sequence needs two at least")
    if config.batch_size > len(train):
        raise TrainingError(
            f"batch_size is {config.batch_size}, but the train part has {len(train)} sequences"
        )
