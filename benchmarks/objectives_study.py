"""Every objective on Sprites under one budget: swaps, judge, probes, the bound, samples, speed.

python benchmarks/objectives_study.py sprites.h5 runs/objectives docs/objectives.md
"""

from pathlib import Path
from typing import Any

import click

from columns import BOUND, EXACT, INCEPTION, JUDGED_SWAPS, LEAKAGE, Column, at, attributes
from design import PLAIN, TRAINING, Cell, Study, Table
from plan import Plan, judge_option, plan_options
from pyro_dsae.objectives import OBJECTIVES
from study import carry_out

ABOUT = """\
Models trained on Sprites with the sizes of the preset `small` and each objective's own defaults,
under one budget of time, so that an objective whose steps are slower makes fewer. The preset's
recipe, a view of the input of z, static dropout and weights of the KL terms, is off but in the row
`recipe`: what is asked is what the objective alone does. (`mi` and `agreement` cannot do without
views of their own, nor `mi` without static dropout: z says nothing under a view alone.) `aae-pairs`
is `aae` with the view of `agreement`. A swap is the appearance of one sequence in the motion of
another, and is scored against its true sequence."""

FIXED_MOTION = (*INCEPTION, Column("attributes", "judge", attributes("fixed_motion", "off")))
SAMPLES = tuple(
    Column(f"{name} of {what}", "samples", at(of, figure), digits)
    for of, what in (("samples", "samples"), ("fixed_motion", "fixed motion"))
    for name, figure, digits in (
        ("distance", "frechet_distance", ".2f"),
        ("precision", "precision", ".3f"),
        ("recall", "recall", ".3f"),
        ("sharpness", "sharpness", ".3f"),
    )
)
ADDED = ("accuracy, %", "distance of samples", "distance of fixed motion", "swap ratio")
TABLES = (
    Table(
        "What each adds to the bound",
        [column for column in (*INCEPTION, *SAMPLES, *EXACT) if column.head in ADDED],
        about="The judge's accuracy for the motion where f is drawn, in points of 100 %, is the "
        "better the higher, the distances of samples and the ratio of swaps the lower.",
        against="elbo",
    ),
    Table("Swaps", (*EXACT, *JUDGED_SWAPS)),
    Table(
        "The motion of sequences whose f is drawn",
        FIXED_MOTION,
        about="Best are 100 %, 9, 0, ln 9 = 2.197 and, for the attributes, chance: 1/6.",
    ),
    Table(
        "How samples look",
        SAMPLES,
        about="In samples f and z are drawn from the prior, with fixed motion f alone. The Frechet "
        "distance, precision and recall are in the feature space of the judge, and comparable here "
        "alone; sharpness is over that of real frames.",
    ),
    Table("What leaks: probes on drawn codes", LEAKAGE),
    Table("The bound, in nats a sequence", BOUND),
    Table(
        "Speed",
        (
            Column("sequences a second", TRAINING, at("sequences_per_second"), ".0f"),
            Column("a step, ms", TRAINING, at("step_ms"), ".0f"),
        ),
    ),
)


@click.command()
@click.argument("data", type=click.Path(dir_okay=False, path_type=Path))
@plan_options(minutes=20)
@judge_option
def main(data: Path, judge: Path, **plan: Any) -> None:
    """Train and evaluate all on DATA, prepared sprites, in the folder RUNS; write the page OUT."""

    def plain(name: str, objective: str, **view: str) -> Cell:
        defaults = OBJECTIVES[objective].defaults
        model, training = (PLAIN[of] | defaults.get(of, {}) for of in PLAIN)
        options = {"objective": objective, **training}
        return Cell(name, data, model | view, options, judge=judge)

    cells = [Cell("recipe", data, judge=judge), *(plain(name, name) for name in OBJECTIVES)]
    cells.append(plain("aae-pairs", "aae", static_view="partner"))
    # One draw: from draw to draw the accuracy for the motion has a deviation of .003 to .006.
    carry_out(Study("Objectives on Sprites", ABOUT, cells, TABLES, repeats=1), Plan(**plan))


if __name__ == "__main__":
    main()
