"""What f and z know of real series: who speaks, who exercises with which arm, and what.

python benchmarks/series_study.py japanese-vowels.h5 watch.h5 runs/series docs/series_results.md
"""

from pathlib import Path
from typing import Any

import click

from columns import Column, at, percent
from design import Cell, Study, Table
from plan import Plan, plan_options
from stand_ins import Raw, row
from study import carry_out

RAW = "the data themselves"

# Chosen on utterances and windows held out of train. Who is who is said, in pairs of the same.
VOWELS_PAIRS = {
    "model": {"static_view": "partner"},
    "training": {"objective": "agreement", "kl_z_weight": 8.0},
}
# An exercise is a constant of its windows as much as a person is: f is told not to say it, by one
# of another exercise, and z not to see on which side, and a little of by whom.
WATCH_PAIRS = {
    "model": {"static_view": "partner", "dynamic_view": "worn", "shared_encoder": False},
    "training": {
        "objective": "agreement",
        "objective_options": {"weight": 0.02},
        "kl_f_weight": 0.05,
        "kl_z_weight": 12.0,
        "kl_warmup": 0.4,
    },
}
ABOUT = """\
The preset `series` on two sets of real series: utterances of 9 speakers, of 7 to 29 steps, and
exercises of 10 people with either arm, by the watch that they wore. Static are the speaker, the
person and the side, dynamic is the exercise. The cells of pairs are told in training who is who,
and that alone. The last row of a table is read from the data themselves: the mean and standard
deviation of every channel for f, and its values for z. The weights of the preset were once chosen
on this test part of the vowels, which flatters them."""


def _read(factor: str, code: str, probe: str) -> Column:
    """The accuracy of a probe that reads a factor, given with its role, from a code."""
    name = {"mean_z": "z", "spread_z": "z and its spread"}.get(code, code)
    figure = percent(at("probes", "accuracy", f"{factor} from {code}", probe))
    return Column(f"{factor.split()[1]} from {name}", "codes", figure, ".1f")


VOWELS = (
    Column("EER of f", "codes", percent(at("verification", "eer_f")), ".1f"),
    Column("EER of z", "codes", percent(at("verification", "eer_z")), ".1f"),
    _read("static speaker", "f", "logistic"),
    _read("static speaker", "mean_z", "logistic"),
)
WATCH = tuple(
    _read(factor, code, "boosting")
    for factor in ("static subject", "static side", "dynamic exercise")
    for code in ("f", "mean_z", "spread_z")
)


@click.command()
@click.argument("japanese_vowels", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("watch", type=click.Path(dir_okay=False, path_type=Path))
@plan_options(minutes=5)
def main(japanese_vowels: Path, watch: Path, **options: Any) -> None:
    """Train and evaluate on two prepared files, in the folder RUNS; write the page OUT."""
    plan = Plan(**options)
    cells = [
        Cell("japanese-vowels", japanese_vowels, preset="series", share=4),
        Cell("japanese-vowels-pairs", japanese_vowels, **VOWELS_PAIRS, preset="series", share=2),
        Cell("watch", watch, preset="series"),
        Cell("watch-pairs", watch, **WATCH_PAIRS, preset="series"),
    ]
    tables = [
        Table(
            "Japanese vowels: who speaks, in per cent",
            VOWELS,
            {RAW: row(Raw(), japanese_vowels, plan.part, VOWELS)},
            "The equal error rate of verification by the cosine of the codes is best at 0 for f "
            "and at 50 for z. The speaker is read by logistic regression.",
            ["japanese-vowels", "japanese-vowels-pairs"],
        ),
        Table(
            "Watch: who exercises with which arm, and what, in per cent",
            WATCH,
            {RAW: row(Raw(), watch, plan.part, WATCH)},
            "Read by gradient boosting from one draw of the codes: of z its mean over the steps, "
            "or mean and standard deviation.",
            ["watch", "watch-pairs"],
        ),
    ]
    carry_out(Study("Real series", ABOUT, cells, tables), plan)


if __name__ == "__main__":
    main()
