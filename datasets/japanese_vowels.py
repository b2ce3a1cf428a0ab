"""Japanese vowels: 640 utterances of 9 speakers, 7 to 29 steps of 12 cepstral coefficients.

Kudo, Toyama & Shimbo (1999). The package ``aeon`` carries them as text, a line an utterance:
channels apart by ``:``, values by ``,``, and the speaker last.
"""

from pathlib import Path

import numpy as np

from pyro_dsae.datasets import series
from pyro_dsae.datasets.hdf5 import DataError
from pyro_dsae.datasets.labels import classes

CHANNELS = tuple(f"cepstrum {n}" for n in range(1, 13))
FOLDER = "datasets/data/JapaneseVowels"
PARTS = {"train": "JapaneseVowels_TRAIN.ts", "test": "JapaneseVowels_TEST.ts"}


def prepare(out: Path, *, source: str | None = None, overwrite: bool = False) -> Path:
    """Write the utterances with their published split; the speaker is the static factor.

    source: folder with the two .ts files; by default the installed package aeon.
    Raises DataError where they are missing or damaged.
    """
    if source is not None and not Path(source).is_dir():
        raise DataError(f"{source}: no such folder; --source holds {' and '.join(PARTS.values())}")
    paths = {name: series.packaged("aeon", f"{FOLDER}/{PARTS[name]}", source) for name in PARTS}
    utterances, speakers, ids, splits = [], [], [], {}
    for part, path in paths.items():
        found = _read(path)
        splits[part] = np.arange(len(ids), len(ids) + len(found))
        for n, (speaker, values) in enumerate(found):
            utterances.append(values)
            speakers.append(speaker)
            ids.append(f"{part}{n:03d}-speaker{speaker}")
    factor, labels = classes("speaker", "static", speakers)
    return series.write(
        out,
        utterances,
        ids=ids,
        channels=CHANNELS,
        labels=labels[:, None],
        factors=[factor],
        groups=np.arange(len(ids)),  # every speaker is in both parts, no utterance is
        splits={"official": splits},
        name="japanese-vowels",
        source="UCI Machine Learning Repository, as the package aeon carries it",
        source_sha256=series.sha256_of(*paths.values()),
        licence="CC-BY-4.0",
        attribution="M. Kudo, J. Toyama, M. Shimbo: Japanese Vowels, UCI, doi:10.24432/C5NS47",
        citation="Kudo, Toyama and Shimbo (1999). Multidimensional Curve Classification Using "
        "Passing-Through Regions. Pattern Recognition Letters 20.",
        recipe={"source": "japanese-vowels"},
        overwrite=overwrite,
    )


def _read(path: Path) -> list[tuple[str, np.ndarray]]:
    """The speaker and the values, float (T, 12), of each utterance."""
    found = []
    try:
        _, _, data = path.read_text().partition("@data\n")
        for line in filter(None, map(str.strip, data.splitlines())):
            *channels, speaker = line.split(":")
            values = np.array([channel.split(",") for channel in channels], float).T
            if values.shape[1:] != (len(CHANNELS),):
                raise ValueError(f"{len(channels)} channels")
            found.append((speaker.strip(), values))
    except ValueError as error:
        raise DataError(
            f"{path}: utterance {len(found)} is damaged ({error}), expected {len(CHANNELS)} "
            "channels of equal length and a speaker"
        ) from error
    if not found:
        raise DataError(f"{path}: has no utterances after @data")
    return found
