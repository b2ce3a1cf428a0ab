"""Toy sprites: the factors, shapes and split of Sprites, drawn by numpy, with nothing to download.

Each motion and frame is a map of parts, (64, 64); a palette of the static factors colours it.
"""

import numpy as np

from pyro_dsae.datasets.source import Factor, Source
from pyro_dsae.datasets.sprites import DYNAMIC_FACTORS

PARTS = ("background", "skin", "trousers", "shirt", "hair", "shoes")
BACKGROUND, SKIN, TROUSERS, SHIRT, HAIR, SHOES = range(len(PARTS))
BLACK = (0, 0, 0)
SHOE_COLOUR = (110, 110, 110)

SKINS = {
    "pale": (255, 224, 196),
    "beige": (224, 172, 124),
    "brown": (150, 96, 60),
    "umber": (92, 56, 36),
    "green": (120, 180, 100),
    "blue": (120, 150, 210),
}
TROUSER_COLOURS = {
    "white": (236, 236, 236),
    "gold": (214, 170, 40),
    "red": (190, 30, 40),
    "steel": (140, 150, 170),
    "teal": (20, 140, 140),
    "navy": (30, 40, 110),
}
SHIRT_COLOURS = {
    "maroon": (128, 20, 50),
    "cyan": (60, 200, 220),
    "cream": (250, 244, 210),
    "grey": (160, 160, 160),
    "leather": (130, 80, 30),
    "violet": (130, 60, 180),
}
HAIR_COLOURS = {
    "lime": (130, 220, 40),
    "azure": (40, 110, 240),
    "blonde": (244, 214, 90),
    "silver": (205, 210, 220),
    "ruby": (210, 20, 70),
    "purple": (110, 30, 130),
}

STRIDE = (0, 3, 5, 3, 0, -3, -5, -3)  # pixels that a foot is ahead, a frame
RAISE = (0, 5, 10, 15, 20, 22, 20, 10)  # pixels that the hands are above rest, a frame
# (x, y) from the shoulder to the hand that swings, a frame
SWORD = ((-6, -14), (0, -18), (7, -15), (12, -8), (14, 0), (11, 7), (4, 11), (-3, 9))


class ToySprites(Source):
    """8 frames of 64 x 64 pixels of a drawn figure; every part shows in every frame.

    Right is the mirror image of left, and slash is a swing of one arm.
    """

    name = "toy-sprites"
    factors = (
        Factor("body", "static", tuple(SKINS)),
        Factor("bottomwear", "static", tuple(TROUSER_COLOURS)),
        Factor("topwear", "static", tuple(SHIRT_COLOURS)),
        Factor("hair", "static", tuple(HAIR_COLOURS)),
        *DYNAMIC_FACTORS,
    )
    steps = 8
    n_train = 1000
    origin = "drawn by pyro-dsae"
    licence = "CC0-1.0"
    attribution = "Drawn by pyro-dsae."
    citation = "The factors and the split follow Li and Mandt (2018), arXiv:1803.02991."

    def __init__(self) -> None:
        self.parts = np.stack(
            [
                np.stack([_figure(action, direction, frame) for frame in range(8)])
                for action in DYNAMIC_FACTORS[0].classes
                for direction in DYNAMIC_FACTORS[1].classes
            ]
        )  # (9, 8, 64, 64)

    def _render(self, labels: np.ndarray) -> np.ndarray:
        skins, trousers, shirts, hairs = (
            np.array(list(colours.values()), np.uint8)
            for colours in (SKINS, TROUSER_COLOURS, SHIRT_COLOURS, HAIR_COLOURS)
        )
        palette = np.zeros((len(labels), len(PARTS), 3), np.uint8)
        palette[:, BACKGROUND] = BLACK
        palette[:, SKIN] = skins[labels[:, 0]]
        palette[:, TROUSERS] = trousers[labels[:, 1]]
        palette[:, SHIRT] = shirts[labels[:, 2]]
        palette[:, HAIR] = hairs[labels[:, 3]]
        palette[:, SHOES] = SHOE_COLOUR
        frames = np.empty((len(labels), *self.parts.shape[1:], 3), np.uint8)
        for n, motion in enumerate(self.motion(labels)):
            np.take(palette[n], self.parts[motion], axis=0, out=frames[n])
        return frames


