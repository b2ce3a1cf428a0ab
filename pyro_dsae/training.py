"""Training: an objective, and one torch optimizer over all parameters of the model.

With ``elbo`` this is SVI through Pyro's own estimators. A step reads no value on the host, where a
GPU would be waited for: what is looked at, the loss too, is looked at now and then. So a step can
be one CUDA graph, and runs the same on several processes.
"""

from __future__ import annotations

import dataclasses
import logging
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

from pyro_dsae.analyses.codes import batches
from pyro_dsae.capture import Captured
from pyro_dsae.checkpoint import MODEL, load_generative, read, save
from pyro_dsae.config import PRESETS, ConfigError, check_fields, one_of
from pyro_dsae.distributed import World
from pyro_dsae.evaluation.bound import elbo_parts
from pyro_dsae.memory import freed_memory_kept
from pyro_dsae.model import DSAE
from pyro_dsae.networks import bfloat16_is_fast, use_bfloat16
from pyro_dsae.objectives import OBJECTIVES
from pyro_dsae.objectives.elbo import ESTIMATORS, per_sequence
from pyro_dsae.registration import unregistered
from pyro_dsae.run_folder import RunFolder, TrainingError
from pyro_dsae.sequences import Sequences
from pyro_dsae.views import partner

NETWORK_BETAS = (0.5, 0.999)  # Radford, Metz & Chintala (2016): a longer memory oscillates
CHECKPOINT_SECONDS = 300  # a kill inside a long epoch costs no more than this
CHECK_STEPS = 50  # between two looks at whether the loss is finite
LEAST_PROGRESS = 1e-3  # at which a KL weight that rises from 0 begins: no scale of Pyro's may be 0
CUDA_GRAPH = ("auto", "on", "off")
PRECISIONS = {"auto": None, "fp32": False, "bf16": True}  # whether the convolutions use bfloat16

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Args:
        epochs: passes over the train part; 10 when neither this nor ``minutes`` is given.
        minutes: train for this long instead, by the clock, validation included. The learning rate
            then follows the clock as well, so two such runs are not equal bit for bit.
        objective: what is minimised, a key of :data:`pyro_dsae.objectives.OBJECTIVES`.
        objective_options: fields of its ``Options``; what is left out gets its default.
        batch_size: sequences a step.
        learning_rate: Adam's; falls along a cosine to ``final_rate`` of it.
        final_rate: fraction of the learning rate at the end.
        clip_norm: the gradient's global norm is clipped to this, in nats a sequence.
        kl_f_weight: weight of KL_f in the loss. Whatever it is, the metrics are unweighted and the
            model with the best ELBO is kept.
        kl_f_growth: how many times that weight KL_f has by the end; it grows along a line. f first
            learns what it can say, then gives up what z says as well.
        kl_z_weight: weight of KL_z in the loss.
        kl_warmup: fraction of the training over which both rise along a line to these weights; 0
            for none.
        free_bits: nats that f and each z_t may cost for nothing; the analytic estimator's, and of
            the objective ``elbo``. See :class:`~pyro_dsae.objectives.elbo.AnalyticELBO`.
        static_dropout_until: fraction of the training over which the model's static dropout falls
            to 0, along a line. By then z carries what happens; later it would take up appearance.
        estimator: of the objective ``elbo``, a key of
            :data:`pyro_dsae.objectives.elbo.ESTIMATORS`.
        precision: ``bf16`` or ``fp32`` convolutions; ``auto`` takes bf16 where the device has
            instructions for it.
        validation_fraction: fraction of the groups that is held out to choose the best weights.
        window: train and validate on so many steps of each sequence, from a start that is drawn
            anew every epoch, of sequences too long for the memory; None for all of them.
        seed: drives the held-out part, the order of the data, the windows and the samples.
        generative_from: a run, or a model file, whose generative model is taken and kept frozen, so
            that a guide alone is trained; None for all that is trained.
    """

    epochs: int | None = None
    minutes: float | None = None
    objective: str = "elbo"
    objective_options: dict = dataclasses.field(default_factory=dict)
    batch_size: int = 8
    learning_rate: float = 3e-3
    final_rate: float = 0.02
    clip_norm: float = 1e4
    kl_f_weight: float = 1.0
    kl_f_growth: float = 1.0
    kl_z_weight: float = 1.0
    kl_warmup: float = 0.0
    free_bits: float = 0.0
    static_dropout_until: float = 1.0
    estimator: str = "analytic"
    precision: str = "auto"
    validation_fraction: float = 0.05
    window: int | None = None
    seed: int = 0
    generative_from: str | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None and self.minutes is not None:
            raise ConfigError(
                f"epochs is {self.epochs} and minutes is {self.minutes}, but give only one of them"
            )
        if self.epochs is None and self.minutes is None:
            object.__setattr__(self, "epochs", 10)
        one_of("objective", self.objective, OBJECTIVES)
        one_of("estimator", self.estimator, ESTIMATORS)
        one_of("precision", self.precision, PRECISIONS)
        for field in ("epochs", "batch_size"):
            if getattr(self, field) is not None and getattr(self, field) < 1:
                raise ConfigError(f"{field} is {getattr(self, field)}, but must be at least 1")
        if self.window is not None and self.window < 2:
            raise ConfigError(f"window is {self.window}, but must be at least 2")
        weights = ("kl_f_weight", "kl_f_growth", "kl_z_weight")
        for field in ("minutes", "learning_rate", "clip_norm", *weights, "static_dropout_until"):
            if getattr(self, field) is not None and not 0 < getattr(self, field) < math.inf:
                raise ConfigError(f"{field} is {getattr(self, field)}, but must be positive")
        for field in ("free_bits", "seed"):
            if not getattr(self, field) >= 0:
                raise ConfigError(f"{field} is {getattr(self, field)}, but must not be negative")
        if self.seed >= 2**63:
            raise ConfigError(f"seed is {self.seed}, but must be below 2**63")
        if not 0 <= self.kl_warmup <= 1:
            raise ConfigError(f"kl_warmup is {self.kl_warmup}, but must be a fraction from 0 to 1")
        if self.free_bits and self.estimator != "analytic":
            raise ConfigError(
                f"free_bits is {self.free_bits}, but estimator {self.estimator!r} has none; "
                "use 'analytic'"
            )
        objective = OBJECTIVES[self.objective]
        for field in ("estimator", "free_bits"):
            value, default = getattr(self, field), getattr(TrainingConfig, field)
            if not objective.estimates and value != default:
                raise ConfigError(
                    f"{field} is {value!r}, but objective {self.objective!r} has none; leave "
                    f"it at {default!r}, or use another preset"
                )
        check_fields(objective.Options, self.objective_options, f"objective {self.objective!r}")
        options = dataclasses.asdict(objective.Options(**self.objective_options))
        object.__setattr__(self, "objective_options", options)
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
        sequences: sequences in the batch, those of this process.
        parts: ``reconstruction``, ``kl_f`` and ``kl_z`` in nats and the objective's own, summed
            over the batch. They lie on the device; reading them waits for it.
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
    cuda_graph: str = "auto",
    on_epoch: Callable[[dict[str, Any]], None] = lambda metrics: None,
    on_step: Callable[[Step], None] = lambda step: None,
) -> DSAE:
    """Train ``dsae`` in place, where it lies, and leave it with its best weights in eval mode.

    The folder ``run`` gets ``config.json``, ``metrics.jsonl`` (a line an epoch, nats a sequence),
    ``checkpoint.pt`` (to resume) and ``model.safetensors`` (the weights with the best bound on the
    held-out part, or the last ones where the objective is no bound). A resumed run of so many
    epochs ends with bit for bit the weights and metrics of an uninterrupted one, all but the
    seconds. SIGINT (Ctrl-C) and SIGTERM end the step at hand, save the checkpoint and raise
    TrainingError; a second one acts at once.

    Where torch.distributed is initialised all its processes train together, each on its share of
    every batch, from equal weights and data; the first one writes the files and calls back.

    Meanwhile the process keeps what memory it frees, see :mod:`pyro_dsae.memory`.

    Args:
        resume: go on from the checkpoint in ``run``.
        overwrite: replace a run that is in ``run``.
        cuda_graph: ``on`` runs each step as one CUDA graph, ``off`` does not, ``auto`` does where
            it can and logs a warning where a GPU cannot. The numbers are the same.
        on_epoch: called with each line of the metrics.
        on_step: called after each step.

    Raises:
        TrainingError: when ``run`` holds a run and neither ``resume`` nor ``overwrite`` is given,
            when there is nothing to resume or it belongs to another model, training or data, when
            the data do not fit, when the loss is not finite (the last good checkpoint stays), when
            a step cannot be a CUDA graph but has to, when another process is lost, or when a signal
            stopped it.
        ConfigError: when the objective cannot be that of this model.
        CheckpointError: when ``generative_from`` is no run whose generative model fits.
    """
    config = config or TrainingConfig()
    one_of("cuda_graph", cuda_graph, dict.fromkeys(CUDA_GRAPH))
    try:
        train, validation = sequences.hold_out(config.validation_fraction, config.seed)
    except ValueError as error:
        raise TrainingError(str(error)) from None
    if config.window is not None:
        if config.window > train.steps:
            raise TrainingError(
                f"window is {config.window}, but the sequences have {train.steps} steps"
            )
        validation = validation.windows(config.window, config.seed)  # the same at each epoch
    world = World.here()
    _check_data(dsae, train, config)
    if dsae.guide.static_view is partner:
        _check_pairs(world, train, config)
    _check_shares(world, train, validation, config)
    settings = {
        "model": dsae.config.to_dict(),
        "training": dataclasses.asdict(config),
        "data": dict(sequences.origin),
    }
    folder = RunFolder(run, settings)
    with world.watched(), _own_dropout(dsae):
        if world.first and not resume:
            folder.check(overwrite)  # before the model is touched
        if config.generative_from is not None:
            dsae.model.freeze()
        training = _Training(dsae, train, validation, config, folder, world, cuda_graph)
        if resume:
            training.restore()
        else:
            if config.generative_from is not None:
                load_generative(dsae, config.generative_from)
            training.create(overwrite)
        devices = [training.device] if training.device.type == "cuda" else []
        # Pyro's validation costs as much as its sampling; the loss is checked anyway.
        with (
            _signals(second_acts=world.size == 1) as received,
            torch.random.fork_rng(devices),
            pyro.validation_enabled(False),
            freed_memory_kept(),
        ):
            while not training.done:
                metrics = training.epoch(received, on_step)
                if world.first:
                    on_epoch(metrics)
    dsae.load_state_dict(read(training.folder.path)[1])
    return dsae.eval()


@contextmanager
def _own_dropout(dsae: DSAE) -> Iterator[None]:
    """In the end gives the guide its own static dropout back: a trainer's is a tensor."""
    try:
        yield
    finally:
        dsae.guide.static_dropout = dsae.config.static_dropout


