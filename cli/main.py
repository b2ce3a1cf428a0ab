"""The ``dsae`` command: its commands, and errors as one line."""

from typing import Any

import click

from pyro_dsae.checkpoint import CheckpointError
from pyro_dsae.cli.complete import complete
from pyro_dsae.cli.embed import embed
from pyro_dsae.cli.evaluate import evaluate
from pyro_dsae.cli.export import export
from pyro_dsae.cli.fit import fit
from pyro_dsae.cli.info import info
from pyro_dsae.cli.judge import judge
from pyro_dsae.cli.predict import predict
from pyro_dsae.cli.prepare import prepare
from pyro_dsae.cli.reconstruct import reconstruct
from pyro_dsae.cli.sample import sample
from pyro_dsae.cli.similarity import similarity
from pyro_dsae.cli.swap import swap
from pyro_dsae.config import ConfigError
from pyro_dsae.datasets import DataError, OptionError
from pyro_dsae.evaluation.exact import PairingError
from pyro_dsae.evaluation.judge import JudgeError
from pyro_dsae.training import TrainingError

BAD_OPTIONS = (ConfigError, OptionError)
FAILURES = (
    CheckpointError,
    ConfigError,
    DataError,
    JudgeError,
    PairingError,
    TrainingError,
    OSError,
)


class _Group(click.Group):
    """Turns the library's errors into one line: exit code 2 for an option, 1 for the rest."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BrokenPipeError:  # whoever read the output had enough; click ends quietly
            raise
        except FAILURES as error:
            if context.params["debug"]:
                raise
            kind = click.UsageError if isinstance(error, BAD_OPTIONS) else click.ClickException
            raise kind(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pyro-dsae")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Disentangled sequential autoencoders: who is in a sequence, and what happens."""


for command in (
    prepare,
    export,
    info,
    fit,
    reconstruct,
    swap,
    similarity,
    sample,
    predict,
    complete,
    evaluate,
    embed,
    judge,
):
    main.add_command(command)
