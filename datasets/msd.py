"""The HDF5 layout of MSD-Benchmark, the field's other one: read it, and write it.

    data      uint8 (N, T, C, H, W), or (N, T, H, W, C), or float (N, T, D)
    labels    int (N, L), a class for each factor
    train_indices, val_indices, test_indices   int
    attribute classes   JSON {factor: {index, type, n_classes, ignore, values: {class: number}}}

Its sequences all have one length and nothing is missing. github.com/azencot-group/MSD-Benchmark
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pyro_dsae.datasets import hdf5, series
from pyro_dsae.datasets.hdf5 import DataError, Factor, SequenceFile

PARTS = {"train": "train", "val": "validation", "test": "test"}  # theirs and ours
PICTURES = (1, 2, 3, 4)  # channels of a frame


def prepare(out: Path, *, source: str, overwrite: bool = False) -> Path:
    """Write the sequences of a file of MSD-Benchmark, with its parts.

    source: the file.
    Raises DataError for one that is damaged or of another layout.
    """
    try:
        with h5py.File(source, "r") as file:
            return _prepare(out, source, file, overwrite)
    except (OSError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = " ".join(str(error).split())
        raise DataError(f"{source}: is no file of MSD-Benchmark ({reason})") from error


def _prepare(out: Path, source: str, file: h5py.File, overwrite: bool) -> Path:
    data, labels = file["data"], file["labels"][:]
    held = json.loads(file.attrs["classes"])
    factors, columns = [], []
    for name, about in held.items():
        if about["ignore"]:
            continue
        numbers = {number: word for word, number in about["values"].items()}
        words = tuple(str(numbers.get(n, n)) for n in range(about["n_classes"]))
        factors.append(Factor(name, about["type"], words))
        columns.append(labels[:, about["index"]])
    splits = {
        ours: np.sort(file[f"{theirs}_indices"][:].astype(np.int64))
        for theirs, ours in PARTS.items()
        if f"{theirs}_indices" in file and len(file[f"{theirs}_indices"])
    }
    if "train" not in splits:
        raise DataError(f"{source}: has no train_indices; without them nothing is for training")
    about: dict[str, Any] = {
        "ids": [f"sequence{n:06d}" for n in range(len(data))],
        "labels": np.stack(columns, axis=1) if columns else np.empty((len(data), 0)),
        "factors": factors,
        "groups": np.arange(len(data)),
        "splits": {"official": splits},
        **series.about_own(source),
        "recipe": {"source": "msd"},
        "overwrite": overwrite,
    }
    if data.ndim == 3:
        channels = [f"channel {d}" for d in range(data.shape[2])]
        return series.write(out, [*_rows(source, data)], channels=channels, **about)
    if data.ndim != 5 or data.dtype != np.uint8:
        raise ValueError(f"data is {data.dtype} {data.shape}")
    first = data.shape[2] in PICTURES and data.shape[4] not in PICTURES

    frames = _rows(source, data)
    blocks = ((np.moveaxis(row, 1, -1) if first else row)[None] for row in frames)
    return hdf5.write(out, blocks, **about)


def _rows(source: str, data: h5py.Dataset) -> Iterator[np.ndarray]:
    """One sequence after the other; what cannot be read is no fault of the output."""
    for n in range(len(data)):
        try:
            row = data[n]
        except OSError as error:
            raise DataError(f"{source}: sequence {n} cannot be read ({error})") from error
        yield row


def export(file: SequenceFile, out: str | Path, overwrite: bool = False) -> Path:
    """Write an open file in their layout: frames (N, T, C, H, W), a series in its own units.

    Its parts are those of "official"; one that the file lacks is empty. Factors with a value a
    step, or without classes, have no place there and stay behind.
    Raises DataError when the sequences differ in length or miss values, when frames have more
    channels than a picture, or the output exists.
    """
    everything = np.arange(len(file))
    if (file.lengths != file.lengths[0]).any() or file.mask(everything[:1]) is not None:
        raise DataError(
            f"{file.path}: has sequences of several lengths, or with missing values, for which "
            "MSD-Benchmark's layout has no place"
        )
    if len(file.frame_shape) == 3 and file.frame_shape[0] not in PICTURES:
        raise DataError(
            f"{file.path}: its frames have {file.frame_shape[0]} channels, but MSD-Benchmark's are "
            f"pictures of {PICTURES[0]} to {PICTURES[-1]}"
        )
    factors = [factor for factor in file.factors if factor.classes]
    classes = {
        factor.name: {
            "index": index,
            "type": factor.role,
            "n_classes": len(factor.classes),
            "ignore": False,
            "values": {word: n for n, word in enumerate(factor.classes)},
        }
        for index, factor in enumerate(factors)
    }

    out, first = hdf5.check_output(out, overwrite), file.read([0])
    with hdf5.creating(out) as (_, made):
        made.attrs["classes"] = json.dumps(classes)
        made["labels"] = file.labels([factor.name for factor in factors]).astype(np.int32)
        for theirs, ours in PARTS.items():
            held = ours in file.splits.get("official", ())
            made[f"{theirs}_indices"] = file.split(ours) if held else everything[:0]
        steps = int(file.lengths[0])
        shape = (len(file), steps, *file.frame_shape)
        data = made.create_dataset("data", shape, first.dtype, chunks=(1, *shape[1:]))
        for n in everything:
            data[n] = np.moveaxis(file.read([n])[0, :steps], -1, 1)
    return out
