"""``dsae reconstruct``: sequences beside their reconstructions."""

import click
import torch

from pyro_dsae import line_plots, plotting
from pyro_dsae.analyses.reconstruct import psnr, reconstruction_mse
from pyro_dsae.analyses.spread import spread
from pyro_dsae.analyses.swap import swap
from pyro_dsae.cli import options


@click.command()
@options.picture_options("the sequences shown")
@options.shown_option
def reconstruct(
    run: str,
    data: str | None,
    part: str,
    sequences: int,
    out: str | None,
    seed: int,
    device: torch.device,
    as_json: bool,
) -> None:
    """Draw sequences beside their reconstructions; print the error over the whole part."""
    with options.open_run(run, data, part, device) as opened:
        shown = opened.choose("sequences", sequences, seed)
        mse = reconstruction_mse(opened.dsae, opened.sequences, opened.codes)
        drawn = swap(opened.dsae, opened.sequences, shown, shown)
        originals = [opened.frames(i) for i in shown]
        pictured = (
            f"Reconstructions: {opened.title}",
            [opened.describe(i) for i in shown],
            originals,
            options.cut(drawn, originals),
        )
        facts = {
            **opened.about(),
            "sequences": len(opened.sequences),
            "reconstruction_mse": mse,
        }
        if opened.dsae.config.of_series:
            spreads = spread(
                opened.dsae,
                opened.sequences,
                lambda: swap(opened.dsae, opened.sequences, shown, shown, sample=True),
                seed,
            )
            bands = options.cut(spreads, originals)
            figure = line_plots.reconstructions(*pictured, bands, opened.channels)
        else:
            figure = plotting.reconstructions(*pictured)
            facts["reconstruction_psnr"] = psnr(mse)
    paths = options.write_figures(run, out, {"reconstruct.png": plotting.png(figure)})
    options.print_facts({**facts, "figures": paths}, as_json)
