"""``dsae sample``: new sequences from the prior."""

import click
import torch

from pyro_dsae import line_plots
from pyro_dsae.cli import options
from pyro_dsae.plotting import Block, Row, gif, png, sheet
from pyro_dsae.sequences import Standard, restore

COLUMNS = 6  # of the moving picture


@click.command()
@options.run_argument
@click.option(
    "--sequences",
    type=click.IntRange(min=1),
    default=6,
    show_default=True,
    help="How many sequences to draw.",
)
@click.option(
    "--steps", type=click.IntRange(min=1), default=8, show_default=True, help="Their length."
)
@options.out_option
@options.seed_option("the samples")
@options.device_option
@options.json_option
def sample(
    run: str,
    sequences: int,
    steps: int,
    out: str | None,
    seed: int,
    device: torch.device,
    as_json: bool,
) -> None:
    """Draw new sequences: f and z from their priors."""
    dsae, config = options.open_model(run, device)
    torch.manual_seed(seed)
    standard = Standard.of(config.get("data", {}))
    drawn = list(restore(dsae.sample(sequences, steps), standard))
    title = f"Samples from the prior: {options.title(run)}"
    if dsae.config.of_series:
        figure = line_plots.samples(title, drawn, options.channel_names(dsae, standard))
        figures = {"sample.png": png(figure)}
    else:
        rows = [Row(f"sample {n + 1}", frames) for n, frames in enumerate(drawn)]
        grid = [drawn[n : n + COLUMNS] for n in range(0, sequences, COLUMNS)]
        figures = {
            "sample.png": png(sheet(title, [Block("", rows)])),
            "sample.gif": gif([""] * len(grid[0]), grid),
        }
    options.print_facts({"figures": options.write_figures(run, out, figures)}, as_json)
