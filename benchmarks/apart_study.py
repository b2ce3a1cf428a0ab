"""What keeps f and z apart: the preset ``small`` on Sprites beside what it leaves out.

python benchmarks/apart_study.py sprites.h5 runs/apart docs/apart.md
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from columns import EXACT, JUDGED_SWAPS, ORIGIN, Column, at
from design import PLAIN, Cell, Study, Table
from plan import Plan, judge_option, plan_options
from pyro_dsae.analyses.codes import device_of
from pyro_dsae.analyses.reconstruct import picture_mse
from pyro_dsae.analyses.swap import swap
from pyro_dsae.checkpoint import write_whole
from pyro_dsae.cli.options import open_run
from pyro_dsae.datasets import renderer
from pyro_dsae.evaluation.exact import match_pairs
from pyro_dsae.evaluation.judge import MOTION, Judge, load_judge
from pyro_dsae.plotting import Block, Row, png, sheet
from pyro_dsae.run_folder import CONFIG
from pyro_dsae.sequences import to_float
from study import carry_out

PAIRS = 2  # in the picture
ABOUT = """\
A plain ELBO does not say which code a constant of the sequence belongs to, and a direction is one.
Below are a training with it, the preset `small`, `small` without either of its two means, and the
preset `bottleneck`, for data of which nothing can be declared to be appearance. A blend of two
motions can pass for the right one with a judge, which has to choose one of nine; it does not pass
for the pixels. The command at the end also draws %s: two pairs as they are swapped by each model of
seed 0, below the true sequence, with the error a pixel and what the judge takes it for. The sprites
are under another licence than this page, so it is not here."""

# By name, what differs from a cell of `small`.
MODELS: dict[str, dict[str, Any]] = {
    "plain-elbo": PLAIN,
    "small-no-view": {"model": {"dynamic_view": "none"}},
    "small-no-dropout": {"model": {"static_dropout": 0.0}},
    "small": {},
    "bottleneck": {"preset": "bottleneck"},
}
FACTORS = {
    **dict.fromkeys(("body", "bottomwear", "topwear", "hair"), "static"),
    **dict.fromkeys(("action", "direction"), "dynamic"),
}
NATS = tuple(
    Column(
        f"{factor} in {code}",
        "codes",
        at("probes", "accuracy", f"{role} {factor} from {read}", "nats"),
        ".2f",
    )
    for factor, role in FACTORS.items()
    for code, read in (("f", "f"), ("z", "mean_z"))
)
TABLES = (
    Table("Swaps: exact scores beside the judge", (*EXACT, *JUDGED_SWAPS)),
    Table(
        "Whose action and direction a swap shows",
        ORIGIN,
        about="By its nearest true sequence of A's appearance, of the pairs that differ in it.",
    ),
    Table(
        "Where each factor sits, in nats",
        NATS,
        about="What logistic regression finds out about a factor from one draw of f, or of z "
        "averaged over its steps, on sequences that it was not fitted on. It is a lower bound on "
        "their mutual information, of log 6 = 1.79 nats for an attribute and log 3 = 1.10 for "
        "action and direction.",
    ),
)


def picture(folders: Sequence[Path], data: Path, judge: Judge, plan: Plan) -> bytes:
    """The swaps of the same pairs by the run in each of ``folders``, as a PNG."""
    drawn = {}
    for folder in folders:
        with open_run(str(folder), str(data), plan.part, plan.device) as opened:
            static, dynamic = opened.labels("static"), opened.labels("dynamic")
            a = opened.choose("pairs", PAIRS, seed=0)
            b = match_pairs(static, dynamic, seed=0)[a]
            ends = [
                [
                    (f"{end}: {opened.describe(i)}", opened.frames(i))
                    for end, i in zip("AB", pair, strict=True)
                ]
                for pair in zip(a, b, strict=True)
            ]
            truth = renderer(opened.file).render(np.hstack([static[a], dynamic[b]]))
            drawn[folder.parent.name] = swap(opened.dsae, opened.sequences, a, b)
    verdicts = {name: _verdicts(judge, frames, truth) for name, frames in drawn.items()}
    blocks = []
    for n, ((name_a, who), (name_b, what)) in enumerate(ends):
        rows = [Row("A", who), Row("B", what), Row("A with B's motion,\nas it is", truth[n])]
        for model, frames in drawn.items():
            rows.append(Row(f"{model}\n{verdicts[model][n]}", frames[n]))
        blocks.append(Block(f"{name_a}\n{name_b}", rows))
    return png(sheet("A with B's motion, by each model", blocks))


def _verdicts(judge: Judge, drawn: np.ndarray, truth: np.ndarray) -> list[str]:
    """What pixels and judge say of each sequence, uint8 (n, T, H, W, C)."""
    on = device_of(judge)
    seen, true = (
        {head: rows.argmax(dim=1) for head, rows in judge(to_float(frames, on)).items()}
        for frames in (drawn, truth)
    )
    right = {head: (seen[head] == true[head]).tolist() for head in seen}
    motion = right.pop(MOTION)
    return [
        f"MSE {picture_mse(drawn[n], truth[n]):.4f}; judge:\n"
        f"{'right' if motion[n] else 'wrong'} motion, "
        f"{sum(of[n] for of in right.values())} of {len(right)}\nattributes"
        for n in range(len(drawn))
    ]


@click.command()
@click.argument("data", type=click.Path(dir_okay=False, path_type=Path))
@plan_options(minutes=10, seeds=1)
@judge_option
def main(data: Path, judge: Path, **options: Any) -> None:
    """Train and evaluate all on DATA, prepared sprites, in the folder RUNS; write the page OUT and
    the picture RUNS/swaps.png."""
    plan = Plan(**options)
    cells = [Cell(name, data, **changes, judge=judge) for name, changes in MODELS.items()]
    shown = plan.runs / "swaps.png"
    about = ABOUT % f"`{shown}`"
    carry_out(Study("What keeps f and z apart", about, cells, TABLES), plan)
    folders = [plan.runs / cell.name / "seed-0" for cell in cells]
    if all((folder / CONFIG).exists() for folder in folders):  # or the picture there is theirs
        write_whole(shown, picture(folders, data, load_judge(judge), plan))


if __name__ == "__main__":
    main()
