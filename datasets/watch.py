"""Watch: shoulder exercises of 10 people, by the accelerometer and gyroscope of a smartwatch.

Burns et al. (2018). The package ``seglearn`` carries 140 recordings at 50 Hz: every person with
either arm in every exercise.
"""

from pathlib import Path

import numpy as np

from pyro_dsae.datasets import parts, series
from pyro_dsae.datasets.hdf5 import DataError, Factor
from pyro_dsae.datasets.labels import classes
from pyro_dsae.datasets.source import OptionError, check_option

CHANNELS = ("ax", "ay", "az", "wx", "wy", "wz")
VECTORS = slice(0, 3), slice(3, 6)  # acceleration with gravity, and angular velocity
FILE = "data/watch_dataset.npy"
SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
RATE = 50  # Hz


def prepare(
    out: Path,
    *,
    source: str | None = None,
    window: int = 50,
    stride: int = 25,
    every: int = 2,
    overwrite: bool = False,
) -> Path:
    """Write windows of the recordings: those of the first 60 % of each are for training, those of
    the last third for testing, so that both hold everybody.

    source: the file, or its folder; by default the installed package seglearn.
    window, stride: steps of a window, and from one to the next. every: keep one of so many samples,
        each the mean of them; 2 makes 25 Hz, and a window of 50 steps 2 seconds.
    Raises OptionError for an option out of range, DataError where the file is missing or is not
    the published one.
    """
    check_option("every", every, 1, RATE)
    check_option("window", window, 2, 947 // every)
    check_option("stride", stride, 1, window)
    path = series.packaged("seglearn", FILE, source)
    found = series.sha256_of(path)
    if found != SHA256:
        raise DataError(
            f"{path}: sha256 is {found}, expected {SHA256}; it holds pickled objects, so no other "
            "file is opened"
        )
    held = np.load(path, allow_pickle=True).item()
    exercises = held["y_labels"]
    motions, labels, ids, groups, splits = [], [], [], [], {"train": [], "test": []}
    for n, recording in enumerate(held["X"]):
        kept = len(recording) // every * every
        slow = recording[:kept].reshape(-1, every, len(CHANNELS)).mean(axis=1)
        for cut in series.windows(len(slow), window, stride):
            if cut.stop <= parts.EARLY * len(slow):
                splits["train"].append(len(ids))
            elif cut.start >= parts.LATE * len(slow):
                splits["test"].append(len(ids))
            else:
                continue
            motions.append(slow[cut])
            labels.append((held["subject"][n], int(held["side"][n]), held["y"][n]))
            ids.append(f"recording{n:03d}-{cut.start:04d}")
            groups.append(n)
    for part, rows in splits.items():
        if absent := len(held["X"]) - len({groups[row] for row in rows}):
            raise OptionError(
                f"window = {window} and stride = {stride} leave {absent} of the recordings without "
                f"a window in {part}; use smaller ones"
            )
    subject, side, exercise = np.array(labels).T
    who, subjects = classes("subject", "static", subject)
    return series.write(
        out,
        motions,
        ids=ids,
        channels=CHANNELS,
        vectors=VECTORS,
        labels=np.stack([subjects, side, exercise], axis=1),
        factors=[
            who,
            Factor("side", "static", ("left", "right")),
            Factor("exercise", "dynamic", tuple(exercises)),
        ],
        groups=np.array(groups),
        splits={"official": splits},
        name="watch",
        source="the package seglearn",
        source_sha256=found,
        licence="BSD-3-Clause",
        attribution="D. Burns, seglearn",
        citation="Burns, Leung, Hardisty, Whyne, Henry, McLachlin (2018). Shoulder Physiotherapy "
        "Exercise Recognition. arXiv:1802.01489.",
        recipe={"source": "watch", "window": window, "stride": stride, "every": every},
        overwrite=overwrite,
    )
