"""Moving shapes: a coloured shape on a plain ground that moves on a torus of 8 by 8 places.

Nothing but time tells one motion from another: over its 8 phases and any 8 steps, every motion at
either speed visits each of the 64 places exactly once, so that a frame alone says nothing about it.
"""

from typing import Any

import numpy as np

from pyro_dsae.datasets.source import Factor, OptionError, Source, check_option, check_seed

PLACES = 8  # along each side of the torus
DISTINCT = 3  # steps that tell any two motions apart

COLOURS = {
    "red": (230, 40, 40),
    "green": (40, 190, 60),
    "blue": (50, 80, 240),
    "yellow": (240, 220, 40),
    "magenta": (220, 60, 220),
    "cyan": (50, 220, 230),
}
BACKGROUNDS = {"black": (0, 0, 0), "grey": (110, 110, 110), "white": (250, 250, 250)}
SIZES = {"small": 4, "medium": 6, "large": 8}  # width in sixteenths of a frame
SPEEDS = {"slow": 1, "fast": 3}  # places a step; odd, so that 8 steps visit a whole loop

# One place on, clockwise from the right; y points down
COMPASS = np.array([(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)])
# name: first heading and turn a step, in eighths of a circle; the (x, y) that a phase adds
MOTIONS = {
    "horizontal": (0, 0, (4, 1)),
    "vertical": (2, 0, (1, 4)),
    "diagonal": (1, 0, (1, 4)),
    "antidiagonal": (7, 0, (1, 4)),
    "clockwise": (0, 1, (1, 4)),
    "counterclockwise": (0, -1, (1, 4)),
}

# Whether a pixel is inside, from its offsets (x, y) to the centre in half pixels and the width. The
# centre is the mean of those inside: where a triangle is, nothing else in the frames could tell.
SHAPES = {
    "square": lambda x, y, width: np.maximum(abs(x), abs(y)) < width,
    "disk": lambda x, y, width: x**2 + y**2 < width**2,
    "diamond": lambda x, y, width: abs(x) + abs(y) <= width,
    "triangle": lambda x, y, width: (3 * abs(x) <= 2 * (y + width)) & (2 * y <= width),
    "cross": lambda x, y, width: (
        (np.maximum(abs(x), abs(y)) < width) & (3 * np.minimum(abs(x), abs(y)) < width)
    ),
    "ring": lambda x, y, width: (x**2 + y**2 < width**2) & (4 * (x**2 + y**2) >= width**2),
}


