"""``dsae complete``: frames hidden at random, and what the model fills in."""

import click
import torch

from pyro_dsae.analyses.complete import complete as complete_frames
from pyro_dsae.analyses.complete import completion_errors, hide
from pyro_dsae.cli import options
from pyro_dsae.plotting import completions, png


@click.command()
@options.picture_options("the frames hidden and the sequences shown")
@click.option(
    "--missing",
    type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Fraction of the frames of each sequence to hide; never all.",
)
@options.shown_option
def complete(
    run: str,
    missing: float,
    data: str | None,
    part: str,
    sequences: int,
    out: str | None,
    seed: int,
    device: torch.device,
    as_json: bool,
) -> None:
    """Hide random frames and fill them in; print the error over all hidden frames of the part.

    Beside it stands the error of the nearest observed frame before, or the first after.
    """
    with options.open_run(run, data, part, device) as opened:
        observed = hide(opened.sequences.lengths, missing, seed)
        shown = opened.choose("sequences", sequences, seed)
        errors = completion_errors(opened.dsae, opened.sequences, observed)
        completed = complete_frames(opened.dsae, opened.sequences.take(shown), observed[shown])
        originals = [opened.frames(i) for i in shown]
        figure = completions(
            f"Completions: {opened.title}",
            [opened.describe(i) for i in shown],
            originals,
            [frames[: len(x)] for frames, x in zip(completed, originals, strict=True)],
            [seen[: len(x)] for seen, x in zip(observed[shown], originals, strict=True)],
        )
        facts = {
            **opened.about(),
            "sequences": len(opened.sequences),
            "missing": missing,
            "hidden_frames": errors.hidden,
            "completion_mse": errors.mse,
            "nearest_mse": errors.nearest_mse,
        }
    paths = options.write_figures(run, out, {"complete.png": png(figure)})
    options.print_facts({**facts, "figures": paths}, as_json)
