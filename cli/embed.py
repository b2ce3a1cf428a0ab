"""``dsae embed``: the codes of a part as a table."""

from pathlib import Path

import click
import torch

from pyro_dsae import ConfigError
from pyro_dsae.analyses.embed import FORMATS
from pyro_dsae.checkpoint import write_whole
from pyro_dsae.cli import options
from pyro_dsae.datasets.hdf5 import check_output


@click.command()
@options.run_argument
@click.argument("out", type=click.Path())
@options.data_option
@options.part_option
@options.device_option
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def embed(
    run: str, out: str, data: str | None, part: str, device: torch.device, overwrite: bool
) -> None:
    """Write the codes f and z of a part, with names and factors, to OUT, a .npz or .csv file."""
    path = Path(out)
    if path.suffix not in FORMATS:
        raise ConfigError(f"out is {out!r}, but must end in one of: {', '.join(FORMATS)}")
    check_output(path, overwrite)
    with options.open_run(run, data, part, device) as opened:
        content = FORMATS[path.suffix](
            opened.codes,
            [opened.file.ids[row] for row in opened.rows],
            {factor.name: opened.values(factor.name) for factor in opened.file.factors},
        )
    write_whole(path, content)
    click.echo(out)