class _Training:
    """The state of a training and how it goes on: all that a checkpoint holds."""

    def __init__(
        self,
        dsae: DSAE,
        train: Sequences,
        validation: Sequences,
        config: TrainingConfig,
        folder: RunFolder,
        world: World,
        cuda_graph: str,
    ) -> None:
        self.dsae, self.config, self.folder, self.world = dsae, config, folder, world
        self.device = next(dsae.parameters()).device
        self.on_gpu = self.device.type == "cuda"
        self.train, self.validation = train.resident(self.device), validation
        fast = PRECISIONS[config.precision]
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            self.objective = OBJECTIVES[config.objective](dsae, config, len(train))
        use_bfloat16(self.objective, bfloat16_is_fast(self.device) if fast is None else fast)
        self.trained: dict[str, nn.Module] = {"model": dsae}
        self.rates, betas = {"model": config.learning_rate}, {"model": (0.9, 0.999)}
        if len(self.objective.networks):
            self.trained["networks"] = self.objective.networks.to(self.device)
            self.rates["networks"], betas["networks"] = self.objective.learning_rate, NETWORK_BETAS
        self.parameters = {name: list(of.parameters()) for name, of in self.trained.items()}
        # What changes from step to step is a tensor: a number would be a constant to a CUDA graph.
        names = (*self.trained, "static_dropout", "kl_f_weight", "kl_z_weight")
        # Fused Adam reads a float32 on a GPU; on a CPU the rate is exact.
        precise = torch.float32 if self.on_gpu else torch.float64
        self.now = {name: torch.ones((), dtype=precise, device=self.device) for name in names}
        if dsae.config.static_dropout:
            dsae.guide.static_dropout = self.now["static_dropout"]
        self.optimizers = {
            name: torch.optim.Adam(
                parameters,
                lr=self.now[name],
                betas=betas[name],
                fused=True,
                capturable=self.on_gpu,
            )
            for name, parameters in self.parameters.items()
        }
        self.loss = world.wrap(self.objective, self.objective.idle)
        self.compute: Callable[..., dict[str, Tensor]] = self._compute
        obstacle = self._graph_obstacle()
        if obstacle is None and cuda_graph != "off":
            self.compute = Captured(self._compute, config.batch_size)
        elif cuda_graph == "on":
            raise TrainingError(f"a step cannot be a CUDA graph: {obstacle}; leave cuda_graph out")
        elif cuda_graph == "auto" and self.on_gpu:
            log.warning("a step cannot be a CUDA graph, which would be faster: %s", obstacle)
        self.history: list[dict[str, Any]] = []
        self.steps = math.ceil(len(self._order()) / config.batch_size)  # of an epoch
        self.step = 0  # within the epoch
        self.rate = 0.0  # learning rate of the latest step
        self.totals: dict[str, Tensor] = {}  # of the epoch so far, of this process
        # Loss, norm of its gradient and number of the latest step, or of the first one that failed.
        self.health = torch.zeros(3, dtype=torch.float64, device=self.device)
        self.epoch_seconds = 0.0
        self.started = time.perf_counter()
        self.clock = self.saved = 0.0  # seconds of training that all processes agree on

    def _graph_obstacle(self) -> str | None:
        """Why a step cannot be a CUDA graph; None if it can."""
        if not self.on_gpu:
            return f"the device is {self.device}"
        if self.world.size > 1:
            return f"{self.world.size} processes train together"
        if (self.train.lengths < (self.config.window or self.train.steps)).any():
            return "the sequences differ in length"
        if self.train.mask is not None and not self.train.mask.all():
            return "values are missing"
        if self.config.objective != "elbo" or self.config.estimator != "analytic":
            return (
                "only the objective 'elbo' with the analytic estimator reads no value on the host"
            )
        return None

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds. All processes ask for it together."""
        return {
            "history": self.history,
            "step": self.step,
            "learning_rate": self.rate,
            "totals": self.world.sum(self.totals),
            "epoch_seconds": self.epoch_seconds,
            "seconds": time.perf_counter() - self.started,
            "trained": {name: module.state_dict() for name, module in self.trained.items()},
            "optimizers": {name: each.state_dict() for name, each in self.optimizers.items()},
        }

    def create(self, overwrite: bool) -> None:
        state = self.state()
        if self.world.first:
            self.folder.create(state, overwrite)

    def save(self) -> None:
        """Save a checkpoint, unless the loss was not finite: the last good one stays."""
        self._check_loss()
        self.saved = self.clock
        state = self.state()
        if self.world.first:
            self.folder.save(state)

    def restore(self) -> None:
        state = self.folder.restore()
        for name, module in self.trained.items():
            try:
                module.load_state_dict(state["trained"][name])
                self.optimizers[name].load_state_dict(state["optimizers"][name])
            except (RuntimeError, ValueError):  # by a part of one's own, which no config names
                raise TrainingError(
                    f"{self.folder.path}: was trained with a model of other parts; pass the same "
                    "ones to DSAE, or choose another folder"
                ) from None
            for group in self.optimizers[name].param_groups:  # the checkpoint's are of its device
                group["lr"], group["capturable"] = self.now[name], self.on_gpu
        self.history, self.step = state["history"], state["step"]
        self.rate = state["learning_rate"]
        own = 1 if self.world.first else 0  # the first goes on with the sums of all
        self.totals = {name: own * total.to(self.device) for name, total in state["totals"].items()}
        self.epoch_seconds = state["epoch_seconds"]
        self.started = time.perf_counter() - state["seconds"]
        self.clock = self.saved = state["seconds"]
        if self.world.first:
            self.folder.write_metrics(self.history)  # without an epoch that no checkpoint holds

    @property
    def progress(self) -> float:
        """Fraction of the training that is done."""
        if self.config.minutes is None:
            return (len(self.history) + self.step / self.steps) / self.config.epochs
        return min(1.0, self.clock / (60 * self.config.minutes))

    @property
    def done(self) -> bool:
        return self.progress >= 1 and self.step == 0 and bool(self.history)

    def epoch(
        self, received: list[signal.Signals], on_step: Callable[[Step], None]
    ) -> dict[str, Any]:
        """Train to the end of the epoch or of the minutes, validate, save; returns the metrics."""
        config = self.config
        self.objective.train()
        order, train = self._order(), self.train
        if config.window is not None:  # by other random numbers than the order's
            train = train.windows(config.window, [config.seed, len(self.history), 1])
        before = time.perf_counter() - self.epoch_seconds
        while self.step < self.steps:
            self.rate = self._set_rates()
            start = self.step * config.batch_size
            own, parts = self._take_step(train, order[start : start + config.batch_size])
            self.step += 1
            if self.world.first:
                on_step(Step(self.progress, own, parts))
            self.epoch_seconds = time.perf_counter() - before
            stopped = self._agree(received)
            if stopped:
                self.save()
                raise TrainingError(
                    f"stopped by {stopped.name} after step {self.step} of epoch "
                    f"{len(self.history) + 1}; go on with --resume (resume=True)"
                )
            if config.minutes is not None and self.progress >= 1:
                break
            if self.step % CHECK_STEPS == 0:
                self._check_loss()
            if self.clock - self.saved > CHECKPOINT_SECONDS:
                self.save()
        self._check_loss()
        seen = min(self.step * config.batch_size, len(order))
        metrics = {
            "epoch": len(self.history) + 1,
            "learning_rate": self.rate,
            "sequences_per_second": round(seen / self.epoch_seconds, 1),
            **per_sequence(self.world.sum(self.totals), seen),
            **self._validate(),
        }
        best = max((line["validation_elbo"] for line in self.history), default=-math.inf)
        self.history.append(metrics)
        self.step, self.totals, self.epoch_seconds = 0, {}, 0.0
        better = not self.objective.bound or metrics["validation_elbo"] > best
        if self.world.first and better:
            save(self.dsae, self.folder.path / MODEL, overwrite=True)
        self.save()
        if self.world.first:
            self.folder.write_metrics(self.history)
        self._agree(received)
        return metrics

    def _order(self) -> np.ndarray:
        """The sequences of the epoch, in the order of its batches."""
        position = [self.config.seed, len(self.history)]
        if self.dsae.guide.static_view is partner:
            return self.train.paired(position)
        return np.random.default_rng(position).permutation(len(self.train))

    def _agree(self, received: list[signal.Signals]) -> signal.Signals | None:
        """Set the clock to that of the first process; returns a signal that any has received."""
        clock = time.perf_counter() - self.started if self.world.first else 0.0
        number, self.clock = self.world.largest(received[0] if received else 0, clock)
        return signal.Signals(int(number)) if number else None

    def _set_rates(self) -> float:
        """Set what changes from step to step; returns the model's learning rate."""
        config, progress = self.config, self.progress
        left = max(0.0, 1 - progress / config.static_dropout_until)
        falling = 0.5 * (1 + math.cos(math.pi * progress))
        share = config.final_rate + (1 - config.final_rate) * falling
        grown, warm = 1 + progress * (config.kl_f_growth - 1), 1.0
        if config.kl_warmup:
            warm = min(1.0, max(progress, LEAST_PROGRESS) / config.kl_warmup)
        now = {
            **{name: share * rate for name, rate in self.rates.items()},
            "static_dropout": left * self.dsae.config.static_dropout,
            "kl_f_weight": warm * grown * config.kl_f_weight,
            "kl_z_weight": warm * config.kl_z_weight,
        }
        for name, value in now.items():
            self.now[name].fill_(value)
        self.objective.progress = progress
        return now["model"]

    def _take_step(self, train: Sequences, chosen: np.ndarray) -> tuple[int, dict[str, Tensor]]:
        """A step on a batch; returns this process's number of sequences, and parts of the loss."""
        own = self.world.share(chosen)
        x, mask = train.batch(own, self.device)
        # Every step draws from a stream of its own, so resuming needs no state of a generator.
        position = [self.config.seed, len(self.history), self.step]
        # torch.manual_seed asks for every kind of device that there could be, at each step.
        alone = self.device.type == "cpu"
        seed = torch.default_generator.manual_seed if alone else torch.manual_seed
        seed(int(np.random.SeedSequence(position).generate_state(1)[0]))
        with self.world.whole_batch(len(chosen)):
            found = self.compute(x, mask, self.world.size / len(chosen))
        now = [found.pop("loss"), found.pop("norm"), torch.full_like(self.health[0], self.step)]
        healthy = self.health.isfinite().all()
        self.health = torch.where(healthy, torch.stack([t.double() for t in now]), self.health)
        for name, value in found.items():
            self.totals[name] = self.totals.get(name, 0) + value.double()
        return len(own), found

    def _compute(self, x: Tensor, mask: Tensor | None, weight: float) -> dict[str, Tensor]:
        """A step as a function of tensors: the loss, the norm of its gradient, and the parts."""
        with unregistered():
            loss = weight * self.loss(x, mask, self.now["kl_f_weight"], self.now["kl_z_weight"])
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        loss.backward()
        norms = {
            f"{name}_gradient_norm": nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
            for name, parameters in self.parameters.items()
        }
        for optimizer in self.optimizers.values():
            optimizer.step()
        averaged = {name: norm * len(x) for name, norm in norms.items()}  # over sequences
        found = {"loss": loss.detach(), "norm": sum(norms.values())}
        return {**found, **self.objective.parts, **averaged}

    def _check_loss(self) -> None:
        """Raise TrainingError if any step so far had a loss or a gradient that is not finite."""
        loss, norm, step = self.health.tolist()  # waits for the device
        if not math.isfinite(loss + norm):
            raise TrainingError(
                f"the loss is {loss} and its gradient's norm {norm} in step {int(step) + 1} of "
                f"epoch {len(self.history) + 1}; the last checkpoint is kept. Try a smaller "
                "learning_rate or a larger scale"
            )

    def _validate(self) -> dict[str, Any]:
        self.dsae.eval()
        torch.manual_seed(self.config.seed)  # the same noise each time: epochs can be compared
        batch = self.config.batch_size
        with unregistered():
            parts, active = elbo_parts(self.dsae, self.validation, batch, self.world)
        if not math.isfinite(parts["elbo"]):
            raise TrainingError(
                f"the bound on the held-out part is {parts['elbo']} after epoch "
                f"{len(self.history) + 1}; the last checkpoint is kept. Try a smaller learning_rate"
            )
        return {f"validation_{name}": value for name, value in parts.items()} | active


