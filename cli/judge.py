"""``dsae judge``: train a classifier of a data set's factors, to score models by."""

import sys
import time

import click
import numpy as np
import torch
from torch import Tensor

from pyro_dsae import Sequences
from pyro_dsae.cli import options
from pyro_dsae.datasets import SequenceFile
from pyro_dsae.datasets.hdf5 import check_output
from pyro_dsae.evaluation.judge import (
    EPOCHS,
    Judge,
    JudgeConfig,
    JudgeError,
    accuracies,
    check_accuracy,
    save_judge,
    train_judge,
)


@click.command()
@click.argument("data", type=click.Path(dir_okay=False))
@click.argument("judge", metavar="JUDGE", type=click.Path(dir_okay=False))
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=EPOCHS,
    show_default=True,
    help="Passes over the train part, at most: one without an error on a held-out part ends it.",
)
@options.seed_option("the weights, the held-out part and the order of the data")
@options.device_option
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@options.json_option
def judge(
    data: str,
    judge: str,
    epochs: int,
    seed: int,
    device: torch.device,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train a judge on the train part of DATA, test it on the test part, and keep it in JUDGE.

    A judge names the motion, which is all dynamic factors together, and each static factor. One
    that is less than 99.9 % right on any of them is kept, but refused when models are scored.
    """
    check_output(judge, overwrite)
    with SequenceFile.open(data) as file:
        sizes = (
            {factor.name: len(factor.classes) for factor in options.factors(file, role)}
            for role in ("static", "dynamic")
        )
        config = JudgeConfig(file.frame_shape, *sizes)
        train, test = (_part(file, part, config) for part in ("train", "test"))
        name = file.name
    torch.manual_seed(seed)
    made = Judge(config).to(device)
    progress = _Progress()
    with progress.bar:
        train_judge(
            made, *train, epochs=epochs, seed=seed, on_step=progress.step, on_check=progress.check
        )
    made.accuracy = accuracies(made, *test)
    save_judge(made, judge, overwrite)
    facts = {"judge": judge, "data": name, "part": "test", "sequences": len(test[0])}
    options.print_facts({**facts, "accuracy": made.accuracy}, as_json)
    try:
        check_accuracy(made.accuracy, "its test part")
    except JudgeError as error:
        click.echo(f"Warning: {error}", err=True)


def _part(
    file: SequenceFile, part: str, config: JudgeConfig
) -> tuple[Sequences, dict[str, np.ndarray]]:
    """A part's sequences and what the judge's heads should name."""
    static, dynamic = (
        file.labels(list(names))[file.split(part)] for names in (config.static, config.dynamic)
    )
    return file.sequences(part), config.targets(static, dynamic)


class _Progress:
    """A bar on a terminal, and one line a validation."""

    def __init__(self) -> None:
        self.bar = options.progress_bar()
        self.shown = 0.0

    def step(self, progress: float, loss: Tensor) -> None:
        if self.bar.disable:
            return
        self.bar.update(progress - self.bar.n)
        if time.perf_counter() - self.shown > options.REFRESH_SECONDS:
            self.shown = time.perf_counter()
            self.bar.set_postfix_str(f"loss {loss.item():.3f}")  # waits for the device

    def check(self, passes: float, accuracy: dict[str, float]) -> None:
        right = ", ".join(f"{name} {100 * value:.1f}" for name, value in accuracy.items())
        self.bar.write(f"pass {passes:.2f}: right on held-out %: {right}", file=sys.stderr)
