"""How a study is carried out: the arguments and options of its command."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import torch

from design import Cell
from pyro_dsae.cli.options import device_option, part_option, together


@dataclass(frozen=True)
class Plan:
    """How a study is carried out: what :func:`plan_options` give."""

    runs: Path
    out: Path
    minutes: float
    epochs: int | None
    seeds: int
    jobs: int
    part: str
    notes: Path | None
    device: torch.device
    so_far: bool = False

    @property
    def budget(self) -> tuple[str, float]:
        """Of a run: what it is counted in, and how many."""
        return ("minutes", self.minutes) if self.epochs is None else ("epochs", self.epochs)

    def budget_of(self, cell: Cell) -> tuple[str, float]:
        """Of a run of the cell, likewise; an epoch at least."""
        unit, budget = self.budget
        share = cell.share * budget
        return unit, share if unit == "minutes" else max(1, round(share))

    @property
    def single(self) -> Path:
        """Where the single figures go, beside the page."""
        return self.out.with_suffix(".json")


def plan_options(minutes: float, seeds: int = 3, jobs: int = 2) -> Callable:
    """The arguments and options of a study's command, with its defaults; see :class:`Plan`."""
    folder, file = (
        click.Path(file_okay=dir_okay, dir_okay=not dir_okay, path_type=Path)
        for dir_okay in (False, True)
    )
    count, shown = click.IntRange(min=1), {"show_default": True}
    return together(
        click.argument("runs", type=folder),
        click.argument("out", type=file),
        click.option("--minutes", default=float(minutes), **shown, help="To train each run."),
        click.option("--epochs", type=count, help="Passes over the train part instead."),
        click.option("--seeds", type=count, default=seeds, **shown, help="How many, from 0 on."),
        click.option("--jobs", type=count, default=jobs, **shown, help="Runs side by side."),
        part_option,
        click.option(
            "--notes",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Markdown to put at the end of OUT.",
        ),
        device_option,
        click.option(
            "--so-far", is_flag=True, help="Write the page of what there is; train nothing."
        ),
    )


judge_option = click.option(
    "--judge",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=lambda context, _, path: path or context.params["runs"] / "judge.safetensors",
    help="Of sprites, trained where it is not there; RUNS/judge.safetensors if left out.",
)
