"""What several processes of one thread each gain over one, and that their losses are the same.

    dsae prepare toy-sprites more.h5 --characters 400
    python benchmarks/processes.py more.h5 docs/processes.md -- --preset small --batch-size 64

Trainings by one process and by several take turns, with the options that follow ``--``. A ratio is
of neighbours, of the sequences a second in the epochs after the first, which warms up. The cores
have to be idle.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import torch

from pages import command, commit, machine, table
from pyro_dsae.checkpoint import write_whole
from pyro_dsae.run_folder import read_metrics
from timing import ratio

OPTIONS = ("--preset", "small", "--batch-size", "16", "--epochs", "3")
LOSSES = ("reconstruction", "kl_f", "kl_z", "validation_elbo")


def train(data: Path, run: Path, processes: int, options: Sequence[str]) -> list[dict[str, Any]]:
    """The metrics of ``dsae fit`` on so many processes of one thread.

    Raises ClickException where it fails.
    """
    alone = [sys.executable]
    together = [*alone, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    together += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]  # a free port
    start = alone if processes == 1 else together
    done = subprocess.run(
        [*start, "-m", "pyro_dsae.cli", "fit", str(data), str(run), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise click.ClickException(f"dsae fit on {processes} processes: {done.stderr.strip()}")
    return read_metrics(run)


def speed(metrics: Sequence[dict[str, Any]]) -> float:
    """Sequences a second after the first epoch, or in it where there is no other."""
    return statistics.median(each["sequences_per_second"] for each in metrics[1:] or metrics)


def difference(one: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]) -> float:
    """The largest relative one between the losses of two trainings, over all epochs."""
    pairs = [(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in LOSSES]
    return max(abs(a - b) / max(abs(a), abs(b), sys.float_info.min) for a, b in pairs)


@click.command()
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("options", nargs=-1)
@click.option("--processes", type=click.IntRange(min=2), default=2, show_default=True)
@click.option("--rounds", type=click.IntRange(min=2), default=5, show_default=True)
def main(data: Path, out: Path, options: tuple[str, ...], processes: int, rounds: int) -> None:
    """Train on DATA by turns, by one process and by several; write the page OUT.

    OPTIONS, after --, are those of dsae fit.
    """
    options = options or OPTIONS
    speeds: dict[int, list[float]] = {1: [], processes: []}
    apart = []
    for _ in range(rounds):
        with TemporaryDirectory() as folder:
            found = {n: train(data, Path(folder) / str(n), n, options) for n in speeds}
        for n, metrics in found.items():
            speeds[n].append(speed(metrics))
        apart.append(difference(*found.values()))
        click.echo(f"{speeds[processes][-1] / speeds[1][-1]:.2f} times", err=True)
    gain = ratio(speeds[processes], speeds[1])
    write_whole(out, page(speeds, gain, max(apart), options).encode())
    click.echo(out)


def page(
    speeds: dict[int, list[float]], gain: dict[str, float], apart: float, options: Sequence[str]
) -> str:
    """The whole Markdown page."""
    on = machine(torch.device("cpu"))
    rows = [[str(n), f"{statistics.median(rates):.1f}"] for n, rates in speeds.items()]
    return "\n".join(
        [
            "# Several processes beside one",
            "",
            f"`dsae fit` with `{' '.join(options)}`, of one thread a process, by turns. The batch",
            "is that of all processes together.",
            "",
            *table(["processes", "sequences a second"], rows),
            "",
            f"The ratio, the median of {len(speeds[1])}: {gain['median']:.2f} "
            f"({gain['low']:.2f} to {gain['high']:.2f}). Losses differ by {apart:.1e} of their "
            "value at most, over all epochs.",
            "",
            f"* {on['device']}, {on['cores']} cores, torch {torch.__version__}",
            f"* commit {commit()}, command: `{command()}`",
            "",
        ]
    )


if __name__ == "__main__":
    main()
