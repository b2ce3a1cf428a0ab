"""Labels as people write them, names or numbers, to the classes of a factor."""

from collections.abc import Sequence

import numpy as np

from pyro_dsae.datasets.hdf5 import Factor


def classes(name: str, role: str, values: Sequence | np.ndarray) -> tuple[Factor, np.ndarray]:
    """A factor and the class of each value, int16 in the shape of the values.

    Classes are in the order of numbers, where all values are, and of the alphabet otherwise. An
    empty value is unknown, -1.
    """
    words = np.asarray(values).astype(str)
    names = [word for word in np.unique(words) if word]
    try:
        names.sort(key=float)
    except ValueError:
        pass
    number = {word: n for n, word in enumerate(names)} | {"": -1}
    found = np.array([number[word] for word in words.ravel().tolist()], np.int16)
    return Factor(name, role, tuple(map(str, names))), found.reshape(words.shape)
