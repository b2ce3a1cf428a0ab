"""The exact true sequence of any combination of factors: drawn anew, or found in a file."""

from abc import ABC, abstractmethod

import numpy as np

from pyro_dsae.datasets.hdf5 import DataError, Factor, SequenceFile


class NotRenderableError(DataError):
    """The source of a file has no true sequences but those in it."""


class Renderer(ABC):
    """The true sequence of any combination of factor values.

    name: of the source. factors: each with one value a sequence, the static ones first.
    """

    name: str
    factors: tuple[Factor, ...]

    def render(self, labels: np.ndarray) -> np.ndarray:
        """The sequences with the given factor values.

        labels: class of each factor, in the order of `factors`, int (N, n_factors).
        Returns uint8 frames, shape (N, T, H, W, C).
        Raises DataError when a label is out of range, naming the factor and the value.
        """
        labels = np.asarray(labels)
        if labels.ndim != 2 or labels.shape[1] != len(self.factors):
            raise DataError(
                f"{self.name}: labels have shape {labels.shape}, expected (N, {len(self.factors)})"
            )
        if labels.dtype.kind not in "iu":
            raise DataError(f"{self.name}: labels are {labels.dtype}, expected integers")
        for factor, column in zip(self.factors, labels.T, strict=True):
            outside = column[(column < 0) | (column >= len(factor.classes))]
            if outside.size:
                raise DataError(
                    f"{self.name}: {factor.name} = {outside[0]} is out of range, "
                    f"expected 0 to {len(factor.classes) - 1}"
                )
        return self._render(labels.astype(np.int64))

    def combinations(self) -> np.ndarray:
        """Labels of every sequence that it can render, int (N, n_factors), each once; here all."""
        return (
            np.indices([len(factor.classes) for factor in self.factors])
            .reshape(len(self.factors), -1)
            .T
        )

    @abstractmethod
    def _render(self, labels: np.ndarray) -> np.ndarray:
        """Frames (N, T, H, W, C) of checked labels (N, n_factors)."""


class Recorded(Renderer):
    """Finds a combination of factors among the sequences of an open file.

    A file that holds every motion of each of its characters so holds every swap of two of its
    sequences. Raises DataError for a combination that the file does not hold, naming it.
    """

    def __init__(self, file: SequenceFile, factors: tuple[Factor, ...]):
        self.name = file.name
        self.factors = factors
        self._file = file
        labels = file.labels([factor.name for factor in factors])
        self._index = {tuple(row): n for n, row in enumerate(labels.tolist())}

    def combinations(self) -> np.ndarray:
        return np.array(list(self._index))

    def _render(self, labels: np.ndarray) -> np.ndarray:
        rows = [tuple(row) for row in labels.tolist()]
        for row in rows:
            if row not in self._index:
                combination = ", ".join(
                    f"{factor.name} {factor.classes[value]}"
                    for factor, value in zip(self.factors, row, strict=True)
                )
                raise DataError(f"{self._file.path}: holds no sequence of {combination}")
        return self._file.read(np.array([self._index[row] for row in rows], np.int64))