class MovingShapes(Source):
    """A shape that goes straight or round, and comes in again where it went out; any length.

    The 324 characters are the combinations of shape, colour, size and background, 250 for training
    and 74 for testing; the 96 motions those of motion, phase and speed. The split is the same for
    every option. Per-step labels x and y: the shape's centre of mass, from 0 (left, top) to 1.

    steps: T of the file, 3 to 1000. shortest: lengths are drawn evenly from shortest, 3 at least,
        to T; None for T alone.
    size: height and width in pixels, a multiple of 16 from 32 to 256.
    motions: how many of the 96 a file holds of each character, drawn anew for each.
    seed: of both draws.
    Raises OptionError when one is out of range.
    """

    name = "moving-shapes"
    factors = (
        Factor("shape", "static", tuple(SHAPES)),
        Factor("colour", "static", tuple(COLOURS)),
        Factor("size", "static", tuple(SIZES)),
        Factor("background", "static", tuple(BACKGROUNDS)),
        Factor("motion", "dynamic", tuple(MOTIONS)),
        Factor("phase", "dynamic", tuple(map(str, range(PLACES)))),
        Factor("speed", "dynamic", tuple(SPEEDS)),
    )
    step_factors = (Factor("x", "dynamic"), Factor("y", "dynamic"))
    n_train = 250
    origin = "drawn by pyro-dsae"
    licence = "CC0-1.0"
    attribution = "Drawn by pyro-dsae."
    citation = "none"

    def __init__(
        self,
        steps: int = 8,
        shortest: int | None = None,
        size: int = 64,
        motions: int = 24,
        seed: int = 0,
    ):
        check_option("steps", steps, DISTINCT, 1000)
        shortest = steps if shortest is None else shortest
        check_option("shortest", shortest, DISTINCT, steps)
        check_option("size", size, 32, 256)
        if size % 16:
            raise OptionError(f"size = {size} is not a multiple of 16; try {size // 16 * 16}")
        check_option("motions", motions, 1, self.count("dynamic"))
        check_seed(seed)
        self.steps, self.shortest, self.size, self.seed = steps, shortest, size, seed
        self._n_motions = motions
        shape = self.count("static"), self.count("dynamic")
        random = np.random.RandomState(seed)
        self._order = random.random_sample(shape).argsort(axis=1, kind="stable")
        self._lengths = random.randint(shortest, steps + 1, shape, np.int64)
        self._centres = self._paths() * (size // 16) + 4 * (size // 16) + size // 32
        self._windows = self._canvases()

    @property
    def recipe(self) -> dict[str, Any]:
        return {
            **super().recipe,
            "steps": self.steps,
            "shortest": self.shortest,
            "size": self.size,
            "motions": self._n_motions,
            "seed": self.seed,
        }

    def motions(self, characters: np.ndarray) -> np.ndarray:
        return np.sort(self._order[characters, : self._n_motions], axis=1)

    def lengths(self, labels: np.ndarray) -> np.ndarray:
        return self._lengths[self.character(labels), self.motion(labels)]

    def step_labels(self, labels: np.ndarray) -> np.ndarray:
        return (self._centres[self.motion(labels)] / self.size).astype(np.float32)

    def _render(self, labels: np.ndarray) -> np.ndarray:
        colours, backgrounds = (
            np.array(list(palette.values()), np.uint8) for palette in (COLOURS, BACKGROUNDS)
        )
        shape, colour, size, background = labels[:, :4, None].swapaxes(0, 1)  # (N, 1) each
        corner = self.size - self._centres[self.motion(labels)]  # (N, T, 2)
        inside = self._windows[shape, size, corner[..., 1], corner[..., 0]]  # (N, T, S, S)
        frames = np.empty((*inside.shape, 3), np.uint8)
        for channel in range(3):
            frames[..., channel] = np.where(
                inside,
                colours[colour, channel][..., None, None],
                backgrounds[background, channel][..., None, None],
            )
        return frames

    def _paths(self) -> np.ndarray:
        """The place of every motion class at every step, (x, y) from 0 to 7, int (96, T, 2)."""
        phases = np.arange(PLACES)[:, None, None, None]
        index = np.outer(list(SPEEDS.values()), np.arange(self.steps)) % PLACES  # (2, T)
        paths = []
        for heading, turn, anchor in MOTIONS.values():
            moves = COMPASS[(heading + turn * np.arange(PLACES)) % PLACES]
            loop = np.cumsum(moves, axis=0) - moves[0]  # (8, 2), closed on the torus
            paths.append((phases * np.array(anchor) + loop[index]) % PLACES)  # (8, 2, T, 2)
        return np.stack(paths).reshape(-1, self.steps, 2)

    def _canvases(self) -> np.ndarray:
        """Windows of one frame on a canvas with each shape and size in its middle.

        Returns a view, bool (6, 3, S + 1, S + 1, S, S): the window at row S - y and column S - x is
        the frame with the centre at (x, y).
        """
        y, x = np.ogrid[
            1 - 2 * self.size : 2 * self.size : 2, 1 - 2 * self.size : 2 * self.size : 2
        ]
        widths = [width * self.size // 16 for width in SIZES.values()]
        canvas = np.array([[inside(x, y, width) for width in widths] for inside in SHAPES.values()])
        return np.lib.stride_tricks.sliding_window_view(canvas, (self.size, self.size), (2, 3))
