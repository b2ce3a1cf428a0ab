"""``dsae fit``: train a model on a file of sequences."""

from typing import Any

import click
import torch

import pyro_dsae
from pyro_dsae import DSAE, ConfigError, ModelConfig, TrainingConfig
from pyro_dsae.config import PRESETS
from pyro_dsae.datasets import SequenceFile
from pyro_dsae.guides import GUIDES
from pyro_dsae.objectives.elbo import ESTIMATORS
from pyro_dsae.priors import PRIORS

DEFAULTS = TrainingConfig()


@click.command()
@click.argument("data", type=click.Path(dir_okay=False))
@click.argument("run", type=click.Path(file_okay=False))
@click.option("--preset", type=click.Choice(list(PRESETS)), default="small", show_default=True)
@click.option("--guide", type=click.Choice(list(GUIDES)), help="The preset's if left out.")
@click.option("--prior", type=click.Choice(list(PRIORS)), help="The preset's if left out.")
@click.option("--scale", type=float, help="Scale of the likelihood, in units of a pixel in [0, 1].")
@click.option("--epochs", type=int, default=DEFAULTS.epochs, show_default=True)
@click.option("--batch-size", type=int, default=DEFAULTS.batch_size, show_default=True)
@click.option("--learning-rate", type=float, default=DEFAULTS.learning_rate, show_default=True)
@click.option("--kl-warmup", type=int, default=DEFAULTS.kl_warmup, show_default=True)
@click.option(
    "--estimator",
    type=click.Choice(list(ESTIMATORS)),
    default=DEFAULTS.estimator,
    show_default=True,
)
@click.option("--seed", type=int, default=DEFAULTS.seed, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--resume", is_flag=True, help="Go on after the last whole epoch of RUN.")
def fit(
    data: str,
    run: str,
    preset: str,
    guide: str | None,
    prior: str | None,
    scale: float | None,
    seed: int,
    device: str,
    resume: bool,
    **training: Any,
) -> None:
    """Train a model on the train part of DATA and keep it in the folder RUN."""
    config = TrainingConfig(seed=seed, **training)
    where = _device(device)
    with SequenceFile.open(data) as file:
        given = {"guide": guide, "prior": prior, "scale": scale}
        changes = {key: value for key, value in given.items() if value is not None}
        model = ModelConfig.preset(preset, frame_shape=file.frame_shape, **changes)
        sequences = file.sequences("train")
    torch.manual_seed(seed)
    dsae = DSAE(model).to(where)
    count = sum(parameter.numel() for parameter in dsae.parameters())
    click.echo(f"{count:,} parameters, {len(sequences):,} sequences, on {where}", err=True)
    pyro_dsae.fit(dsae, sequences, run, config, resume=resume, report=_report)
    click.echo(f"{run}/model.safetensors")


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device is {name!r}, but must be auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ConfigError(f"device is {name!r}, but {found} CUDA devices are here; use cpu or auto")
    return device


def _report(metrics: dict[str, Any]) -> None:
    click.echo(
        "epoch {epoch}: validation ELBO {validation_elbo:.1f}, KL_f {validation_kl_f:.1f}, "
        "KL_z {validation_kl_z:.1f} nats, active {active_f} of f and {active_z} of z, "
        "{sequences_per_second} sequences/s".format(**metrics),
        err=True,
    )
