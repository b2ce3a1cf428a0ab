"""Pictures of series: a line for each channel over the steps, with bands of two deviations.

The counterpart of :mod:`pyro_dsae.plotting` for sequences whose frames are vectors. Values are in
their own units; NaN is missing, and a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pyro_dsae.plotting import DPI, Swap

COLUMNS = 6  # channels shown
SIZE = (1.9, 1.1)  # inches of one plot
BAND = 2  # standard deviations
TRUE, OTHER, MODEL, SEEN = "0.55", "tab:orange", "tab:blue", "black"


@dataclass(frozen=True)
class Curve:
    """Values over the steps, one line a channel.

    Args:
        label: what it is called in the legend.
        colour: of matplotlib.
        values: (T, D).
        spread: standard deviation of each value, (T, D); None for no band.
        start: step of the first value.
        dots: draw points instead of a line.
    """

    label: str
    colour: str
    values: np.ndarray
    spread: np.ndarray | None = None
    start: int = 0
    dots: bool = False


def reconstructions(
    title: str,
    names: Sequence[str],
    originals: Sequence[np.ndarray],
    drawn: Sequence[np.ndarray],
    spreads: Sequence[np.ndarray],
    channels: Sequence[str],
) -> Figure:
    """Each series and its reconstruction."""
    rows = [
        (name, [Curve("original", TRUE, x), Curve("reconstruction", MODEL, y, spread)])
        for name, x, y, spread in zip(names, originals, drawn, spreads, strict=True)
    ]
    return sheet(title, rows, channels)


def predictions(
    title: str,
    names: Sequence[str],
    originals: Sequence[np.ndarray],
    predicted: Sequence[np.ndarray],
    context: int,
    spreads: Sequence[np.ndarray],
    channels: Sequence[str],
) -> Figure:
    """Each series and what is predicted to follow its first ``context`` steps."""
    label = f"predicted after {context} true steps"
    rows = [
        (name, [Curve("true", TRUE, x), Curve(label, MODEL, y, spread, start=context)])
        for name, x, y, spread in zip(names, originals, predicted, spreads, strict=True)
    ]
    return sheet(title, rows, channels)


def completions(
    title: str,
    names: Sequence[str],
    originals: Sequence[np.ndarray],
    completed: Sequence[np.ndarray],
    observed: Sequence[np.ndarray],
    spreads: Sequence[np.ndarray],
    channels: Sequence[str],
) -> Figure:
    """Each series, what is observed of it, bool (T, D), and what is filled in."""
    rows = []
    for name, x, y, seen, spread in zip(
        names, originals, completed, observed, spreads, strict=True
    ):
        curves = [
            Curve("true", TRUE, x),
            Curve("completed", MODEL, y, np.where(seen, 0, spread)),
            Curve("observed", SEEN, np.where(seen, x, np.nan), dots=True),
        ]
        rows.append((name, curves))
    return sheet(title, rows, channels)


def swaps(
    title: str,
    pairs: Sequence[Swap],
    spreads: Sequence[tuple[np.ndarray, np.ndarray]],
    channels: Sequence[str],
) -> Figure:
    """Each pair A and B, beside A with B's motion and, below, B with A's."""
    rows = []
    for pair, (spread_a, spread_b) in zip(pairs, spreads, strict=True):
        about = f"A: {pair.name_a}\nB: {pair.name_b}"
        a, b = Curve("A", TRUE, pair.a), Curve("B", OTHER, pair.b)
        for words, values, spread in (
            ("A with B's motion", pair.a_moves_as_b, spread_a),
            ("B with A's motion", pair.b_moves_as_a, spread_b),
        ):
            rows.append((f"{words}\n{about}", [a, b, Curve("swap", MODEL, values, spread)]))
    return sheet(title, rows, channels)


def samples(title: str, drawn: Sequence[np.ndarray], channels: Sequence[str]) -> Figure:
    """New series, (T, D) each."""
    rows = [(f"sample {n}", [Curve("sample", MODEL, x)]) for n, x in enumerate(drawn, start=1)]
    return sheet(title, rows, channels)


def sheet(
    title: str, rows: Sequence[tuple[str, Sequence[Curve]]], channels: Sequence[str]
) -> Figure:
    """A row of plots for each series, one for each of the first channels, and what it is called."""
    shown = list(channels[:COLUMNS])
    width, height = SIZE[0] * (len(shown) + 1), SIZE[1] * len(rows) + 1
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    more = f", first {len(shown)} of {len(channels)} channels" if len(channels) > len(shown) else ""
    figure.suptitle(title + more, size=10, weight="bold", parse_math=False)
    axes = figure.subplots(len(rows), len(shown) + 1, squeeze=False, sharex=True)
    for (name, curves), (words, *plots) in zip(rows, axes, strict=True):
        words.set_axis_off()
        words.text(0, 0.5, name, size=7, va="center", wrap=True, parse_math=False)
        for channel, plot in enumerate(plots):
            for curve in curves:
                _draw(plot, curve, channel)
            plot.tick_params(labelsize=6)
    for name, plot in zip(shown, axes[0][1:], strict=True):
        plot.set_title(name, size=8, parse_math=False)
    handles, labels = axes[0][1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=7)
    return figure


def _draw(plot: Axes, curve: Curve, channel: int) -> None:
    steps = np.arange(len(curve.values)) + curve.start + 1
    values = curve.values[:, channel]
    # A value between two gaps would make no line.
    style = {"linestyle": "none", "marker": "."} if curve.dots else {"marker": ".", "linewidth": 1}
    plot.plot(steps, values, color=curve.colour, label=curve.label, markersize=2.5, **style)
    if curve.spread is not None:
        reach = BAND * curve.spread[:, channel]
        plot.fill_between(
            steps, values - reach, values + reach, color=curve.colour, alpha=0.2, linewidth=0
        )
