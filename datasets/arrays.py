"""An .npz file of arrays, for data that another program holds: 8-bit videos or series.

x        uint8 (N, T, H, W, C), or float (N, T, D) with NaN where a value is missing
length   optional int (N,), the steps of each sequence; all T if not
mask     optional bool (N, T, D) of a series, True where a value is observed
id       optional (N,), a name for each            group   optional (N,), what must not leak
split    optional (N,), the part of each: train, validation or test
static_NAME, dynamic_NAME   optional (N,), the class of each; dynamic also (N, T)
"""

import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from pyro_dsae.datasets import hdf5, parts, series
from pyro_dsae.datasets.hdf5 import DataError
from pyro_dsae.datasets.labels import classes

KEYS = ("x", "length", "mask", "id", "group", "split")
ROLES = ("static", "dynamic")
DAMAGED = (OSError, EOFError, TypeError, ValueError, AttributeError, BadZipFile, zlib.error)


def prepare(
    out: Path,
    *,
    source: str,
    test_fraction: float = 0.2,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Write the sequences of an .npz file; nothing in it is unpickled.

    source: the file, with the arrays above.
    test_fraction, seed: of the groups, which are for testing where the file names no parts.
    Raises DataError for an array that is unknown or does not fit, OptionError for a fraction that
    leaves a part empty.
    """
    held = _read(source)
    x = held["x"]
    n, steps = x.shape[:2]
    lengths = held.get("length", np.full(n, steps))
    hdf5.check_lengths(Path(source), lengths, n, steps)
    ids = held.get("id", np.array([f"sequence{row:05d}" for row in range(n)])).astype(str).tolist()
    groups = parts.grouped(held.get("group", np.full(n, "")), np.arange(n))
    if "split" in held:
        official = parts.named(f"{source}: split", held["split"].astype(str).tolist(), groups)
    else:
        official = parts.drawn(groups, test_fraction, seed)
    splits = {"official": official}
    if (within := parts.within_groups(groups)) is not None:
        splits["within-group"] = within
    factors = [
        (values.ndim, *classes(name, role, values))
        for key, values in held.items()
        if key not in KEYS
        for role, _, name in [key.partition("_")]
    ]
    labels = [column for ndim, _, column in factors if ndim == 1]
    step_labels = [column for ndim, _, column in factors if ndim == 2]
    about: dict[str, Any] = {
        "ids": ids,
        "labels": np.stack(labels, axis=1) if labels else np.empty((n, 0)),
        "factors": [factor for ndim, factor, _ in factors if ndim == 1],
        "step_factors": [factor for ndim, factor, _ in factors if ndim == 2],
        "groups": groups,
        "splits": splits,
        **series.about_own(source),
        "recipe": {"source": "arrays", "test_fraction": test_fraction, "seed": seed},
        "overwrite": overwrite,
    }
    padding = np.arange(steps) >= lengths[:, None]  # (N, T)
    stacked = np.stack(step_labels, axis=2) if step_labels else np.empty((n, steps, 0))
    if x.ndim == 5:
        stacked = np.where(padding[..., None], 0, stacked)
        return hdf5.write(
            out,
            (np.where(padding[[row], :, None, None, None], 0, x[[row]]) for row in range(n)),
            lengths=lengths,
            step_labels=stacked,
            **about,
        )
    return series.write(
        out,
        [row[:length] for row, length in zip(_missing(source, held), lengths, strict=True)],
        channels=[f"channel {d}" for d in range(x.shape[2])],
        step_labels=[row[:length] for row, length in zip(stacked, lengths, strict=True)],
        **about,
    )


def _read(source: str) -> dict[str, np.ndarray]:
    """The arrays, of the shapes that are allowed."""
    try:
        with np.load(source, allow_pickle=False) as file:
            held = {key: _text(file[key]) for key in file.files}
    except DAMAGED as error:
        reason = "it is empty" if isinstance(error, EOFError) else error
        raise DataError(f"{source}: cannot be read as .npz ({reason})") from error
    if "x" not in held:
        raise DataError(f"{source}: has no array x; it has {', '.join(held) or 'none'}")
    x = held["x"]
    frames = x.ndim == 5 and x.dtype == np.uint8
    if not frames and not (x.ndim == 3 and x.dtype.kind == "f"):
        raise DataError(
            f"{source}: x is {x.dtype} {x.shape}, expected uint8 (N, T, H, W, C) or float (N, T, D)"
        )
    if 0 in x.shape:
        raise DataError(f"{source}: x has shape {x.shape}, so there is no sequence")
    for key, values in held.items():
        role, _, name = key.partition("_")
        shapes = [x.shape[:1]]
        if key == "x" or (key == "mask" and x.ndim == 3):
            shapes = [x.shape]
        elif role in ROLES and name:
            shapes += [x.shape[:2]] if role == "dynamic" else []
        elif key not in KEYS or key == "mask":
            raise DataError(
                f"{source}: has an array {key!r}; known are {', '.join(KEYS)} (mask for a series), "
                "static_NAME and dynamic_NAME"
            )
        if values.shape not in shapes:
            raise DataError(
                f"{source}: {key} has shape {values.shape}, expected "
                f"{' or '.join(map(str, shapes))}"
            )
        if f"static_{name}" in held and f"dynamic_{name}" in held:
            raise DataError(f"{source}: has static_{name} and dynamic_{name}; keep one of them")
    return held


def _text(values: np.ndarray) -> np.ndarray:
    """An array of bytes as one of text."""
    return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values


def _missing(source: str, held: dict[str, np.ndarray]) -> np.ndarray:
    """The series with NaN wherever a value is missing."""
    x = held["x"]
    if np.isinf(x).any():
        raise DataError(f"{source}: x holds infinite values; use NaN for a missing one")
    if "mask" not in held:
        return x
    mask = held["mask"].astype(bool)
    wrong = np.argwhere(mask & np.isnan(x))
    if wrong.size:
        row, step, channel = wrong[0]
        raise DataError(
            f"{source}: x[{row}, {step}, {channel}] is NaN, but mask says that it is observed; "
            "correct the one or the other"
        )
    return np.where(mask, x, np.nan)
