"""The figures of a run's evaluation as the columns of a table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from statistics import fmean
from typing import Any

from pyro_dsae.evaluation.judge import MOTION


@dataclass(frozen=True)
class Column:
    """A figure of every run.

    Args:
        head: what it is, in words.
        section: of ``evaluation.json``.
        figure: takes it from the section's figures.
        digits: its format.
    """

    head: str
    section: str
    figure: Callable[[Mapping[str, Any]], float]
    digits: str = ".3f"

    def of(self, sections: Mapping[str, Mapping[str, Any]]) -> float | None:
        """The figure of one run, whose figures are given by section; None where there is none."""
        figures = sections.get(self.section, {"missing": "never measured"})
        return None if "missing" in figures else self.figure(figures)


def at(*path: str) -> Callable[[Mapping[str, Any]], float]:
    """The figure at the end of a path through dictionaries."""
    return lambda figures: reduce(lambda found, key: found[key], path, figures)


def attributes(row: str, side: str) -> Callable[[Mapping[str, Any]], float]:
    """The mean accuracy of the attributes in a row of the judge's, "on" target or "off" it."""
    return lambda figures: fmean(
        spread["mean"] for head, spread in figures[row][side].items() if head != MOTION
    )


def percent(figure: Callable[[Mapping[str, Any]], float]) -> Callable[[Mapping[str, Any]], float]:
    """A fraction in per cent."""
    return lambda figures: 100 * figure(figures)


EXACT: Sequence[Column] = (
    Column("reconstruction MSE", "exact", at("reconstruction_mse"), ".4f"),
    Column("swap MSE", "exact", at("swap_mse"), ".4f"),
    Column("swap ratio", "exact", at("swap_ratio")),
    Column("near_B", "exact", at("near_B")),
    Column("exact retrieval", "exact", at("retrieval", "top_1")),
)
JUDGED_SWAPS: Sequence[Column] = (
    Column("judge: motion of the swap", "judge", at("swap", "on", MOTION, "mean")),
    Column("judge: attributes of the swap", "judge", attributes("swap", "on")),
    Column("judge: attributes of the reconstruction", "judge", attributes("reconstruction", "on")),
)
