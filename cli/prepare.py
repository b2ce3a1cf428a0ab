"""``dsae prepare``: a source of sequences to one HDF5 file."""

import click

from pyro_dsae import datasets


@click.command()
@click.argument("name", type=click.Choice(datasets.NAMES))
@click.argument("out", type=click.Path(dir_okay=False))
@click.option("--source", metavar="DIR|URL", help="Where the source's own files are.")
@click.option("--characters", type=int, help="How many characters to use, for a small file.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def prepare(
    name: str, out: str, source: str | None, characters: int | None, overwrite: bool
) -> None:
    """Write the sequences of the source NAME to the file OUT."""
    datasets.prepare(name, out, source, characters, overwrite)
    click.echo(out)
