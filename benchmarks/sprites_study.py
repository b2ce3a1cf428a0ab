"""Every guide with every prior on Sprites: exact scores and the field's judge side by side.

python benchmarks/sprites_study.py sprites.h5 runs/sprites docs/results.md
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from columns import (
    BOUND,
    EXACT,
    INCEPTION,
    JUDGED_SWAPS,
    LEAKAGE,
    ORIGIN,
    Column,
    at,
    attributes,
)
from design import Cell, Study, Table
from plan import Plan, judge_option, plan_options
from pyro_dsae.evaluation.judge import MOTION
from pyro_dsae.guides import GUIDES
from pyro_dsae.priors import PRIORS
from stand_ins import Collapsed, row
from study import carry_out

ABOUT = """\
Models trained on Sprites with one preset under one budget, for every guide and prior. A swap is the
appearance of one sequence in the motion of another. The exact scores compare it with the true
sequence, pixel by pixel; the judge is a classifier, and says what it takes a sequence for. Its
figures of drawn f, z or labels are means over five draws. The exact scores and the cosines are of
posterior means, the bound and the probes of one draw from q."""


def _published(rows: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Rows of papers, by name."""
    return {f"{name} (published, not measured here)": cells for name, cells in rows.items()}


PUBLISHED = _published(
    {
        "DSVAE": ("90.73", "8.384", "0.072", "2.192"),
        "S3VAE": ("99.49", "8.637", "0.041", "2.197"),
        "C-DSVAE": ("99.99", "8.871", "0.014", "2.197"),
        "SKD": ("100", "8.999", "1.6e-7", "2.197"),
        "SPYL": ("100", "8.942", "0.006", "2.197"),
    }
)
BOTH_SIDES = (
    Column("fixed motion: attributes", "judge", attributes("fixed_motion", "off")),
    Column("fixed content: attributes", "judge", attributes("fixed_content", "on")),
    Column("fixed content: motion", "judge", at("fixed_content", "off", MOTION, "mean")),
    Column("swap: A's motion", "judge", at("swap", "off", MOTION, "mean")),
    Column("swap: B's attributes", "judge", attributes("swap", "off")),
    Column("real: motion", "judge", at("real", "on", MOTION, "mean")),
    Column("real: attributes", "judge", attributes("real", "on")),
    Column("random f and z: motion", "judge", at("random", "off", MOTION, "mean")),
    Column("random f and z: attributes", "judge", attributes("random", "off")),
    Column("shuffled labels: motion", "judge", at("shuffled", "off", MOTION, "mean")),
    Column("shuffled labels: attributes", "judge", attributes("shuffled", "off")),
    Column("intervention score", "judge", at("intervention", "mean")),
)


def _cosine(code: str, stratum: str) -> Any:
    return at("strata", stratum, f"cos_{code}", "mean")


SAME_APPEARANCE = "same appearance and different motion"
SAME_MOTION = "different appearance and same motion"
DIFFERENT = "different appearance and different motion"
COSINES = (
    Column("f, same appearance", "similarity", _cosine("f", SAME_APPEARANCE)),
    Column("f, different appearance", "similarity", _cosine("f", DIFFERENT)),
    Column("z, same motion", "similarity", _cosine("z", SAME_MOTION)),
    Column("z, different motion", "similarity", _cosine("z", DIFFERENT)),
    Column("AUROC of appearance by f", "similarity", at("auroc_appearance")),
    Column("AUROC of motion by z", "similarity", at("auroc_motion")),
)
SWAPS = (*EXACT, *JUDGED_SWAPS)
ABOUT_SWAPS = """\
A ratio is to be read with near_B. The last row is a stand-in for a collapsed model, which always
draws the mean frame of train and whose codes are noise about means that hardly differ: its swaps
are as near to the truth as its reconstructions, and yet show a motion by chance alone."""
ABOUT_LEAKS = """\
The last row is the collapsed stand-in again. The probes, which read draws, find chance, 1/6 of a
static factor and 1/3 of a dynamic one; a floor is how often train's most frequent class is right.
The cosines of verification, which are of means, look through that, and so would any probe of means.
A z that knows the motion alone has an EER of 9/17 = .529 here, since no two sequences of one
appearance share a motion."""
TABLES = (
    Table(
        "The field's table: the motion of sequences whose f is drawn",
        INCEPTION,
        PUBLISHED,
        "Best are 100 %, 9, 0 and ln 9 = 2.197. Published figures are by judges of their own, "
        "and quoted from memory: they were not checked against the papers. Those of DSVAE do not "
        "fit one another, IS being exp(H(y) - H(y|x)).",
    ),
    Table(
        "What the judge sees where it should see nothing",
        BOTH_SIDES,
        about="Chance is 1/6 for an attribute and 1/9 for the motion; a pair to be swapped never "
        "has one motion. With fixed motion f is drawn, with fixed content z is; the attributes of "
        "fixed content and all of the real sequences are on target. The score is MSD-Benchmark's, "
        "of two factors by draws: fixed motion and fixed content together, best at 1.",
    ),
    Table(
        "Whose action and direction a swap shows",
        ORIGIN,
        about="By its nearest true sequence of A's appearance, of the pairs that differ in it. "
        "Best are 1 for B and 0 for A.",
    ),
    Table(
        "Mean cosine of the codes of two sequences",
        COSINES,
        _published(
            {"Das & Dandi": (".73 to .83", ".00 to .31", ".95 to .99", ".03 to .09", "—", "—")}
        ),
        "Over all pairs; the published ranges are of 12 picked pairs.",
    ),
    Table(
        "The bound, in nats a sequence",
        BOUND,
        about="What importance weights add is L_64 less the ELBO, of 64 sequences; the whole gap "
        "to log p(x) is larger.",
    ),
)


@click.command()
@click.argument("data", type=click.Path(dir_okay=False, path_type=Path))
@plan_options(minutes=10)
@judge_option
def main(data: Path, judge: Path, **options: Any) -> None:
    """Train and evaluate all on DATA, prepared sprites, in the folder RUNS; write the page OUT."""
    cells = [
        Cell(f"{guide}-{prior}", data, {"guide": guide, "prior": prior}, judge=judge)
        for guide in GUIDES
        for prior in PRIORS
    ]
    plan = Plan(**options)
    stand_in = Collapsed.on(data)
    swaps, leaks = (
        {"collapsed": row(stand_in, data, plan.part, columns)} for columns in (SWAPS, LEAKAGE)
    )
    tables = [
        Table("Swaps: exact scores beside the judge", SWAPS, swaps, ABOUT_SWAPS),
        *TABLES,
        Table("What leaks: probes on drawn codes", LEAKAGE, leaks, ABOUT_LEAKS),
    ]
    carry_out(Study("Guides and priors on Sprites", ABOUT, cells, tables), plan)


if __name__ == "__main__":
    main()