@contextmanager
def _signals(second_acts: bool) -> Iterator[list[signal.Signals]]:
    """Collects SIGINT and SIGTERM instead of acting on them; a second one may act at once.

    Not under a launcher of processes, whose own copy of the first it is; it kills what goes on.
    """
    received: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread can handle signals
        return

    def note(number: int, frame: Any) -> None:
        received.append(signal.Signals(number))
        if second_acts:
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
    if train.frame_shape != dsae.config.frame_shape:
        raise TrainingError(
            f"the frames are {train.frame_shape}, but the model's frame_shape is "
            f"{dsae.config.frame_shape}"
        )
    # Training runs without Pyro's own check of the values.
    if dsae.config.likelihood == "bernoulli" and not _is_binary(train):
        raise TrainingError(
            "the likelihood is bernoulli, but the frames have values other than 0 and 255; "
            "use normal or laplace"
        )
    if train.steps < 2:
        raise TrainingError(
            f"the sequences have {train.steps} step, but a sequence needs two at least"
        )
    if config.batch_size > len(train):
        raise TrainingError(
            f"batch_size is {config.batch_size}, but the train part has {len(train)} sequences"
        )


def _check_pairs(world: World, train: Sequences, config: TrainingConfig) -> None:
    """Raise TrainingError where there are no pairs, or a batch would tear one apart."""
    if not len(train.paired(0)):
        raise TrainingError(
            "static_view is 'partner', but no two sequences of the train part are known to look "
            "alike; use none"
        )
    if config.batch_size % 2 or world.size > 1:
        raise TrainingError(
            "static_view is 'partner', which takes an even batch_size in one process, but "
            f"batch_size is {config.batch_size} in {world.size}"
        )


def _is_binary(sequences: Sequences) -> bool:
    for rows in batches(len(sequences)):
        x = sequences.frames(rows)
        if ((x != 0) & (x != 255)).any():
            return False
    return True


def _check_shares(
    world: World, train: Sequences, validation: Sequences, config: TrainingConfig
) -> None:
    """Raise TrainingError where a batch is too small for every process to get a sequence."""
    last = len(train) % config.batch_size or config.batch_size
    sizes = {
        "a batch": config.batch_size,
        "the last batch of an epoch": last,
        "the held-out part": len(validation),
    }
    for name, size in sizes.items():
        if size < world.size:
            raise TrainingError(
                f"{name} has {size} sequences, but {world.size} processes train together; change "
                "batch_size or validation_fraction, or use fewer processes"
            )
