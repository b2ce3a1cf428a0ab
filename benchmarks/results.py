"""What a study measured: its single figures as JSON, and the page of its tables."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from design import Cell, Study, Table
from pages import command, mean_and_sd, mean_and_se, table
from plan import Plan
from pyro_dsae.checkpoint import write_whole

NONE = "—"  # in a table, where there is no figure


@dataclass(frozen=True)
class Result:
    """What was measured of a run, and how: an entry of the single figures.

    Args:
        part: of the data, that it was measured on.
        settings: of its model and training.
        data: its name, the hash of its content, and how many sequences of the part were measured.
        epochs: what it reached.
        trained, evaluated: how, in words; more than one where it was resumed.
        judge: how often its judge is right, in words; None for no judge.
        figures: by the title of a table and the head of a column; None where there is none.
    """

    cell: str
    seed: int
    part: str
    settings: Mapping[str, Mapping[str, Any]]
    data: Mapping[str, str | int]
    epochs: int
    weights_sha256: str
    trained: Sequence[str]
    evaluated: Sequence[str]
    judge: str | None
    figures: Mapping[str, Mapping[str, float | None]]


def read(plan: Plan) -> list[Result]:
    """The single figures that stand beside the page already.

    Raises ClickException when the file there holds something else.
    """
    if not plan.single.exists():
        return []
    try:
        return [Result(**entry) for entry in json.loads(plan.single.read_text())]
    except (ValueError, TypeError):
        raise click.ClickException(
            f"{plan.single}: holds no figures of a study; give the page another name"
        ) from None


def write(
    results: Sequence[Result],
    others: Sequence[Result],
    study: Study,
    plan: Plan,
    failed: Sequence[str],
) -> None:
    """Write the page of ``results``, and the single figures of these and ``others``."""
    entries = [dataclasses.asdict(result) for result in [*results, *others]]
    write_whole(plan.single, (json.dumps(entries, indent=1) + "\n").encode())
    write_whole(plan.out, _page(results, study, plan, failed).encode())


def _page(results: Sequence[Result], study: Study, plan: Plan, failed: Sequence[str]) -> str:
    """The whole Markdown page."""
    lines = [f"# {study.title}", "", study.about, ""]
    lines += [
        f"Mean ± sample standard deviation over n runs that differ in their seed, on the part "
        f"{plan.part}, all of it. Epochs are what each run reached.",
        "",
    ]
    for shown in study.tables:
        rows = [
            _row(cell, shown, results)
            for cell in study.cells
            if shown.shows(cell) and cell.name != shown.against
        ]
        rows += [[name, NONE, NONE, *cells] for name, cells in shown.beside.items()]
        heads = ["cell", "n", "epochs", *(column.head for column in shown.columns)]
        lines += [f"## {shown.title}", "", *table(heads, rows), ""]
        if shown.against:
            lines += [
                f"Less the figure of `{shown.against}` of the same seed: mean ± standard error.",
                "",
            ]
        lines += [shown.about, ""] if shown.about else []
    unit, budget = plan.budget
    made = [
        *(
            f"{of.data['name']}: content sha256 {of.data['content_sha256']}, measured on "
            f"{of.data['sequences']:,} sequences"
            for of in results
        ),
        *(result.judge for result in results if result.judge),
        *(f"trained: {how}" for result in results for how in result.trained),
        *(f"evaluated: {how}" for result in results for how in result.evaluated),
    ]
    facts = [
        f"command: `{command().replace(' --so-far', '')}`",  # which goes on from this page
        f"each run: {budget:g} {unit}; seeds 0 to {plan.seeds - 1}",
        *(cell.describe() for cell in study.cells),
        *dict.fromkeys(made),
        f"single figures: [{plan.single.name}]({plan.single.name})",
        *failed,
    ]
    lines += ["## How it was made", "", *(f"* {fact}" for fact in facts), ""]
    return "\n".join(lines) + (f"\n{plan.notes.read_text()}" if plan.notes else "")


def _row(cell: Cell, shown: Table, results: Sequence[Result]) -> list[str]:
    mine, base = (
        {of.seed: of.figures[shown.title] for of in results if of.cell == name}
        for name in (cell.name, shown.against)
    )
    epochs = ", ".join(str(result.epochs) for result in results if result.cell == cell.name)
    spread, cells = mean_and_se if shown.against else mean_and_sd, []
    for column in shown.columns:
        values = []
        for seed, figures in mine.items():
            figure = figures[column.head]
            other = base.get(seed, {}).get(column.head) if shown.against else 0.0
            if figure is not None and other is not None:
                values.append(figure - other)
        fewer = f" (n = {len(values)})" if len(values) < len(mine) else ""
        cells.append(spread(values, column.digits) + fewer if values else NONE)
    return [f"`{cell.name}`", str(len(mine)), epochs or NONE, *cells]
