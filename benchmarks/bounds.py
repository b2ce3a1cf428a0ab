"""The three guides on one and the same generative model: bounds and inference gaps, as a table.

    python benchmarks/bounds.py docs/bounds.md guides/ --on sprites.h5 runs/sprites --minutes 10

Each guide is fitted to the frozen generative model for as long, by the trainer of the package; a
command that was stopped goes on where it was. All bounds are in nats a sequence, over the same
sequences, float32 networks, and with the same seed for each guide.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from pages import command, commit, table
from pyro_dsae import DSAE, Sequences, TrainingConfig, fit, load
from pyro_dsae.checkpoint import read, write_whole
from pyro_dsae.cli.options import device_option
from pyro_dsae.datasets import SequenceFile
from pyro_dsae.evaluation.bound import bounds, mean_and_error
from pyro_dsae.guides import GUIDES
from pyro_dsae.run_folder import CONFIG

DRAWS = (1, 16, 256)  # K of the importance-weighted bounds


def fit_guide(
    name: str, sequences: Sequences, generative: str, run: Path, device: torch.device, **how: Any
) -> DSAE:
    """The model of the run ``generative`` with another guide, fitted in the folder ``run``.

    how: options of TrainingConfig.
    """
    held, _ = read(generative)
    torch.manual_seed(how["seed"])
    config = dataclasses.replace(held, guide=name, static_dropout=0.0, dynamic_view="none")
    training = TrainingConfig(generative_from=generative, **how)
    fit(
        DSAE(config).to(device),
        sequences,
        run,
        training,
        resume=(run / CONFIG).exists(),
        on_epoch=lambda line: click.echo(f"{run}: {line['validation_elbo']:.1f} nats", err=True),
    )
    return load(run).to(device)


def rows_of(data: str, found: Mapping[str, Mapping[int, torch.Tensor]]) -> list[list[str]]:
    """The rows of one generative model, from the bounds L_k (N,) of each k for each guide."""
    tightest = max((bound[DRAWS[-1]] for bound in found.values()), key=lambda values: values.mean())
    rows = []
    for guide, bound in found.items():
        figures = [bound[k] for k in DRAWS] + [tightest - bound[1]]
        cells = ["{:.2f} ± {:.2f}".format(*mean_and_error(values)) for values in figures]
        rows.append([data, f"`{guide}`", *cells])
    return rows


def page(rows: list[list[str]], facts: list[str]) -> str:
    """The whole Markdown page."""
    heads = ["data", "guide", "ELBO (K = 1)", *(f"K = {k}" for k in DRAWS[1:]), "inference gap"]
    return "\n".join(
        [
            "# Three guides on one generative model",
            "",
            "Importance-weighted bounds on log p(x) in nats a sequence, mean over sequences ± its",
            "standard error. With K = 1 the bound is the ELBO. All guides bound the same evidence,",
            f"so the inference gap is the highest bound of any with K = {DRAWS[-1]} less",
            "the ELBO, paired by sequence: at most the KL from the guide to the posterior, in",
            "expectation. Where a guide's own bound stays below the highest, its draws miss, on",
            "some sequences, what explains them best. The gap holds what a guide cannot say, and",
            "what its training has not found: `full` can be all that `factorized` is.",
            "",
            *table(heads, rows),
            "",
            *(f"* {fact}" for fact in facts),
            "",
        ]
    )


@click.command()
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("runs", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--on",
    type=(str, str),
    multiple=True,
    required=True,
    metavar="DATA RUN",
    help="A data file and a run on it whose generative model is used; may be given again.",
)
@click.option("--epochs", type=int, help="Passes over the train part for each guide.")
@click.option("--minutes", type=float, help="Time for each guide instead, by the clock.")
@click.option("--batch-size", type=int, default=16, show_default=True, help="Sequences a step.")
@click.option(
    "--sequences", type=int, default=200, show_default=True, help="Of the test part, at random."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is random.")
@device_option
def main(
    out: Path,
    runs: Path,
    on: tuple[tuple[str, str], ...],
    epochs: int | None,
    minutes: float | None,
    batch_size: int,
    sequences: int,
    seed: int,
    device: torch.device,
) -> None:
    """Fit every guide in a folder of RUNS and write the table to OUT."""
    how = {"epochs": epochs, "minutes": minutes, "batch_size": batch_size, "seed": seed}
    rows, facts = [], [f"command: `{command()}`"]
    for path, generative in on:
        with SequenceFile.open(path) as file:
            train, test, name = file.sequences("train"), file.sequences("test"), file.name
        chosen = np.random.default_rng(seed).permutation(len(test))[:sequences]
        found = {}
        for guide in GUIDES:
            dsae = fit_guide(guide, train, generative, runs / name / guide, device, **how)
            found[guide] = bounds(dsae, test.take(chosen), DRAWS, seed=seed)
        rows += rows_of(name, found)
        facts.append(f"{name}: {len(chosen)} of {len(test)} test sequences")
    spent = f"{minutes} minutes" if minutes else f"{TrainingConfig(epochs=epochs).epochs} epochs"
    facts += [
        f"each guide: {spent}, seed {seed}, on {device.type}",
        f"commit {commit()}, torch {torch.__version__}",
    ]
    write_whole(out, page(rows, facts).encode())
    click.echo(out)


if __name__ == "__main__":
    main()
