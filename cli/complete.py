"""``dsae complete``: values hidden at random, and what the model fills in."""

import io
from pathlib import Path

import click
import numpy as np
import torch

from pyro_dsae import line_plots, plotting
from pyro_dsae.analyses.complete import HIDDEN, completion_errors, hide
from pyro_dsae.analyses.complete import complete as fill_in
from pyro_dsae.analyses.complete import fill as fill_missing
from pyro_dsae.analyses.spread import spread
from pyro_dsae.checkpoint import write_whole
from pyro_dsae.cli import options
from pyro_dsae.datasets.hdf5 import check_output


@click.command()
@options.picture_options("what is hidden and the sequences shown")
@click.option(
    "--missing",
    type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Fraction of the frames, or values, of each sequence to hide; never all.",
)
@click.option(
    "--hide",
    "what",
    type=click.Choice(list(HIDDEN)),
    default="values",
    show_default=True,
    help="What of a series to hide: single values, whole steps or whole channels.",
)
@click.option(
    "--fill",
    type=click.Path(),
    help="Also write the part to this .npz file, with what is missing in the data filled in.",
)
@click.option("--overwrite", is_flag=True, help="Replace that file.")
@options.shown_option
def complete(
    run: str,
    missing: float,
    what: str,
    fill: str | None,
    overwrite: bool,
    data: str | None,
    part: str,
    sequences: int,
    out: str | None,
    seed: int,
    device: torch.device,
    as_json: bool,
) -> None:
    """Hide frames, or single values of a series, and fill them in; print the error over all hidden
    ones of the part.

    Beside it stand the errors of the nearest observed one before, or the first after, and of the
    mean of those observed in the sequence. The file of --fill has the arrays x, in units of the
    data and zero after a sequence's length, observed, length and id.
    """
    if fill is not None:
        check_output(fill, overwrite)
    with options.open_run(run, data, part, device) as opened:
        filled = None if fill is None else fill_missing(opened.dsae, opened.sequences)
        observed = hide(opened.sequences.observed(), missing, seed, what)
        shown = opened.choose("sequences", sequences, seed)
        errors = completion_errors(opened.dsae, opened.sequences, observed)
        few = opened.dsae, opened.sequences.take(shown), observed[shown]
        originals = [opened.frames(i) for i in shown]
        pictured = (
            f"Completions: {opened.title}",
            [opened.describe(i) for i in shown],
            originals,
            options.cut(fill_in(*few), originals),
            options.cut(observed[shown], originals),
        )
        if opened.dsae.config.of_series:
            spreads = spread(*few[:2], lambda: fill_in(*few, sample=True), seed)
            bands = options.cut(spreads, originals)
            figure = line_plots.completions(*pictured, bands, opened.channels)
        else:
            figure = plotting.completions(*pictured)
        facts = {
            **opened.about(),
            "sequences": len(opened.sequences),
            "missing": missing,
            f"hidden_{'values' if opened.dsae.config.of_series else 'frames'}": errors.hidden,
            "completion_mse": errors.mse,
            "nearest_mse": errors.nearest_mse,
            "mean_mse": errors.mean_mse,
        }
        if filled is not None:
            content = io.BytesIO()
            ids = np.array([opened.file.ids[row] for row in opened.rows])
            seen, lengths = opened.sequences.observed(), opened.sequences.lengths
            np.savez(content, x=filled, observed=seen, length=lengths, id=ids)
            write_whole(Path(fill), content.getvalue())
            facts["filled"] = fill
    paths = options.write_figures(run, out, {"complete.png": plotting.png(figure)})
    options.print_facts({**facts, "figures": paths}, as_json)
