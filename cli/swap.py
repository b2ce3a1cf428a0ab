"""``dsae swap``: the appearance of one sequence in the motion of another."""

from dataclasses import asdict

import click
import numpy as np
import torch

from pyro_dsae import ConfigError, line_plots
from pyro_dsae.analyses.spread import spread
from pyro_dsae.analyses.swap import swap as draw
from pyro_dsae.cli import options
from pyro_dsae.datasets import DataError, Renderer, renderer
from pyro_dsae.evaluation.exact import ExactScores, PairingError, exact_scores, match_pairs, unlike
from pyro_dsae.plotting import Swap, png, swap_gif, swaps

SHOWN = 3


@click.command()
@options.picture_options("the pairs, shown and scored")
@click.option(
    "--pairs", type=click.IntRange(min=1), help=f"How many seeded pairs to show; {SHOWN} if not."
)
@click.option(
    "--pair",
    type=int,
    nargs=2,
    multiple=True,
    metavar="I J",
    help="Show these two sequences, by their indices in the part; can be repeated.",
)
def swap(
    run: str,
    data: str | None,
    part: str,
    pairs: int | None,
    pair: tuple[tuple[int, int], ...],
    out: str | None,
    seed: int,
    device: torch.device,
    as_json: bool,
) -> None:
    """Swap the motions of pairs of sequences, draw them, and score all pairs exactly.

    The scores are over all sequences of the part, paired so that every pair differs in appearance
    and motion. They need a source that can render every combination of factors.
    """
    if pair and pairs is not None:
        raise ConfigError(f"pairs is {pairs}, but --pair names the pairs; leave one of them out")
    with options.open_run(run, data, part, device) as opened:
        a, b = _named(opened, pair) if pair else _seeded(opened, pairs or SHOWN, seed)
        truth, scores = _score(opened, seed)
        shown = _pictures(opened, a, b, truth)
        facts = {**opened.about(), **(asdict(scores) if scores else {})}
        title = f"Swaps: {opened.title}"
        if opened.dsae.config.of_series:
            bands = _spreads(opened, a, b, seed)
            figures = {"swap.png": png(line_plots.swaps(title, shown, bands, opened.channels))}
        else:
            figures = {"swap.png": png(swaps(title, shown)), "swap.gif": swap_gif(shown)}
    paths = options.write_figures(run, out, figures)
    options.print_facts({**facts, "figures": paths}, as_json)


def _named(opened: options.Run, pair: tuple[tuple[int, int], ...]) -> tuple[np.ndarray, np.ndarray]:
    last = len(opened.rows) - 1
    for index in np.ravel(pair):
        if not 0 <= index <= last:
            raise ConfigError(
                f"pair holds {index}, but the sequences of the part {opened.part} are 0 to {last}"
            )
    a, b = np.array(pair).T
    return a, b


def _seeded(opened: options.Run, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    a = opened.choose("pairs", count, seed)
    labels = opened.labels("static"), opened.labels("dynamic")
    try:
        return a, match_pairs(*labels, seed)[a]
    except PairingError as error:
        click.echo(f"{error}; each is shown with one as unlike as there is", err=True)
        return a, unlike(*labels, a, seed)


def _score(opened: options.Run, seed: int) -> tuple[Renderer | None, ExactScores | None]:
    """What renders the truth and the scores against it, or a line that says why not."""
    try:
        truth = renderer(opened.file)
        click.echo(f"scoring {len(opened.rows)} pairs against their true sequences", err=True)
        return truth, exact_scores(
            opened.dsae,
            opened.sequences,
            opened.codes,
            opened.labels("static"),
            opened.labels("dynamic"),
            opened.classes("dynamic"),
            truth.render,
            seed,
        )
    except (DataError, PairingError) as error:
        click.echo(f"no exact scores: {error}", err=True)
        return None, None


def _spreads(
    opened: options.Run, a: np.ndarray, b: np.ndarray, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each pair how far A with B's motion may be from where it is drawn, and B with A's."""
    ways = []
    for who, what in ((a, b), (b, a)):
        found = spread(
            opened.dsae,
            opened.sequences,
            lambda ends=(who, what): draw(opened.dsae, opened.sequences, *ends, sample=True),
            seed,
        )
        ways.append([row[:n] for row, n in zip(found, opened.sequences.lengths[what], strict=True)])
    return list(zip(*ways, strict=True))


def _pictures(
    opened: options.Run, a: np.ndarray, b: np.ndarray, truth: Renderer | None
) -> list[Swap]:
    drawn = [draw(opened.dsae, opened.sequences, *ends) for ends in ((a, b), (b, a))]
    targets = [None, None]
    if truth:
        static, dynamic = opened.labels("static"), opened.labels("dynamic")
        targets = [truth.render(np.hstack([static[i], dynamic[j]])) for i, j in ((a, b), (b, a))]
    shown = []
    for n, (i, j) in enumerate(zip(a, b, strict=True)):
        lengths = [len(opened.frames(index)) for index in (j, i)]  # a swap is as long as its motion
        shown.append(
            Swap(
                opened.describe(i),
                opened.describe(j),
                opened.frames(i),
                opened.frames(j),
                *(way[n, :length] for way, length in zip(drawn, lengths, strict=True)),
                *(
                    None if way is None else way[n, :length]
                    for way, length in zip(targets, lengths, strict=True)
                ),
            )
        )
    return shown
