"""``dsae prepare``: a source of sequences to one HDF5 file."""

from typing import Any

import click

from pyro_dsae import datasets


@click.command()
@click.argument("name", type=click.Choice(datasets.NAMES))
@click.argument("out", type=click.Path(dir_okay=False))
@click.option("--characters", type=int, help="How many characters to use, for a small file.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--source", metavar="DIR|URL", help="sprites: the sheets; else they are downloaded.")
@click.option("--steps", type=int, help="moving-shapes: frames of a sequence; else 8.")
@click.option("--shortest", type=int, help="moving-shapes: lengths from this to STEPS; else equal.")
@click.option("--size", type=int, help="moving-shapes: pixels of a side, 16 by 16; else 64.")
@click.option("--motions", type=int, help="moving-shapes: of each character, to 96; else 24.")
@click.option("--seed", type=int, help="moving-shapes: of the motions and lengths; else 0.")
def prepare(
    name: str, out: str, characters: int | None, overwrite: bool, **options: str | int | None
) -> None:
    """Write the sequences of the source NAME to the file OUT."""
    given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    try:
        datasets.prepare(name, out, characters=characters, overwrite=overwrite, **given)
    except datasets.OptionError as error:
        raise click.UsageError(str(error)) from error
    click.echo(out)
