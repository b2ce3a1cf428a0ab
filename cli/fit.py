"""``dsae fit``: train a model on a file of sequences."""

import dataclasses
import resource
import sys
import time
import tomllib
from collections.abc import Callable
from typing import Any

import click
import torch

import pyro_dsae
from pyro_dsae import DSAE, ConfigError, ModelConfig, Sequences, TrainingConfig
from pyro_dsae.checkpoint import read
from pyro_dsae.cli.options import REFRESH_SECONDS, device_option, progress_bar
from pyro_dsae.config import GUIDE_FIELDS, PRESETS, check_fields, one_of
from pyro_dsae.datasets import SequenceFile
from pyro_dsae.distributed import World, joined, own_device
from pyro_dsae.guides import GUIDES
from pyro_dsae.likelihoods import LIKELIHOODS
from pyro_dsae.objectives import OBJECTIVES
from pyro_dsae.objectives.elbo import ESTIMATORS
from pyro_dsae.priors import PRIORS
from pyro_dsae.run_folder import read_config
from pyro_dsae.training import CUDA_GRAPH, PRECISIONS, Step
from pyro_dsae.views import STATIC_VIEWS, VIEWS

IN_MEMORY = {"auto": None, "yes": True, "no": False}
TABLES = ("preset", "model", "training")


def _training_option(name: str, kind: Any, help: str) -> Callable:
    """An option for a field of TrainingConfig; left out, it is the preset's or the default."""
    default = getattr(TrainingConfig, name)
    in_presets = any(name in preset["training"] for preset in PRESETS.values())
    if in_presets and default is not None:
        default = "the preset's"
    shown = {} if default is None else {"show_default": str(default)}
    return click.option(f"--{name.replace('_', '-')}", type=kind, help=help, **shown)


