"""Sources of sequences, and the one HDF5 format that every command reads."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pyro_dsae.datasets import arrays, hdf5, japanese_vowels, msd, table, watch
from pyro_dsae.datasets.hdf5 import DataError, SequenceFile
from pyro_dsae.datasets.kth import Kth
from pyro_dsae.datasets.moving_shapes import MovingShapes
from pyro_dsae.datasets.recordings import Progress, Recordings
from pyro_dsae.datasets.rendering import NotRenderableError, Renderer
from pyro_dsae.datasets.source import Factor, OptionError, Source
from pyro_dsae.datasets.sprites import Sprites
from pyro_dsae.datasets.toy_sprites import ToySprites
from pyro_dsae.datasets.videos import Videos

__all__ = [
    "NAMES",
    "READERS",
    "RECORDINGS",
    "SOURCES",
    "DataError",
    "Factor",
    "Kth",
    "MovingShapes",
    "NotRenderableError",
    "OptionError",
    "Recordings",
    "Renderer",
    "SequenceFile",
    "Source",
    "Sprites",
    "ToySprites",
    "Videos",
    "prepare",
    "renderer",
]

SOURCES: dict[str, type[Source]] = {cls.name: cls for cls in (Sprites, ToySprites, MovingShapes)}
RECORDINGS: dict[str, type[Recordings]] = {cls.name: cls for cls in (Kth, Videos)}
# Sources of other files: each a function of the output and of its own options.
READERS: dict[str, Callable[..., Path]] = {
    "japanese-vowels": japanese_vowels.prepare,
    "watch": watch.prepare,
    "table": table.prepare,
    "arrays": arrays.prepare,
    "msd": msd.prepare,
}
NAMES = (*SOURCES, *RECORDINGS, *READERS)
BLOCK_BYTES = 16 * 1024 * 1024  # of the sequences rendered at a time


def prepare(
    name: str,
    out: str | Path,
    *,
    characters: int | None = None,
    overwrite: bool = False,
    on_progress: Progress = lambda done: None,
    **options: Any,
) -> Path:
    """Draw or read a source's sequences into a file, with its parts as the split "official".

    name: one of NAMES. out: the file to write. characters: how many of a drawn source's characters
    to use, 2 at least, for a small file; None for all. on_progress: gets the fraction that is done
    of what is drawn or decoded. options: arguments of the source's class, or of its function in
    READERS.
    Returns the path written.
    Raises OptionError when an option is not the source's or out of range, DataError when the output
    exists or the source is unusable.
    """
    if name not in NAMES:
        raise DataError(f"no source is named {name!r}; the sources are {', '.join(NAMES)}")
    _check_options(name, options if characters is None else options | {"characters": characters})
    if name in RECORDINGS:
        return RECORDINGS[name](**options).write(out, overwrite, on_progress)
    if name in READERS:
        return READERS[name](hdf5.check_output(out, overwrite), overwrite=overwrite, **options)
    cls = SOURCES[name]
    parts = cls.split(characters)
    out = hdf5.check_output(out, overwrite)
    made = cls(**options)
    held = {part: cls.labels(index, made.motions(index)) for part, index in parts.items()}
    labels = np.concatenate(list(held.values()))
    ends = np.cumsum([len(rows) for rows in held.values()])
    lengths = made.lengths(labels)
    padding = np.arange(made.steps) >= lengths[:, None]  # (N, T)
    step_labels = made.step_labels(labels)
    step_labels[padding] = 0

    def blocks() -> Iterator[np.ndarray]:
        size = max(1, BLOCK_BYTES // made.render(labels[:1]).nbytes)
        for start in range(0, len(labels), size):
            frames = made.render(labels[start : start + size])
            frames[padding[start : start + size]] = 0
            yield frames
            on_progress(min(start + size, len(labels)) / len(labels))

    return hdf5.write(
        out,
        blocks(),
        labels=labels,
        factors=made.factors,
        ids=made.ids(labels),
        groups=made.character(labels),
        splits={
            "official": {
                part: np.arange(end - len(rows), end)
                for (part, rows), end in zip(held.items(), ends, strict=True)
            }
        },
        name=made.name,
        source=made.origin,
        source_sha256=made.source_sha256,
        licence=made.licence,
        attribution=made.attribution,
        citation=made.citation,
        recipe=made.recipe | {"characters": {part: len(index) for part, index in parts.items()}},
        lengths=lengths,
        step_labels=step_labels,
        step_factors=made.step_factors,
        overwrite=overwrite,
    )


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise OptionError where an option is not one of the source's, or one is left out."""
    parameters = inspect.signature((SOURCES | RECORDINGS | READERS)[name]).parameters
    own = [key for key in parameters if key not in ("out", "overwrite")]
    known = ["characters", *own] if name in SOURCES else own
    for option in options:
        if option not in known:
            raise OptionError(
                f"{name} takes no option {option!r}; its options are {', '.join(known)}"
            )
    for option in own:
        if parameters[option].default is inspect.Parameter.empty and option not in options:
            raise OptionError(f"{name} needs the option {option!r}")


def renderer(file: SequenceFile) -> Renderer:
    """What gives the true sequence of any combination of the factors of a file, pixel for pixel.

    A drawn source draws it anew, all T steps whatever the lengths in the file. A source composed
    from other files finds it in `file`, which holds every motion of each of its characters and has
    to stay open.
    Raises NotRenderableError when the file's source is not one of SOURCES, and another DataError
    when it draws otherwise today.
    """
    if file.name not in SOURCES or file.recipe.get("source", file.name) != file.name:
        raise NotRenderableError(
            f"{file.path}: its source {file.name!r} cannot be rendered; exact scores need a source "
            f"that can render: {', '.join(SOURCES)}"
        )
    return SOURCES[file.name].renderer(file)
