"""``dsae predict``: the frames after a context, beside the true ones."""

import click
import torch

from pyro_dsae import line_plots, plotting
from pyro_dsae.analyses.predict import predict as predict_frames
from pyro_dsae.analyses.predict import prediction_errors
from pyro_dsae.analyses.spread import spread
from pyro_dsae.cli import options


@click.command()
@options.picture_options("the sequences shown")
@click.option(
    "--context",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="How many frames the model sees.",
)
@click.option(
    "--horizon",
    type=click.IntRange(min=1),
    help="How many frames to predict; if left out, all that the data have.",
)
@options.shown_option
def predict(
    run: str,
    context: int,
    horizon: int | None,
    data: str | None,
    part: str,
    sequences: int,
    out: str | None,
    seed: int,
    device: torch.device,
    as_json: bool,
) -> None:
    """Predict frames from those before; print the error of each step over the whole part.

    Beside it stands the error of repeating the last frame seen. Steps beyond the data are drawn,
    but have no error.
    """
    with options.open_run(run, data, part, device) as opened:
        errors = prediction_errors(opened.dsae, opened.sequences, context, horizon)
        shown = opened.choose("sequences", sequences, seed, longer_than=context)
        few = opened.dsae, opened.sequences.take(shown)
        steps = context, len(errors.mse)
        pictured = (
            f"Predictions: {opened.title}",
            [opened.describe(i) for i in shown],
            [opened.frames(i) for i in shown],
            list(predict_frames(*few, *steps)),
            context,
        )
        if opened.dsae.config.of_series:
            spreads = spread(*few, lambda: predict_frames(*few, *steps, sample=True), seed)
            figure = line_plots.predictions(*pictured, spreads, opened.channels)
        else:
            figure = plotting.predictions(*pictured)
        facts = {
            **opened.about(),
            "sequences": errors.sequences,
            "context": context,
            "horizon": len(errors.mse),
            "prediction_mse": errors.mse,
            "repeat_mse": errors.repeat_mse,
        }
    paths = options.write_figures(run, out, {"predict.png": plotting.png(figure)})
    if not as_json:  # lines that name their steps
        for name in ("prediction_mse", "repeat_mse"):
            steps = enumerate(facts[name], start=context + 1)
            facts[name] = {f"step_{t}": mse for t, mse in steps if mse is not None}
    options.print_facts({**facts, "figures": paths}, as_json)
