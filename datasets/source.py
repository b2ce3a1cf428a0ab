"""What every source of sequences offers: factors, which of them a file holds, and exact frames."""

import inspect
import math
from typing import Any, ClassVar

import numpy as np

from pyro_dsae.datasets import hdf5
from pyro_dsae.datasets.hdf5 import DataError, Factor, SequenceFile
from pyro_dsae.datasets.rendering import Renderer

__all__ = ["Factor", "OptionError", "Source", "check_option", "check_seed"]


class OptionError(DataError):
    """An option that a source does not take, or a value out of its range."""


def check_option(name: str, value: int, low: int, high: int) -> None:
    """Raise OptionError unless value is a whole number from low to high."""
    if not isinstance(value, int) or not low <= value <= high:
        raise OptionError(f"{name} = {value!r} is out of range, expected {low} to {high}")


def check_seed(seed: int) -> None:
    """Raise OptionError unless numpy's random generators take it."""
    check_option("seed", seed, 0, 2**32 - 1)


class Source(Renderer):
    """A full factorial of sequences: every motion of every character can be drawn.

    A character is a combination of the static factors, a motion one of the dynamic factors, and
    both are numbered with the last factor fastest. The first `n_train` characters of a seeded
    permutation are for training, the others for testing.

    A subclass names its factors, its licence and its citation, and draws frames in `_render`. Its
    options are the arguments of its constructor.
    """

    name: ClassVar[str]
    factors: ClassVar[tuple[Factor, ...]]  # static ones first
    step_factors: ClassVar[tuple[Factor, ...]] = ()  # those with a value for each step
    steps: int  # T
    n_train: ClassVar[int]
    split_seed: ClassVar[int] = 423
    origin: ClassVar[str]
    licence: ClassVar[str]  # an SPDX expression
    attribution: ClassVar[str]
    citation: ClassVar[str]
    source_sha256: ClassVar[str] = ""

    @classmethod
    def options(cls) -> tuple[str, ...]:
        """Names of what the constructor takes."""
        return tuple(inspect.signature(cls).parameters)

    @classmethod
    def renderer(cls, file: SequenceFile) -> Renderer:
        """The source as it was when it made an open file.

        Raises DataError when it does not draw what is in the file.
        """
        try:
            made = cls(**{name: file.recipe[name] for name in cls.options()})
        except (KeyError, OptionError) as error:
            raise DataError(
                f"{file.path}: its recipe is damaged ({error}); {hdf5.REMEDY}"
            ) from error
        first = file.labels([factor.name for factor in cls.factors])[:1]
        length = file.lengths[0]
        if not np.array_equal(made.render(first)[:, :length], file.read([0])[:, :length]):
            raise DataError(
                f"{file.path}: {cls.name} is drawn otherwise by this release; {hdf5.REMEDY}"
            )
        return made

    @property
    def recipe(self) -> dict[str, Any]:
        """Every option and seed that the sequences depend on."""
        return {"source": self.name, "split_seed": self.split_seed}

    @classmethod
    def count(cls, role: str) -> int:
        """How many characters ("static") or motions ("dynamic") there are."""
        return math.prod(cls._classes(role))

    @classmethod
    def split(cls, characters: int | None = None) -> dict[str, np.ndarray]:
        """Characters of each part, in the order of the seeded permutation.

        characters: how many to use in all, in the proportion of the full split; None for all.
        Raises OptionError unless there are 2 at least and no more than all.
        """
        count = cls.count("static")
        total = count if characters is None else characters
        check_option("characters", total, 2, count)
        permutation = np.random.RandomState(cls.split_seed).permutation(count)
        n_train = min(max(round(total * cls.n_train / count), 1), total - 1)
        n_test = total - n_train
        return {
            "train": permutation[:n_train],
            "test": permutation[cls.n_train : cls.n_train + n_test],
        }

    def motions(self, characters: np.ndarray) -> np.ndarray | None:
        """Motions that a file holds of each character (n,), shape (n, m); here None, for all."""
        return None

    @classmethod
    def labels(cls, characters: np.ndarray, motions: np.ndarray | None = None) -> np.ndarray:
        """Labels of motions of characters, shape (n m, n_factors), characters outermost.

        characters: shape (n,). motions: of each character, shape (n, m); None for all.
        """
        if motions is None:
            motions = np.tile(np.arange(cls.count("dynamic")), (len(characters), 1))
        character = np.repeat(characters, motions.shape[1])
        static = np.unravel_index(character, cls._classes("static"))
        dynamic = np.unravel_index(motions.ravel(), cls._classes("dynamic"))
        return np.stack([*static, *dynamic], axis=1)

    @classmethod
    def character(cls, labels: np.ndarray) -> np.ndarray:
        """Number of the combination of static factors of each row, shape (N,)."""
        classes = cls._classes("static")
        return np.ravel_multi_index(tuple(labels[:, : len(classes)].T), classes)

    @classmethod
    def motion(cls, labels: np.ndarray) -> np.ndarray:
        """Number of the combination of dynamic factors of each row, shape (N,)."""
        n_static = len(cls._classes("static"))
        return np.ravel_multi_index(tuple(labels[:, n_static:].T), cls._classes("dynamic"))

    def ids(self, labels: np.ndarray) -> list[str]:
        """A name for each row, such as "char0017-walk-left"."""
        dynamic = [
            (column, factor.classes)
            for column, factor in enumerate(self.factors)
            if factor.role == "dynamic"
        ]
        return [
            "-".join(
                [f"char{character:04d}", *(classes[row[column]] for column, classes in dynamic)]
            )
            for character, row in zip(self.character(labels), labels, strict=True)
        ]

    def lengths(self, labels: np.ndarray) -> np.ndarray:
        """Steps of each row that a file keeps, shape (N,); here all T."""
        return np.full(len(labels), self.steps)

    def step_labels(self, labels: np.ndarray) -> np.ndarray:
        """Value of each step factor at each of T steps, shape (N, T, n_step_factors)."""
        return np.empty((len(labels), self.steps, 0), np.float32)

    @classmethod
    def _classes(cls, role: str) -> tuple[int, ...]:
        return tuple(len(factor.classes) for factor in cls.factors if factor.role == role)
