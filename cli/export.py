"""``dsae export``: a file of sequences in the layout of another program."""

import click

from pyro_dsae.datasets import SequenceFile, msd

LAYOUTS = {"msd": msd.export}


@click.command()
@click.argument("layout", type=click.Choice(list(LAYOUTS)))
@click.argument("data", type=click.Path(dir_okay=False))
@click.argument("out", type=click.Path(dir_okay=False))
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def export(layout: str, data: str, out: str, overwrite: bool) -> None:
    """Write the sequences of DATA to OUT in the LAYOUT of another program.

    msd is the HDF5 of MSD-Benchmark: sequences of one length, without missing values.
    """
    with SequenceFile.open(data) as file:
        LAYOUTS[layout](file, out, overwrite)
    click.echo(out)
