"""The figures of a run's evaluation as the columns of a table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from statistics import fmean
from typing import Any

from pyro_dsae.evaluation.judge import MOTION

Figure = Callable[[Mapping[str, Any]], float | None]  # of the figures of a section


@dataclass(frozen=True)
class Column:
    """A figure of every run.

    Args:
        head: what it is, in words.
        section: of ``evaluation.json``, or ``training`` for what a run's metrics say.
        figure: takes it from the section's figures; None where there is none.
        digits: its format.
    """

    head: str
    section: str
    figure: Figure
    digits: str = ".3f"

    def of(self, sections: Mapping[str, Mapping[str, Any]]) -> float | None:
        """The figure of one run, whose figures are given by section; None where there is none."""
        figures = sections.get(self.section, {"missing": "never measured"})
        return None if "missing" in figures else self.figure(figures)


def at(*path: str) -> Figure:
    """The figure at the end of a path through dictionaries; None where one of them is missing."""

    def follow(found: Any, key: str) -> Any:
        return None if found is None or "missing" in found else found[key]

    return lambda figures: reduce(follow, path, figures)


def attributes(row: str, side: str) -> Figure:
    """The mean accuracy of the attributes in a row of the judge's, "on" target or "off" it."""
    return lambda figures: fmean(
        spread["mean"] for head, spread in figures[row][side].items() if head != MOTION
    )


def percent(figure: Figure) -> Figure:
    """A fraction in per cent."""
    return lambda figures: None if (found := figure(figures)) is None else 100 * found


EXACT: Sequence[Column] = (
    Column("reconstruction MSE", "exact", at("reconstruction_mse"), ".5f"),
    Column("swap MSE", "exact", at("swap_mse"), ".5f"),
    Column("swap ratio", "exact", at("swap_ratio")),
    Column("near_B", "exact", at("near_B")),
    Column("exact retrieval", "exact", at("retrieval", "top_1")),
)
ORIGIN: Sequence[Column] = tuple(  # of sprites
    Column(f"{factor} from {end}", "exact", at("factors", factor, f"from_{end}"))
    for factor in ("action", "direction")
    for end in "BA"
)
JUDGED_SWAPS: Sequence[Column] = (
    Column("judge: motion of the swap", "judge", at("swap", "on", MOTION, "mean")),
    Column("judge: attributes of the swap", "judge", attributes("swap", "on")),
    Column("judge: attributes of the reconstruction", "judge", attributes("reconstruction", "on")),
)
INCEPTION: Sequence[Column] = (
    Column("accuracy, %", "judge", percent(at("inception", "accuracy", "mean")), ".2f"),
    Column("IS", "judge", at("inception", "score", "mean")),
    Column("H(y|x)", "judge", at("inception", "conditional_entropy", "mean"), ".2g"),
    Column("H(y)", "judge", at("inception", "entropy", "mean")),
)
LEAKAGE: Sequence[Column] = (
    *(
        Column(f"{what.replace('_', ' ')}, {of}", "codes", at("probes", what, of))
        for what in ("static_from_z", "dynamic_from_f")
        for of in ("logistic", "boosting", "floor")
    ),
    Column("EER of f", "codes", at("verification", "eer_f")),
    Column("EER of z", "codes", at("verification", "eer_z")),
)
BOUND: Sequence[Column] = tuple(
    Column(name, "bound", at(key), ".1f")
    for name, key in {
        "ELBO": "elbo",
        "reconstruction": "reconstruction",
        "KL_f": "kl_f",
        "KL_z": "kl_z",
        "active units of f": "active_f",
        "active units of z": "active_z",
        "importance weights add": "gain",
    }.items()
)
