"""``dsae prepare``: a source of sequences to one HDF5 file."""

from typing import Any

import click

from pyro_dsae import datasets
from pyro_dsae.cli.options import progress_bar
from pyro_dsae.datasets.footage import COLOURS, CROPS

SHOWN = 5  # names of what was skipped for one reason


class _Size(click.ParamType):
    """S for S x S pixels, or HxW."""

    name = "S|HxW"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> int | tuple[int, ...]:
        sides = str(value).split("x")
        if len(sides) > 2 or not all(side.isdecimal() for side in sides):
            self.fail(f"{value!r} is not a size such as 64 or 48x64", parameter, context)
        return int(sides[0]) if len(sides) == 1 else tuple(map(int, sides))


@click.command()
@click.argument("name", type=click.Choice(datasets.NAMES))
@click.argument("out", type=click.Path(dir_okay=False))
@click.option("--characters", type=int, help="How many characters to use, for a small file.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option(
    "--source",
    metavar="PATH|URL",
    help="What to read: a folder of videos, or of kth's; a table's CSV, arrays' .npz, msd's HDF5; "
    "sprites' sheets, else they are downloaded; of japanese-vowels and watch, else the packages "
    "aeon and seglearn carry them.",
)
@click.option("--steps", type=int, help="moving-shapes: frames of a sequence; else 8.")
@click.option("--shortest", type=int, help="moving-shapes: lengths from this to STEPS; else equal.")
@click.option(
    "--size",
    type=_Size(),
    help="moving-shapes, kth, videos: pixels of a side, or height x width, 16 by 16; else 64.",
)
@click.option("--motions", type=int, help="moving-shapes: of each character, to 96; else 24.")
@click.option("--frames", type=int, help="kth, videos: frames of a sequence, at most; else 16.")
@click.option("--window", type=int, help="table, watch: steps of a window; of watch else 50.")
@click.option(
    "--stride",
    type=int,
    help="kth, videos, table, watch: from one window to the next; of watch else 25, of the others "
    "their length.",
)
@click.option("--every", type=int, help="watch: one step of so many samples at 50 Hz; else 2.")
@click.option(
    "--crop",
    type=click.Choice(CROPS),
    help="kth, videos: keep the centre in the shape of SIZE, or squeeze all; else centre.",
)
@click.option(
    "--colour",
    type=click.Choice(list(COLOURS)),
    help="kth, videos: of the frames; else grey for kth, rgb for videos.",
)
@click.option(
    "--table",
    type=click.Path(dir_okay=False),
    help="videos: CSV file with the columns path, split, group, first, last and factors.",
)
@click.option(
    "--folders",
    metavar="NAMES",
    help="videos: what the folders that lead to a video are, outermost first: split,action.",
)
@click.option("--sequence-id", metavar="COL", help="table: the name of each row's sequence.")
@click.option("--time", metavar="COL", help="table: a number that rises within a sequence.")
@click.option(
    "--static", metavar="NAME", multiple=True, help="videos, table: a factor of a sequence."
)
@click.option(
    "--dynamic",
    metavar="NAME",
    multiple=True,
    help="videos, table: a dynamic factor, which in a table may change within a sequence.",
)
@click.option("--value", metavar="COL", multiple=True, help="table: a channel; else all others.")
@click.option("--group", metavar="COL", help="table: never in two parts; else the sequence.")
@click.option("--split", metavar="COL", help="table: train, validation or test; else drawn.")
@click.option(
    "--test-fraction",
    type=float,
    help="videos, table, arrays: of the groups, where no split is given; else 0.2.",
)
@click.option(
    "--seed",
    type=int,
    help="Of what is drawn: motions and lengths of moving-shapes, or the parts; else 0.",
)
def prepare(name: str, out: str, characters: int | None, overwrite: bool, **options: Any) -> None:
    """Write the sequences of the source NAME to the file OUT."""
    given = {key: value for key, value in options.items() if value not in (None, ())}
    bar = progress_bar()
    with bar:
        datasets.prepare(
            name,
            out,
            characters=characters,
            overwrite=overwrite,
            on_progress=lambda done: bar.update(done - bar.n),
            **given,
        )
    with datasets.SequenceFile.open(out) as file:
        for reason, facts in file.recipe.get("skipped", {}).items():
            names = ", ".join(facts["names"][:SHOWN])
            more = ", ..." if facts["count"] > SHOWN else ""
            click.echo(f"skipped {facts['count']}: {reason}: {names}{more}", err=True)
    click.echo(out)
