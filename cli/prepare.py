"""``dsae prepare``: a source of sequences to one HDF5 file."""

from typing import Any

import click

from pyro_dsae import datasets


@click.command()
@click.argument("name", type=click.Choice(datasets.NAMES))
@click.argument("out", type=click.Path(dir_okay=False))
@click.option("--characters", type=int, help="How many characters to use, for a small file.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option(
    "--source",
    metavar="PATH|URL",
    help="What to read: a table's CSV, arrays' .npz, msd's HDF5; sprites' sheets, else they are "
    "downloaded; of japanese-vowels and watch, else the packages aeon and seglearn carry them.",
)
@click.option("--steps", type=int, help="moving-shapes: frames of a sequence; else 8.")
@click.option("--shortest", type=int, help="moving-shapes: lengths from this to STEPS; else equal.")
@click.option("--size", type=int, help="moving-shapes: pixels of a side, 16 by 16; else 64.")
@click.option("--motions", type=int, help="moving-shapes: of each character, to 96; else 24.")
@click.option("--sequence-id", metavar="COL", help="table: the name of each row's sequence.")
@click.option("--time", metavar="COL", help="table: a number that rises within a sequence.")
@click.option("--static", metavar="COL", multiple=True, help="table: a factor of a sequence.")
@click.option("--dynamic", metavar="COL", multiple=True, help="table: one that may change in it.")
@click.option("--value", metavar="COL", multiple=True, help="table: a channel; else all others.")
@click.option("--group", metavar="COL", help="table: never in two parts; else the sequence.")
@click.option("--split", metavar="COL", help="table: train, validation or test; else drawn.")
@click.option("--test-fraction", type=float, help="table, arrays: of the groups; else 0.2.")
@click.option("--window", type=int, help="table, watch: steps of a window; of watch else 50.")
@click.option("--stride", type=int, help="table, watch: from one window to the next.")
@click.option("--every", type=int, help="watch: one step of so many samples at 50 Hz; else 2.")
@click.option("--seed", type=int, help="Of what is drawn: motions and lengths, or the parts; 0.")
def prepare(name: str, out: str, characters: int | None, overwrite: bool, **options: Any) -> None:
    """Write the sequences of the source NAME to the file OUT."""
    given = {key: value for key, value in options.items() if value not in (None, ())}
    try:
        datasets.prepare(name, out, characters=characters, overwrite=overwrite, **given)
    except datasets.OptionError as error:
        raise click.UsageError(str(error)) from error
    click.echo(out)
