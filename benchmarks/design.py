"""What a study trains and shows: cells of options, and tables of figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from columns import Column
from pyro_dsae.evaluation.judge_scores import REPEATS

TRAINING = "training"  # the section of what a run's own metrics say
PLAIN: dict[str, dict[str, Any]] = {  # what turns the preset `small` into the bound as it is
    "model": {"dynamic_view": "none", "static_dropout": 0.0},
    "training": {"kl_f_growth": 1.0, "kl_z_weight": 1.0},
}


@dataclass(frozen=True)
class Cell:
    """What is trained with every seed.

    Args:
        name: of its row, and of the folder of its runs.
        data: the prepared file.
        model: fields of ModelConfig, changes on the preset.
        training: fields of TrainingConfig, changes on the preset.
        preset: where both start.
        judge: what judges it, trained on ``data`` where there is no such file; None for nothing.
        share: of the budget of a run, what its runs get.
    """

    name: str
    data: Path
    model: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    preset: str = "small"
    judge: Path | None = None
    share: float = 1.0

    def toml(self) -> str:
        """Its options as a file for ``dsae fit --config``."""
        lines = [f'preset = "{self.preset}"']
        for name, options in (("model", self.model), ("training", self.training)):
            lines += [f"[{name}]", *(f"{k} = {_toml(v)}" for k, v in options.items())]
        return "\n".join([*lines, ""])

    def describe(self) -> str:
        """Its options in words."""
        options = {**self.model, **self.training}
        options |= options.pop("objective_options", {})
        words = [f"preset {self.preset}", *(f"{key} {value}" for key, value in options.items())]
        words += [f"{self.share:.0%} of the budget"] if self.share != 1 else []
        return f"`{self.name}`: {', '.join(words)}, on {self.data.name}"


def _toml(value: Any) -> str:
    """A value of an option, or a table of them."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {_toml(of)}' for key, of in value.items())}}}"
    return json.dumps(value)


@dataclass(frozen=True)
class Table:
    """A table of the page, with a row for each cell.

    Args:
        title: its heading.
        columns: figures of every run.
        beside: rows that are no runs of the study: a name, and a text for each column.
        about: what stands below, in words.
        cells: names of those it shows; None for all.
        against: a cell whose figures, of the same seed, are taken from those of every other; None
            for the figures themselves.
    """

    title: str
    columns: Sequence[Column]
    beside: Mapping[str, Sequence[str]] = field(default_factory=dict)
    about: str = ""
    cells: Sequence[str] | None = None
    against: str | None = None

    def shows(self, cell: Cell) -> bool:
        return self.cells is None or cell.name in self.cells


@dataclass(frozen=True)
class Study:
    """What is trained and what is shown of it.

    Args:
        title: of the page.
        about: what it shows, in words.
        cells: names differ.
        tables: what they show is measured, and nothing else.
        repeats: draws from the priors that the judge's figures are averaged over.
    """

    title: str
    about: str
    cells: Sequence[Cell]
    tables: Sequence[Table]
    repeats: int = REPEATS

    def columns(self, cell: Cell) -> list[Column]:
        """Those of the tables that show a cell."""
        return [column for t in self.tables if t.shows(cell) for column in t.columns]

    def sections(self, cell: Cell) -> list[str]:
        """The sections of an evaluation that a cell needs."""
        needed = dict.fromkeys(column.section for column in self.columns(cell))
        return [section for section in needed if section != TRAINING]

    def readable(self, cell: Cell, sections: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """The sections of an evaluation of a cell that have all figures which are shown of them.

        One of an earlier release may lack some.
        """
        found = []
        for name in sections:
            try:
                for column in self.columns(cell):
                    if column.section == name:
                        column.of(sections)
            except KeyError:
                continue
            found.append(name)
        return found

    def heads(self, cell: Cell) -> dict[str, list[str]]:
        """The columns that show a cell, by the title of their table."""
        return {t.title: [of.head for of in t.columns] for t in self.tables if t.shows(cell)}
