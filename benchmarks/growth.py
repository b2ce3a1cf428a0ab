"""What training costs as data grow: steps T, sequences N, frame size and batch, each by itself.

    python benchmarks/growth.py docs/growth.md docs/growth.png

Random frames are made when they are read, as frames in a file are, so N is not bounded by a disk.
Steps are those of the package's trainer, the data path and bookkeeping included; held-out sequences
and checkpoints are not. The dotted lines of the picture are proportional to the axis, and constant
for N.
"""

import dataclasses
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import matplotlib
import numpy as np
import torch

from pages import command, commit, machine, table
from pyro_dsae import DSAE, ModelConfig, Sequences, TrainingConfig, fit
from pyro_dsae.checkpoint import write_whole
from pyro_dsae.cli.options import device_option

matplotlib.use("agg")
from matplotlib import pyplot as plt  # noqa: E402

WARM_UP = 3  # steps before the first that counts


@dataclasses.dataclass(frozen=True)
class Size:
    """How large a case is, and where each axis starts from."""

    steps: int = 8
    sequences: int = 1000
    frame: int = 64
    batch: int = 8


# N comes first: what memory it takes is not hidden by that of larger steps.
AXES = {"sequences": "N", "steps": "T", "frame": "frame side", "batch": "batch"}


class MadeWhenRead:
    """Frames as of a file: noise that depends on nothing but the number of the sequence."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def take(self, rows: np.ndarray) -> "MadeWhenRead":
        return MadeWhenRead((len(rows), *self.shape[1:]))

    def read(self, rows: np.ndarray, starts: np.ndarray, steps: int) -> np.ndarray:
        shape = (steps, *self.shape[2:])
        made = [np.random.default_rng(int(row)).bytes(int(np.prod(shape))) for row in rows]
        return np.stack([np.frombuffer(each, np.uint8).reshape(shape) for each in made])


class _EnoughError(Exception):
    """Ends a training that was timed for long enough."""


def seconds_a_step(preset: str, size: Size, count: int, device: torch.device) -> float:
    """The median over ``count`` steps of training."""
    shape = (size.sequences, size.steps, size.frame, size.frame, 3)
    numbers = np.arange(size.sequences)
    data = Sequences(MadeWhenRead(shape), np.full(size.sequences, size.steps), numbers)
    config = ModelConfig.preset(preset, frame_shape=(3, size.frame, size.frame))
    times: list[float] = []

    def on_step(step: object) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter())
        if len(times) == WARM_UP + count + 1:
            raise _EnoughError

    training = TrainingConfig.preset(preset, epochs=10**6, batch_size=size.batch)
    with tempfile.TemporaryDirectory() as folder:
        try:
            fit(DSAE(config).to(device), data, Path(folder) / "run", training, on_step=on_step)
        except _EnoughError:
            pass
    return statistics.median(np.diff(times[WARM_UP:]))


def memory(device: torch.device) -> float:
    """The most that was in use so far, in GB: on the GPU, or by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def plot(path: Path, found: dict[str, list[tuple[int, float]]]) -> None:
    """A panel an axis: seconds a step over the size, and a dotted line as it should grow."""
    figure, panels = plt.subplots(
        1, len(found), figsize=(3 * len(found), 3), sharey=True, squeeze=False
    )
    for panel, (axis, points) in zip(panels[0], found.items(), strict=True):
        sizes, seconds = (np.array(values) for values in zip(*points, strict=True))
        panel.loglog(sizes, seconds, "o-")
        power = {"sequences": 0, "frame": 2}.get(axis, 1)  # a frame has as many pixels
        panel.loglog(sizes, seconds[-1] * (sizes / sizes[-1]) ** power, ":", color="grey")
        panel.set_xlabel(AXES[axis])
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize="small")
        panel.minorticks_off()
    panels[0][0].set_ylabel("seconds a step")
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def _sizes(context: click.Context, parameter: click.Parameter, text: str) -> Sequence[int]:
    try:
        return sorted(int(float(word)) for word in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is no list of numbers with commas") from None


def _axis(name: str, sizes: str) -> click.Option:
    words = {"default": sizes, "show_default": True, "callback": _sizes, "metavar": "N,N,..."}
    return click.option(f"--{name}", **words, help=f"Values of {AXES[name]}.")


@click.command()
@click.argument("page", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("picture", type=click.Path(dir_okay=False, path_type=Path))
@_axis("sequences", "1e3,1e4,1e5,1e6")
@_axis("steps", "8,32,128,512")
@_axis("frame", "32,64,128")
@_axis("batch", "4,8,16,32")
@click.option("--preset", type=click.Choice(["small", "paper"]), default="small", show_default=True)
@click.option("--count", default=10, show_default=True, help="Steps of training that are timed.")
@device_option
def main(
    page: Path, picture: Path, preset: str, count: int, device: torch.device, **axes: Sequence[int]
) -> None:
    """Measure each axis on its own and write PAGE and PICTURE."""
    found, rows = {}, []
    for axis in AXES:
        found[axis] = []
        for value in axes[axis]:
            size = dataclasses.replace(Size(), **{axis: value})
            seconds = seconds_a_step(preset, size, count, device)
            found[axis].append((value, seconds))
            frames = 1e6 * seconds / (size.batch * size.steps)
            cells = [AXES[axis], f"{value:,}", f"{1e3 * seconds:.1f}", f"{frames:.0f}"]
            rows.append([*cells, f"{memory(device):.2f}"])
            click.echo(", ".join(rows[-1]), err=True)
    plot(picture, found)
    on = machine(device)
    start = ", ".join(f"{AXES[name]} {value:,}" for name, value in vars(Size()).items())
    lines = [
        "# Cost as data grow",
        "",
        f"The preset `{preset}`; each axis from {start}.",
        f"The median of {count} steps. Memory is the most used so far, by this process or on the",
        "GPU, in the order of the rows.",
        "",
        *table(["axis", "value", "ms a step", "µs a frame", "GB"], rows),
        "",
        f"![]({picture.name})",
        "",
        f"* {on['device']}, {on['threads']} threads, torch {torch.__version__}",
        f"* commit {commit()}, command: `{command()}`",
        "",
    ]
    write_whole(page, "\n".join(lines).encode())
    click.echo(page)


if __name__ == "__main__":
    main()
