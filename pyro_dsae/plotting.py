"""Pictures of sequences: frames side by side in exact pixels, under titles and labels.

Figures are drawn by matplotlib without pyplot, so nothing global changes and no screen is needed.
A frame is enlarged by a whole factor, never resampled.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pyro_dsae.analyses.reconstruct import picture_mse

DPI = 128  # a power of two: sizes in pixels survive the way over inches exactly
FRAME = 128  # a frame is enlarged to about this many pixels
GAP = 4  # between frames and between rows
MARGIN = 16
LABELS = 150  # width of the column of labels
LEAST = 640  # width of a sheet, so that titles have room
LINE = 20  # height of a line of text
STEP = 120  # milliseconds a frame; a GIF counts in tens
GREY = 0.35  # of text that is not a title
HIDDEN = 128  # grey level of a frame that is not observed


@dataclass(frozen=True)
class Row:
    """A sequence and what it is called; frames are uint8 (T, H, W, C)."""

    label: str
    frames: np.ndarray


@dataclass(frozen=True)
class Block:
    """Rows that belong together, under a title of one or more lines."""

    title: str
    rows: Sequence[Row]


@dataclass(frozen=True)
class Swap:
    """Two sequences, each with the other's motion; frames are uint8 (T, H, W, C).

    Args:
        name_a, name_b: what A and B are.
        a, b: the sequences.
        a_moves_as_b, b_moves_as_a: the swaps.
        truth_a, truth_b: what the swaps should be; None where nobody knows.
    """

    name_a: str
    name_b: str
    a: np.ndarray
    b: np.ndarray
    a_moves_as_b: np.ndarray
    b_moves_as_a: np.ndarray
    truth_a: np.ndarray | None = None
    truth_b: np.ndarray | None = None


def reconstructions(
    title: str, names: Sequence[str], originals: Sequence[np.ndarray], drawn: Sequence[np.ndarray]
) -> Figure:
    """Each sequence above its reconstruction, with the mean squared error a pixel."""
    return sheet(
        title,
        [
            Block(name, [Row("original", x), Row(f"reconstruction\n{_mse(y, x)}", y)])
            for name, x, y in zip(names, originals, drawn, strict=True)
        ],
    )


def predictions(
    title: str,
    names: Sequence[str],
    originals: Sequence[np.ndarray],
    predicted: Sequence[np.ndarray],
    context: int,
) -> Figure:
    """Each sequence above its first ``context`` frames and what is predicted to follow them.

    The mean squared error a pixel is that of the predicted frames that have a truth.
    """
    blocks = []
    for name, x, y in zip(names, originals, predicted, strict=True):
        truth = x[context : context + len(y)]
        label = f"predicted\nafter {context} true ones\n{_mse(y[: len(truth)], truth)}"
        rows = [Row("true", x), Row(label, np.concatenate([x[:context], y]))]
        blocks.append(Block(name, rows))
    return sheet(title, blocks)


def completions(
    title: str,
    names: Sequence[str],
    originals: Sequence[np.ndarray],
    completed: Sequence[np.ndarray],
    observed: Sequence[np.ndarray],
) -> Figure:
    """Each sequence above what is observed of it, hidden frames in grey, and the completed one.

    The mean squared error a pixel is that of the hidden frames.

    Args:
        observed: for each sequence bool (T,), True where a frame is observed.
    """
    blocks = []
    for name, x, y, seen in zip(names, originals, completed, observed, strict=True):
        shown = np.where(seen[:, None, None, None], x, np.uint8(HIDDEN))
        label = "completed" if seen.all() else f"completed\n{_mse(y[~seen], x[~seen])}"
        blocks.append(Block(name, [Row("true", x), Row("observed", shown), Row(label, y)]))
    return sheet(title, blocks)


def swaps(title: str, pairs: Sequence[Swap]) -> Figure:
    """A, B, A with B's motion and B with A's, each swap above its truth where there is one."""
    blocks = []
    for pair in pairs:
        rows = [Row("A", pair.a), Row("B", pair.b)]
        for label, drawn, truth in (
            ("A with B's motion", pair.a_moves_as_b, pair.truth_a),
            ("B with A's motion", pair.b_moves_as_a, pair.truth_b),
        ):
            if truth is None:
                rows.append(Row(label, drawn))
            else:
                rows.append(Row(f"{label}\n{_mse(drawn, truth)}", drawn))
                rows.append(Row("its true target", truth))
        blocks.append(Block(f"A: {pair.name_a}\nB: {pair.name_b}", rows))
    return sheet(title, blocks)


def swap_gif(pairs: Sequence[Swap]) -> bytes:
    """A, B, A with B's motion and its truth side by side, a row for each pair."""
    columns, rows = ["A", "B", "A with B's motion"], []
    if pairs[0].truth_a is not None:
        columns.append("its true target")
    for pair in pairs:
        shown = [pair.a, pair.b, pair.a_moves_as_b, pair.truth_a]
        rows.append(shown[: len(columns)])
    return gif(columns, rows)


