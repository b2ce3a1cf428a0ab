"""Frames in a temporary file, for sequences of which neither number nor length is known yet."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pyro_dsae.datasets.hdf5 import DataError

BLOCK_BYTES = 16 * 1024 * 1024  # of the sequences in memory at a time


class FrameStore:
    """Frames (H, W, C) one after the other, in a file beside `out` that is gone at the end.

    Raises DataError where there is no space for them.
    """

    def __init__(self, out: Path, shape: tuple[int, int, int]):
        self._out, self._shape, self._count = out, shape, 0

    def __enter__(self) -> "FrameStore":
        with self._failures():
            self._file = tempfile.TemporaryFile(dir=self._out.parent)
        return self

    def __exit__(self, *exception: object) -> None:
        with self._failures():
            self._file.close()

    def __len__(self) -> int:
        return self._count

    def append(self, frame: np.ndarray) -> None:
        """Add a frame, uint8 (H, W, C)."""
        with self._failures():
            self._file.write(np.ascontiguousarray(frame))
        self._count += 1

    def blocks(
        self, starts: Sequence[int], lengths: np.ndarray, on_sequences: Callable[[int], None]
    ) -> Iterator[np.ndarray]:
        """Sequences of stored frames, zero padded, in blocks uint8 (n, T, H, W, C).

        starts, lengths: the first frame and the number of frames of each, both (N,).
        on_sequences: gets how many were given so far.
        """
        shape = (int(max(lengths)), *self._shape)
        size = max(1, BLOCK_BYTES // int(np.prod(shape)))
        for begin in range(0, len(starts), size):
            chosen = slice(begin, begin + size)
            block = np.zeros((len(starts[chosen]), *shape), np.uint8)
            for row, start, length in zip(block, starts[chosen], lengths[chosen], strict=True):
                with self._failures():
                    self._file.seek(start * row[0].nbytes)
                    self._file.readinto(row[:length])
            yield block
            on_sequences(begin + len(block))

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self._out}: cannot keep frames beside it ({error.strerror}); check the free "
                "space and permissions"
            ) from error
