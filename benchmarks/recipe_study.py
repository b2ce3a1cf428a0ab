"""The presets ``small``, ``bottleneck`` and ``pairs`` on three data sets.

python benchmarks/recipe_study.py sprites.h5 shapes.h5 toy.h5 runs/recipe docs/recipe_results.md
"""

from pathlib import Path
from typing import Any

import click

from columns import EXACT, JUDGED_SWAPS, Column, at, attributes
from design import TRAINING, Cell, Study, Table
from plan import Plan, judge_option, plan_options
from pyro_dsae.evaluation.judge import MOTION
from study import carry_out

ABOUT = """\
The preset `small` where a view hides all that is appearance: colours of sprites, colours and
outlines of moving shapes. `bottleneck` has no view at all. The preset `pairs` is told who is who,
and that alone. A swap is the appearance of one sequence in the motion of another; a ratio of 1 says
that it is as near to its true sequence as a reconstruction is to the original. near_B are the swaps
whose nearest true sequence of A's appearance has B's motion; exact retrieval are those whose
nearest of all that can be rendered, 11,664 of the sprites and 31,104 of the moving shapes, is the
true one."""

# Colours leave size and outline as they are; a blur hides both. z learns sooner where f is never
# dropped, and here f takes no motion all the same.
MOVING_SHAPES = {"dynamic_view": "blurred", "static_dropout": 0.0}

SWAPS = (
    *EXACT,
    *JUDGED_SWAPS,
    Column("judge: bottomwear of the swap", "judge", at("swap", "on", "bottomwear", "mean")),
)
PRIOR_DRAWS = (
    Column("fixed motion: motion", "judge", at("fixed_motion", "on", MOTION, "mean")),
    Column("fixed motion: attributes", "judge", attributes("fixed_motion", "off")),
    Column("fixed content: attributes", "judge", attributes("fixed_content", "on")),
    Column("fixed content: motion", "judge", at("fixed_content", "off", MOTION, "mean")),
)
TABLES = (
    Table("Swaps", (*SWAPS, Column("minutes", TRAINING, at("minutes"), ".0f"))),
    Table(
        "Sequences with f or z from the prior",
        PRIOR_DRAWS,
        about="With fixed motion f is drawn, with fixed content z is. What was drawn is at chance, "
        "1/6 for an attribute and 1/9 for the motion, and the rest as in the reconstruction.",
    ),
)


@click.command()
@click.argument("sprites", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("moving_shapes", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("toy_sprites", type=click.Path(dir_okay=False, path_type=Path))
@plan_options(minutes=30)
@judge_option
def main(sprites: Path, moving_shapes: Path, toy_sprites: Path, judge: Path, **plan: Any) -> None:
    """Train and evaluate the recipes on three prepared files, in RUNS; write the page OUT."""
    cells = [
        Cell("small", sprites, judge=judge),
        Cell("bottleneck", sprites, preset="bottleneck", judge=judge, share=0.6),
        Cell("pairs", sprites, preset="pairs", judge=judge, share=0.5),
        Cell("small-moving-shapes", moving_shapes, MOVING_SHAPES, share=0.85),
        Cell("small-toy-sprites", toy_sprites, share=0.5),
    ]
    carry_out(Study("A swap that holds", ABOUT, cells, TABLES), Plan(**plan))


if __name__ == "__main__":
    main()