def _parsed(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict:
    """Of NAME=VALUE, where a value is written as in TOML, but a string without quotes."""
    parsed: dict[str, Any] = {}
    for option in given:
        name, equals, value = option.partition("=")
        if not equals:
            raise ConfigError(f"option is {option!r}, but must be NAME=VALUE")
        try:
            parsed[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed[name] = value
    return parsed


def _objective_options() -> str:
    """What ``--option`` knows of each objective, with the defaults."""
    lines = ["\b", "Options of the objectives:"]
    for name, objective in OBJECTIVES.items():
        fields = dataclasses.fields(objective.Options)
        lines += [f"  {name}: {field.name}={field.default}" for field in fields]
    return "\n".join(lines)


@click.command(epilog=_objective_options())
@click.argument("data", type=click.Path(dir_okay=False))
@click.argument("run", type=click.Path(file_okay=False))
@click.option("--config", type=click.Path(dir_okay=False), help="TOML file; options here win.")
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="Where a model starts: small, or series for a file of series.",
)
@click.option("--guide", type=click.Choice(list(GUIDES)), help="The preset's if left out.")
@click.option("--prior", type=click.Choice(list(PRIORS)), help="The preset's if left out.")
@click.option(
    "--likelihood", type=click.Choice(list(LIKELIHOODS)), help="The preset's if left out."
)
@click.option("--scale", type=float, help="Scale of the likelihood, in units of x.")
@click.option("--learn-scale", is_flag=True, default=None, help="Train the scale too.")
@click.option("--static-dropout", type=float, help="How often f comes from its prior in training.")
@click.option("--dynamic-view", type=click.Choice(list(VIEWS)), help="What z is inferred from.")
@click.option(
    "--static-view", type=click.Choice(list(STATIC_VIEWS)), help="What f is inferred from."
)
@click.option("--noise-dim", type=int, help="Size of the noise that enters the guide's networks.")
@_training_option(
    "epochs", int, "Passes over the train part; the preset's if --minutes is left out too."
)
@_training_option("minutes", float, "Train for this long instead, by the clock.")
@_training_option("objective", click.Choice(list(OBJECTIVES)), "What is minimised.")
@click.option(
    "--option",
    "objective_options",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_parsed,
    help="An option of the objective, see below; may be repeated.",
)
@_training_option("batch_size", int, "Sequences a step.")
@_training_option("learning_rate", float, "Adam's, at the start of its cosine.")
@_training_option("kl_f_weight", float, "Weight of KL_f in the loss.")
@_training_option("kl_f_growth", float, "Factor by which it has grown at the end.")
@_training_option("kl_z_weight", float, "Weight of KL_z in the loss.")
@_training_option(
    "kl_warmup", float, "Fraction of the training over which the KL weights rise from 0."
)
@_training_option("free_bits", float, "Nats that f and each z_t may cost for nothing.")
@_training_option(
    "static_dropout_until", float, "Fraction of the training over which it falls to 0."
)
@_training_option("estimator", click.Choice(list(ESTIMATORS)), "Of the KL terms.")
@_training_option("precision", click.Choice(list(PRECISIONS)), "Of the convolutions.")
@_training_option("window", int, "Train on so many steps of a sequence, from a random start on.")
@_training_option("seed", int, "Of the weights, the order of the data and the samples.")
@_training_option(
    "generative_from",
    click.Path(),
    "Run whose generative model is kept frozen; a guide alone is fitted.",
)
@device_option
@click.option(
    "--cuda-graph",
    type=click.Choice(CUDA_GRAPH),
    default="auto",
    show_default=True,
    help="Run each step as one CUDA graph: the same numbers, faster.",
)
@click.option(
    "--in-memory",
    type=click.Choice(list(IN_MEMORY)),
    default="auto",
    show_default=True,
    help="Read the data whole, or a batch at a time: the same numbers. auto: whole if it fits.",
)
@click.option("--resume", is_flag=True, help="Go on with the run in RUN, with its own options.")
@click.option("--overwrite", is_flag=True, help="Replace the run in RUN.")
def fit(
    data: str,
    run: str,
    config: str | None,
    preset: str | None,
    device: torch.device,
    cuda_graph: str,
    in_memory: str,
    resume: bool,
    overwrite: bool,
    **options: Any,
) -> None:
    """Train a model on the train part of DATA and keep it in the folder RUN.

    A configuration file holds what the run's own config.json holds: preset = "small" and the tables
    [model] and [training], with the fields of ModelConfig and TrainingConfig.

    On several devices: torchrun --nproc-per-node N -m pyro_dsae.cli fit DATA RUN ..., with the same
    options; each process takes its share of a batch, and the results are those of one process, but
    for objectives and free bits that compare the sequences of a batch.
    """
    for name, value in {"overwrite": overwrite, "preset": preset, "config": config}.items():
        if resume and value:
            raise ConfigError(f"{name} is {value!r}, but a resumed run keeps its own; leave it out")
    given = {key: value for key, value in options.items() if value not in (None, {})}
    tables = read_config(run) if resume else _read_toml(config) if config else {}
    changes = {
        **tables.get("model", {}),
        **{
            field.name: given.pop(field.name)
            for field in dataclasses.fields(ModelConfig)
            if field.name in given
        },
    }
    preset = preset or tables.get("preset")
    chosen = _training(tables.get("training", {}), given)
    wanted = _defaults(chosen.get("objective", "elbo"))
    # A preset's weights shape the generative model; a guide alone is fitted by the bound.
    plain = {"kl_f_weight": 1.0, "kl_f_growth": 1.0, "kl_z_weight": 1.0, "free_bits": 0.0}
    wanted["training"] = {
        **(plain if "generative_from" in chosen else {}),
        **wanted["training"],
        **chosen,
    }
    with SequenceFile.open(data) as file:
        default = "series" if len(file.frame_shape) == 1 else "small"
        training = TrainingConfig.preset(preset or default, **wanted["training"])
        generative = None if resume else training.generative_from
        if generative is None:
            start = {**PRESETS[preset or default]["model"], "frame_shape": file.frame_shape}
        else:
            start = _generative(preset, generative)
        model = ModelConfig.from_dict({**start, **wanted["model"], **changes})
        sequences = file.sequences("train", in_memory=IN_MEMORY[in_memory])
        device = own_device(device)
        with joined(device) as world, _Progress(device, world) as progress:
            torch.manual_seed(training.seed)
            dsae = DSAE(model).to(device)
            progress.start(dsae, sequences)
            pyro_dsae.fit(
                dsae,
                sequences,
                run,
                training,
                resume=resume,
                overwrite=overwrite,
                cuda_graph=cuda_graph,
                on_epoch=progress.epoch,
                on_step=progress.step,
            )
        if world.first:
            click.echo(run)


def _defaults(objective: str) -> dict[str, Any]:
    """What an objective takes for granted, by table."""
    one_of("objective", objective, OBJECTIVES)
    return {"model": {}, "training": {}, **OBJECTIVES[objective].defaults}


def _generative(preset: str | None, generative: str) -> dict[str, Any]:
    """The options of the generative model of another run."""
    if preset is not None:
        raise ConfigError(
            f"preset is {preset!r}, but the generative model of {generative} is kept; leave it out"
        )
    held, _ = read(generative)
    return {key: value for key, value in held.to_dict().items() if key not in GUIDE_FIELDS}


def _read_toml(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            tables = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML file: {error}") from None
    for key, value in tables.items():
        if key not in TABLES:
            raise ConfigError(f"{path} has {key!r}, but must have only: {', '.join(TABLES)}")
        if key != "preset" and not isinstance(value, dict):
            raise ConfigError(f"{path} has {key} = {value!r}, but it must be a table [{key}]")
    return tables


def _training(table: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The options of a file and of the command line, where epochs and minutes exclude another.

    Options of an objective join those of the file, if it is for the same objective.
    """
    check_fields(TrainingConfig, table)
    if {"epochs", "minutes"} & set(given):
        table = {key: value for key, value in table.items() if key not in ("epochs", "minutes")}
    held = table.get("objective")
    if given.get("objective", held) != held:
        table = {key: value for key, value in table.items() if key != "objective_options"}
    elif "objective_options" in given:
        kept = table.get("objective_options", {})
        given = {**given, "objective_options": {**kept, **given["objective_options"]}}
    return {**table, **given}


class _Progress:
    """What the first of the processes says: facts, a bar on a terminal, and one line an epoch."""

    def __init__(self, device: torch.device, world: World) -> None:
        self.device, self.world = device, world
        self.bar = progress_bar(shown=world.first)
        self.shown = 0.0

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def start(self, dsae: DSAE, sequences: Sequences) -> None:
        count = sum(parameter.numel() for parameter in dsae.parameters())
        facts = f"{count:,} parameters, {len(sequences):,} sequences, on {self.device}"
        if self.world.size > 1:
            facts += f", {self.world.size} processes"
        if self.world.first:
            click.echo(facts, err=True)

    def step(self, step: Step) -> None:
        if self.bar.disable:
            return
        self.bar.update(step.progress - self.bar.n)
        if time.perf_counter() - self.shown > REFRESH_SECONDS:  # reading waits for the device
            self.shown = time.perf_counter()
            parts = {name: value.item() / step.sequences for name, value in step.parts.items()}
            loss = parts["kl_f"] + parts["kl_z"] - parts["reconstruction"]
            self.bar.set_postfix_str(
                f"loss {loss:.1f}, KL_f {parts['kl_f']:.1f}, KL_z {parts['kl_z']:.1f} nats"
            )

    def epoch(self, metrics: dict[str, Any]) -> None:
        line = (
            "epoch {epoch}: validation ELBO {validation_elbo:.1f}, KL_f {validation_kl_f:.1f}, "
            "KL_z {validation_kl_z:.1f} nats, active {active_f} of f and {active_z} of z, "
            "{sequences_per_second} sequences/s, peak memory {memory:.1f} GB"
        )
        self.bar.write(line.format(**metrics, memory=_peak_memory(self.device)), file=sys.stderr)


def _peak_memory(device: torch.device) -> float:
    """In GB: of the device, or of the process where it is a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
