"""What every source of sequences offers: named factors, and an exact render of any combination."""

from typing import Any, ClassVar

import numpy as np

from pyro_dsae.datasets.hdf5 import DataError, Factor
from pyro_dsae.datasets.rendering import Renderer

__all__ = ["CharacterSource", "Factor", "Source"]


class Source(Renderer):
    """A set of sequences composed from factors.

    A subclass names its factors, its licence and its citation, and draws frames in `_render`.
    """

    name: ClassVar[str]
    factors: ClassVar[tuple[Factor, ...]]
    takes_source: ClassVar[bool] = False  # whether it is composed from files a user brings
    origin: ClassVar[str]
    licence: ClassVar[str]  # an SPDX expression
    attribution: ClassVar[str]
    citation: ClassVar[str]
    source_sha256: ClassVar[str] = ""

    @property
    def recipe(self) -> dict[str, Any]:
        """Every option and seed that the sequences depend on."""
        return {"source": self.name}


class CharacterSource(Source):
    """A source with the factors and the split of Sprites: 1296 characters times 9 motions.

    Static: body, bottomwear, topwear, hair, 6 classes each. Dynamic: action and direction, 3 each.
    The first 1000 characters of a seeded permutation are for training, the other 296 for testing.
    """

    n_train: ClassVar[int] = 1000
    n_characters: ClassVar[int] = 1296
    n_motions: ClassVar[int] = 9
    split_seed: ClassVar[int] = 423

    @property
    def recipe(self) -> dict[str, Any]:
        return {**super().recipe, "split_seed": self.split_seed}

    @classmethod
    def split(cls, characters: int | None = None) -> dict[str, np.ndarray]:
        """Characters of each part, in the order of the seeded permutation.

        characters: how many to use in all, in the proportion 1000 to 296; None for all 1296.
        Raises DataError unless 2 <= characters <= 1296.
        """
        total = cls.n_characters if characters is None else characters
        if not 2 <= total <= cls.n_characters:
            raise DataError(
                f"{cls.name}: characters = {total} is out of range, "
                f"expected 2 to {cls.n_characters}"
            )
        permutation = np.random.RandomState(cls.split_seed).permutation(cls.n_characters)
        n_train = min(max(round(total * cls.n_train / cls.n_characters), 1), total - 1)
        n_test = total - n_train
        return {
            "train": permutation[:n_train],
            "test": permutation[cls.n_train : cls.n_train + n_test],
        }

    @staticmethod
    def labels(characters: np.ndarray) -> np.ndarray:
        """Labels of all nine motions of each character, shape (9 n, 6), characters outermost."""
        character, motion = np.meshgrid(characters, np.arange(9), indexing="ij")
        static = np.unravel_index(character.ravel(), (6, 6, 6, 6))
        dynamic = np.unravel_index(motion.ravel(), (3, 3))
        return np.stack([*static, *dynamic], axis=1)

    @staticmethod
    def character(labels: np.ndarray) -> np.ndarray:
        """Index ((body * 6 + bottomwear) * 6 + topwear) * 6 + hair of each row, shape (N,)."""
        return np.ravel_multi_index(tuple(labels[:, :4].T), (6, 6, 6, 6))

    @staticmethod
    def motion(labels: np.ndarray) -> np.ndarray:
        """Motion class 3 * action + direction of each row, shape (N,)."""
        return np.ravel_multi_index(tuple(labels[:, 4:].T), (3, 3))

    def ids(self, labels: np.ndarray) -> list[str]:
        """A name for each row, such as "char0017-walk-left"."""
        actions, directions = self.factors[4].classes, self.factors[5].classes
        return [
            f"char{character:04d}-{actions[row[4]]}-{directions[row[5]]}"
            for character, row in zip(self.character(labels), labels, strict=True)
        ]
