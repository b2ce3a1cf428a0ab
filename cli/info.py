"""``dsae info``: what is in a file of sequences or of a model."""

import json
from pathlib import Path

import click

from pyro_dsae import load
from pyro_dsae.datasets import SequenceFile


@click.command()
@click.argument("path", type=click.Path(dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(path: str, as_json: bool) -> None:
    """Print what the data file or the model file PATH holds."""
    facts = _model(path) if Path(path).suffix == ".safetensors" else _data(path)
    if as_json:
        click.echo(json.dumps(facts))
        return
    for key, value in facts.items():
        click.echo(f"{key:15} {value}")


def _model(path: str) -> dict:
    dsae = load(path)
    parameters = sum(parameter.numel() for parameter in dsae.parameters())
    return {**dsae.config.to_dict(), "parameters": parameters}


def _data(path: str) -> dict:
    with SequenceFile.open(path) as file:
        return {
            "name": file.name,
            "sequences": len(file),
            "steps": f"{file.lengths.min()} to {file.lengths.max()}",
            "frame_shape": file.frame_shape,
            "splits": {
                scheme: {part: len(file.split(part, scheme)) for part in parts}
                for scheme, parts in file.splits.items()
            },
            "factors": {factor.name: factor.role for factor in file.factors},
            "licence": str(file.attrs["licence"]),
            "attribution": str(file.attrs["attribution"]),
            "content_sha256": file.content_sha256,
        }