def sheet(title: str, blocks: Sequence[Block]) -> Figure:
    """All frames of all rows, time from left to right.

    Frames have one channel (grey), three (RGB) or four, of which the first three are shown; of
    others, the mean over channels.
    """
    strips = [[(row.label, _strip(row.frames)) for row in block.rows] for block in blocks]
    heights = [sum(strip.shape[0] + GAP for _, strip in rows) for rows in strips]
    titles = [LINE * len(block.title.splitlines()) + GAP for block in blocks]
    widest = max(strip.shape[1] for rows in strips for _, strip in rows)
    height = MARGIN + 2 * LINE + sum(heights) + sum(titles) + MARGIN * len(blocks)
    figure = _figure(max(LEAST, 2 * MARGIN + LABELS + widest), height)
    _write(figure, MARGIN, MARGIN, title, size=10, weight="bold")
    y = MARGIN + 2 * LINE
    for block, rows, above in zip(blocks, strips, titles, strict=True):
        _write(figure, MARGIN, y, block.title)
        y += above
        for label, strip in rows:
            _place(figure, MARGIN + LABELS, y, strip)
            middle = y + strip.shape[0] // 2
            _write(figure, MARGIN, middle, label, va="center", color=str(GREY))
            y += strip.shape[0] + GAP
        y += MARGIN
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def gif(columns: Sequence[str], rows: Sequence[Sequence[np.ndarray]]) -> bytes:
    """A grid of moving sequences that repeats forever; a shorter one waits at its last frame.

    Args:
        columns: what stands above each column, in one line; empty for nothing.
        rows: in each, a sequence for each column, uint8 (T, H, W, C).
    """
    steps = max(len(frames) for row in rows for frames in row)
    _, height, width, _ = _enlarged(rows[0][0]).shape
    across, down = max(width, FRAME) + MARGIN, height + MARGIN  # at least as wide as a heading
    top = MARGIN + (LINE if any(columns) else 0)
    figure = _figure(len(columns) * across + MARGIN, top + len(rows) * down)
    for i, column in enumerate(columns):
        _write(figure, MARGIN + i * across, MARGIN // 2 + LINE, column, va="baseline")
    figure.canvas.draw()
    page = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
    images = []
    for t in range(steps):
        for j, row in enumerate(rows):
            for i, frames in enumerate(row):
                x, y = MARGIN + i * across, top + j * down
                shown = _enlarged(frames[min(t, len(frames) - 1)][None])[0]
                page[y : y + height, x : x + width] = shown
        images.append(Image.fromarray(page).quantize(dither=Image.Dither.NONE))
    content = io.BytesIO()
    images[0].save(
        content,
        format="GIF",
        save_all=True,
        append_images=images[1:],
        duration=STEP,
        loop=0,
    )
    return content.getvalue()


def _mse(drawn: np.ndarray, truth: np.ndarray) -> str:
    return f"MSE {picture_mse(drawn, truth):.4f}"


def _figure(width: int, height: int) -> Figure:
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _write(
    figure: Figure, x: int, y: int, text: str, size: int = 8, va: str = "top", **style: str
) -> None:
    """Text that starts at the pixel (x, y), counted from the upper left."""
    width, height = figure.canvas.get_width_height()
    place = x / width, 1 - y / height
    figure.text(*place, text, size=size, va=va, linespacing=1.3, parse_math=False, **style)


def _place(figure: Figure, x: int, y: int, image: np.ndarray) -> None:
    """An image (h, w, 3) with its upper left corner at the pixel (x, y)."""
    width, height = figure.canvas.get_width_height()
    h, w, _ = image.shape
    axes = figure.add_axes((x / width, 1 - (y + h) / height, w / width, h / height))
    axes.set_axis_off()
    axes.imshow(image, interpolation="nearest", aspect="auto")


def _strip(frames: np.ndarray) -> np.ndarray:
    """Frames (T, H, W, C) beside each other on white, uint8 (h, w, 3)."""
    frames = np.pad(_enlarged(frames), ((0, 0), (0, 0), (0, GAP), (0, 0)), constant_values=255)
    return np.concatenate(frames, axis=1)[:, :-GAP]


def _enlarged(frames: np.ndarray) -> np.ndarray:
    """Frames (T, H, W, C) in colour and of visible size, uint8 (T, h, w, 3)."""
    if frames.shape[-1] == 4:
        frames = frames[..., :3]
    if frames.shape[-1] != 3:
        grey = frames.mean(axis=-1, keepdims=True).round().astype(np.uint8)
        frames = np.repeat(grey, 3, axis=-1)
    factor = max(1, round(FRAME / max(frames.shape[1:3])))
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)
