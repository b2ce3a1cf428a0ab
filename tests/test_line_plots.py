"""What the pictures of series show."""

import numpy as np

from pyro_dsae.line_plots import BAND, COLUMNS, completions, predictions, samples, swaps
from pyro_dsae.plotting import Swap, png


def plots(figure):
    """The axes with lines, a row for each series."""
    return [axes for axes in figure.axes if axes.lines]


def test_a_prediction_starts_after_its_context_in_a_band_of_two_deviations():
    x, y = np.arange(12.0).reshape(6, 2), np.full((3, 2), 7.0)
    figure = predictions("title", ["one"], [x], [y], 4, [np.full((3, 2), 0.5)], ["a", "b"])
    first, second = plots(figure)
    assert [axes.get_title() for axes in (first, second)] == ["a", "b"]
    true, predicted = second.lines
    assert true.get_ydata().tolist() == x[:, 1].tolist()
    assert predicted.get_xdata().tolist() == [5, 6, 7]
    (band,) = second.collections
    edges = band.get_paths()[0].vertices[:, 1]
    assert (edges.min(), edges.max()) == (7 - BAND * 0.5, 7 + BAND * 0.5)
    assert png(figure).startswith(b"\x89PNG")


def test_what_was_observed_is_dotted_and_has_no_band():
    x = np.array([[1.0], [np.nan], [3.0]])
    seen, filled = np.array([[True], [False], [False]]), np.array([[1.0], [2.0], [2.5]])
    figure = completions("title", ["one"], [x], [filled], [seen], [np.ones((3, 1))], ["a"])
    (axes,) = plots(figure)
    dots = next(line for line in axes.lines if line.get_label() == "observed")
    assert dots.get_linestyle() == "None" and np.isfinite(dots.get_ydata()).tolist() == [1, 0, 0]
    widths = np.ptp(axes.collections[0].get_paths()[0].vertices[:, 1])
    assert widths > 2 * BAND - 1  # where nothing was seen


def test_a_pair_is_drawn_both_ways_beside_its_originals():
    a, b = np.zeros((3, 1)), np.ones((5, 1))
    pair = Swap("ann", "bob", a, b, a_moves_as_b=b + 2, b_moves_as_a=a + 3)
    figure = swaps("title", [pair], [(b * 0, a * 0)], ["x"])
    lines = [
        {line.get_label(): line.get_ydata().tolist() for line in p.lines} for p in plots(figure)
    ]
    assert lines == [
        {"A": [0] * 3, "B": [1] * 5, "swap": [3] * 5},
        {"A": [0] * 3, "B": [1] * 5, "swap": [3] * 3},
    ]


def test_the_first_of_many_channels_are_shown_and_the_title_says_so():
    names = [f"c$^^{n}$" for n in range(COLUMNS + 2)]  # no formula
    figure = samples("title", [np.zeros((4, len(names)))] * 2, names)
    assert len(plots(figure)) == 2 * COLUMNS
    figure.canvas.draw()
    assert figure.get_suptitle() == f"title, first {COLUMNS} of {COLUMNS + 2} channels"
