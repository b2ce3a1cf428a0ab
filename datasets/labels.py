"""Labels as people write them, names or numbers, to the classes of a factor."""

from collections.abc import Sequence

import numpy as np

from pyro_dsae.datasets.hdf5 import DataError, Factor

UNKNOWN = ("", "na", "nan")  # in any case
MOST = np.iinfo(np.int16).max  # classes that a file can number


def classes(name: str, role: str, values: Sequence | np.ndarray) -> tuple[Factor, np.ndarray]:
    """A factor and the class of each value, int16 in the shape of the values.

    Classes are in the order of numbers, where all values are, and of the alphabet otherwise.
    Unknown, -1, are a value that is empty or NA, NaN, and a number of -1.
    Raises DataError where every value is, and for more classes than a file can number.
    """
    values = np.asarray(values)
    words = values.astype(str)
    unknown = np.isin(np.char.lower(words), UNKNOWN)
    if values.dtype.kind in "if":
        unknown |= values == -1
    words = np.where(unknown, "", words)
    names = [word for word in np.unique(words) if word]
    if not 0 < len(names) <= MOST:
        raise DataError(
            f"factor {name!r} has {len(names)} classes, expected 1 to {MOST}; leave it out"
        )
    try:
        names.sort(key=float)
    except ValueError:
        pass
    number = {word: n for n, word in enumerate(names)} | {"": -1}
    found = np.array([number[word] for word in words.ravel().tolist()], np.int16)
    return Factor(name, role, tuple(map(str, names))), found.reshape(words.shape)
