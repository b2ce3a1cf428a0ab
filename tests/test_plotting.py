import io

import numpy as np
import pytest
from PIL import Image

from pyro_dsae.plotting import (
    GAP,
    LABELS,
    MARGIN,
    Block,
    Row,
    Swap,
    completions,
    gif,
    png,
    predictions,
    reconstructions,
    sheet,
    swap_gif,
    swaps,
)


def frames(steps: int, channels: int = 3, side: int = 64, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    made = random.integers(0, 256, (steps, side, side, channels), dtype=np.uint8)
    made[:, 0, 0] = 100  # not the page's white
    return made


def contains(page: np.ndarray, image: np.ndarray) -> bool:
    """Whether the image stands somewhere in the page, pixel for pixel."""
    h, w, _ = image.shape
    corners = np.argwhere((page[: 1 - h or None, : 1 - w or None] == image[0, 0]).all(axis=-1))
    return any((page[y : y + h, x : x + w] == image).all() for y, x in corners)


@pytest.mark.parametrize(("channels", "side"), [(3, 64), (1, 64), (3, 32), (4, 64), (5, 128)])
def test_a_sheet_shows_every_frame_in_exact_pixels(channels, side):
    rows = [Row("one", frames(3, channels, side)), Row("two", frames(2, channels, side, 1))]
    page = np.array(Image.open(io.BytesIO(png(sheet("title", [Block("block", rows)])))))[..., :3]
    for row in rows:
        for frame in row.frames:
            if channels == 4:
                frame = frame[..., :3]
            elif channels != 3:
                frame = frame.mean(axis=-1, keepdims=True).round().astype(np.uint8)
                frame = frame.repeat(3, axis=-1)
            factor = 128 // side
            assert contains(page, frame.repeat(factor, axis=0).repeat(factor, axis=1))


def test_a_sheet_says_what_it_shows_within_its_borders():
    long = "A: tanned, golden greaves, white longsleeve, ruby longknot; spellcard right"
    blocks = [
        Block(f"first\n{long}", [Row("A", frames(1))]),
        Block("second", [Row("B", frames(2))]),
    ]
    figure = sheet("$all^^of it$", blocks)  # no formula
    assert [text.get_text() for text in figure.texts] == [
        "$all^^of it$",
        f"first\n{long}",
        "A",
        "second",
        "B",
    ]
    figure.canvas.draw()
    page = figure.bbox
    boxes = [text.get_window_extent() for text in figure.texts]
    boxes += [axes.get_window_extent() for axes in figure.axes]
    for n, box in enumerate(boxes):
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
        assert not any(box.overlaps(other) for other in boxes[:n])
    assert figure.axes[1].get_window_extent().width == 2 * 128 + GAP


def test_a_gif_moves_through_all_steps_forever_and_waits_for_the_longest():
    long, short = frames(5), frames(2, seed=1)
    image = Image.open(io.BytesIO(gif(["A", "B"], [[long, short], [short, long]])))
    assert (image.n_frames, image.info["loop"], image.info["duration"]) == (5, 0, 120)


def test_a_gif_shows_its_frames():
    """Few colours, so that the palette holds them all."""
    moving = np.zeros((3, 64, 64, 3), np.uint8)
    for t in range(3):
        moving[t, 20 * t : 20 * t + 10, 5:30] = (250, 90 * t, 30)
        moving[t, 0, 0] = (0, 200, 0)
    image = Image.open(io.BytesIO(gif(["moving"], [[moving]])))
    for t in range(3):
        image.seek(t)
        assert contains(np.array(image.convert("RGB")), moving[t].repeat(2, 0).repeat(2, 1))


def swap(**truth) -> Swap:
    shown = [frames(2, seed=seed) for seed in range(4)]
    return Swap("red; walks", "blue; slashes", *shown, **truth)


def test_a_swap_stands_above_its_truth_with_its_error():
    pair = swap(truth_a=frames(2, seed=2), truth_b=np.zeros((2, 64, 64, 3), np.uint8))
    texts = [text.get_text() for text in swaps("title", [pair]).texts]
    error = (frames(2, seed=3) / 255.0) ** 2
    assert texts == [
        "title",
        "A: red; walks\nB: blue; slashes",
        "A",
        "B",
        "A with B's motion\nMSE 0.0000",
        "its true target",
        f"B with A's motion\nMSE {error.mean():.4f}",
        "its true target",
    ]


def test_a_swap_without_a_truth_stands_alone():
    texts = [text.get_text() for text in swaps("title", [swap()]).texts]
    assert texts[2:] == ["A", "B", "A with B's motion", "B with A's motion"]
    wide = Image.open(io.BytesIO(swap_gif([swap(truth_a=frames(2), truth_b=frames(2))]))).width
    assert Image.open(io.BytesIO(swap_gif([swap()]))).width < wide


def test_reconstructions_stand_below_their_originals():
    x, y = frames(2), frames(2, seed=1)
    texts = [text.get_text() for text in reconstructions("title", ["it"], [x], [y]).texts]
    error = (((x - y.astype(float)) / 255) ** 2).mean()
    assert texts == ["title", "it", "original", f"reconstruction\nMSE {error:.4f}"]


def test_predictions_are_shown_after_their_context():
    truth, predicted = frames(4), frames(3, seed=1)
    page = page_of(predictions("title", ["name"], [truth], [predicted], context=2))
    for row in (truth, np.concatenate([truth[:2], predicted])):
        strip = np.concatenate([enlarged(frame, 2) for frame in row], axis=1)
        assert contains(np.delete(page, gaps(len(row)), axis=1), strip)


def test_hidden_frames_are_shown_in_grey():
    truth, completed = frames(3), frames(3, seed=1)
    seen = np.array([True, False, True])
    page = page_of(completions("title", ["name"], [truth], [completed], [seen]))
    hidden = np.full((128, 128, 3), 128, np.uint8)
    observed = [enlarged(truth[0], 2), hidden, enlarged(truth[2], 2)]
    strip = np.concatenate(observed, axis=1)
    assert contains(np.delete(page, gaps(3), axis=1), strip)
    assert contains(page, enlarged(completed[1], 2))


def page_of(figure) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png(figure))))[..., :3]


def enlarged(frame: np.ndarray, factor: int) -> np.ndarray:
    return frame.repeat(factor, axis=0).repeat(factor, axis=1)


def gaps(count: int) -> list[int]:
    """Columns of the page between the frames of a row, which are 128 pixels wide."""
    left = MARGIN + LABELS
    return [left + n * (128 + GAP) + 128 + g for n in range(count - 1) for g in range(GAP)]
