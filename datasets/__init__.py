"""Sources of sequences, and the one HDF5 format that every command reads."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pyro_dsae.datasets import hdf5
from pyro_dsae.datasets.hdf5 import DataError, SequenceFile
from pyro_dsae.datasets.rendering import Recorded, Renderer
from pyro_dsae.datasets.source import CharacterSource, Factor, Source
from pyro_dsae.datasets.sprites import Sprites
from pyro_dsae.datasets.toy_sprites import ToySprites

__all__ = [
    "NAMES",
    "SOURCES",
    "DataError",
    "Factor",
    "Renderer",
    "SequenceFile",
    "Source",
    "Sprites",
    "ToySprites",
    "prepare",
    "renderer",
]

SOURCES: dict[str, type[CharacterSource]] = {cls.name: cls for cls in (Sprites, ToySprites)}
NAMES = tuple(SOURCES)
BLOCK = 144  # sequences rendered at a time, 14 MB


def prepare(
    name: str,
    out: str | Path,
    source: str | Path | None = None,
    characters: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Render a source into a file, with its train and test parts as the split "official".

    name: one of NAMES. out: the file to write. source: folder or URL of the files a source is
    composed from; None for its public address. characters: how many characters to use, from 2 to
    1296, for a small file; None for all. Returns the path written.
    Raises DataError when an argument is invalid, the output exists or the source is unusable.
    """
    if name not in SOURCES:
        raise DataError(f"no source is named {name!r}; the sources are {', '.join(NAMES)}")
    cls = SOURCES[name]
    if source is not None and not cls.takes_source:
        raise DataError(f"{name} is drawn, not read, so it takes no source; got {str(source)!r}")
    out = hdf5.check_output(out, overwrite)
    parts = cls.split(characters)
    made = cls(source) if cls.takes_source else cls()
    labels = np.concatenate([cls.labels(part) for part in parts.values()])
    sizes = [cls.n_motions * len(part) for part in parts.values()]
    ends = np.cumsum(sizes)
    recipe = made.recipe | {"characters": {part: len(index) for part, index in parts.items()}}

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(labels), BLOCK):
            yield made.render(labels[start : start + BLOCK])

    return hdf5.write(
        out,
        blocks(),
        labels=labels,
        factors=made.factors,
        ids=made.ids(labels),
        groups=made.character(labels),
        splits={
            "official": {
                part: np.arange(end - size, end)
                for part, size, end in zip(parts, sizes, ends, strict=True)
            }
        },
        name=made.name,
        source=made.origin,
        source_sha256=made.source_sha256,
        licence=made.licence,
        attribution=made.attribution,
        citation=made.citation,
        recipe=recipe,
        overwrite=overwrite,
    )


def renderer(file: SequenceFile) -> Renderer:
    """What gives the true sequence of any combination of the factors of a file, pixel for pixel.

    A drawn source draws it anew. A source composed from other files finds it in `file`, which holds
    every motion of each of its characters and has to stay open.
    Raises DataError when the file's source is not one of NAMES, or draws otherwise today.
    """
    cls = SOURCES.get(file.name)
    if cls is None:
        raise DataError(
            f"{file.path}: its source {file.name!r} cannot be rendered; exact scores need a source "
            f"that can render: {', '.join(NAMES)}"
        )
    if cls.takes_source:
        return Recorded(file, cls.factors)
    made = cls()
    first = file.labels([factor.name for factor in made.factors])[:1]
    if not np.array_equal(made.render(first), file.read([0])):
        raise DataError(
            f"{file.path}: {file.name} is drawn otherwise by this release; {hdf5.REMEDY}"
        )
    return made