def _figure(action: str, direction: str, frame: int) -> np.ndarray:
    """Draw one frame as a map of parts, uint8 (64, 64)."""
    canvas = np.zeros((64, 64), np.uint8)
    side = direction != "front"
    stride = STRIDE[frame] if action == "walk" else 0
    top = 8 + (abs(stride) // 3 if action == "walk" else 0)  # the walk bobs
    _legs(canvas, side, stride)
    _box(canvas, SHIRT, 26 if side else 24, top + 18, 12 if side else 16, 18)
    _disk(canvas, SKIN, 32, top + 9, 9)
    _hair(canvas, side, top)
    for x, y, hand_x, hand_y in _arms(action, side, frame, stride, top + 20):
        elbow_x, elbow_y = (x + hand_x) // 2, (y + hand_y) // 2
        _limb(canvas, SHIRT, x, y, elbow_x, elbow_y, 2)
        _limb(canvas, SKIN, elbow_x, elbow_y, hand_x, hand_y, 2)
    return canvas[:, ::-1] if direction == "right" else canvas  # drawn facing left


def _legs(canvas: np.ndarray, side: bool, stride: int) -> None:
    """Draw both legs: apart and lifted in front view, ahead and behind in side view."""
    for sign in (1, -1):
        lift = max(sign * stride, 0)
        if side:
            x = 32 - sign * stride
            _limb(canvas, TROUSERS, 32, 44, x, 53, 3)
            _box(canvas, SHOES, x - 5, 55, 8, 5)  # toes to the left
        else:
            x = 32 + 5 * sign
            _limb(canvas, TROUSERS, x, 44, x, 53 - lift, 3)
            _box(canvas, SHOES, x - 3, 55 - lift, 6, 5)


def _hair(canvas: np.ndarray, side: bool, top: int) -> None:
    """Draw hair over the crown, and down the back of the head in side view."""
    _box(canvas, HAIR, 25, top - 1, 15, 6)
    if side:
        _box(canvas, HAIR, 36, top + 3, 6, 12)
    else:
        _box(canvas, HAIR, 22, top + 2, 3, 9)
        _box(canvas, HAIR, 40, top + 2, 3, 9)


def _arms(
    action: str, side: bool, frame: int, stride: int, y: int
) -> tuple[tuple[int, int, int, int], ...]:
    """Shoulder and hand (x, y) of each arm, the one behind first."""
    left, right = (32, 32) if side else (23, 41)
    rest = y + 16
    if action == "walk":
        if side:
            return ((left, y, left + stride, rest - 2), (right, y, right - stride, rest - 2))
        return ((left, y, left - 2, rest - stride), (right, y, right + 2, rest + stride))
    if action == "spellcard":
        up = rest - RAISE[frame]
        if side:
            return ((left, y, left - 10, up), (right, y, right - 14, up))
        return ((left, y, left - 7, up), (right, y, right + 7, up))
    dx, dy = SWORD[frame]
    if side:
        return ((right, y, right + 4, rest - 2), (left, y, left - dx, y + dy))
    return ((right, y, right + 2, rest), (left, y, left - dx, y + dy))


def _box(canvas: np.ndarray, part: int, x: int, y: int, width: int, height: int) -> None:
    canvas[y : y + height, x : x + width] = part


def _disk(canvas: np.ndarray, part: int, x: int, y: int, radius: int) -> None:
    rows, columns = np.ogrid[:64, :64]
    canvas[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = part


def _limb(canvas: np.ndarray, part: int, x0: int, y0: int, x1: int, y1: int, radius: int) -> None:
    """Sweep a disk along a segment, in integers, so that every machine draws the same pixels."""
    steps = max(abs(x1 - x0), abs(y1 - y0), 1)
    for k in range(steps + 1):
        x, y = x0 + (x1 - x0) * k // steps, y0 + (y1 - y0) * k // steps
        _disk(canvas, part, x, y, radius)
