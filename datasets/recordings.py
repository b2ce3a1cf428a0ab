"""What becomes of videos that a user brings: clips of them, cut into windows, in one file.

Frames are decoded once, brought to their size and kept in a temporary file beside the output, so
that memory holds only a few windows at a time. What cannot be used is skipped and reported.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pyro_dsae.datasets import hdf5
from pyro_dsae.datasets.footage import Footage, FootageError, FrameFormat
from pyro_dsae.datasets.frame_store import FrameStore
from pyro_dsae.datasets.hdf5 import DataError, Factor
from pyro_dsae.datasets.skipped import Skipped
from pyro_dsae.datasets.source import check_option

MOST_STEPS = 100_000
UNDECODED = "cannot be decoded"

Progress = Callable[[float], None]  # gets the fraction that is done


@dataclass(frozen=True)
class Clip:
    """Frames of a video that belong together.

    id: a unique name. group: what must not leak between parts, a person or the video.
    first, stop: the frames, counted from 0, without `stop`; None for all there are.
    labels: class of each factor, -1 where unknown. part: of the split, where it is given.
    """

    id: str
    group: str
    labels: tuple[int, ...] = ()
    first: int = 0
    stop: int | None = None
    part: str = ""


@dataclass(frozen=True)
class Window:
    """A sequence of the file: the frames `first` to `stop` (exclusive) of the video of a clip."""

    clip: Clip
    video: str
    first: int
    stop: int

    @property
    def id(self) -> str:
        """The clip and the frames, counted from 1 and with the last one, as players do."""
        return f"{self.clip.id}:{self.first + 1}-{self.stop}"


@dataclass(frozen=True)
class Video:
    """Footage and the clips of it that a file shall hold, in their order."""

    footage: Footage
    clips: Sequence[Clip]


class Recordings(ABC):
    """A source of videos that a user brings.

    A subclass says which videos and clips there are, in `videos`, and which windows of them are for
    what, in `splits`. Its options are the arguments of its constructor.

    size: height and width in pixels, or one number for both; crop, colour: as in FrameFormat.
    frames: of a window. A clip is cut into as many whole windows as it has; a shorter one is a
        sequence of its own length. stride: frames from one window to the next, `frames` if None.
    Raises OptionError when one is out of range.
    """

    name: ClassVar[str]
    licence: ClassVar[str]  # an SPDX expression
    attribution: ClassVar[str]
    citation: ClassVar[str]
    source: Path
    factors: tuple[Factor, ...]

    def __init__(
        self,
        size: int | tuple[int, int],
        crop: str,
        colour: str,
        frames: int,
        stride: int | None,
    ):
        size = (size, size) if isinstance(size, int) else tuple(size)
        self.format = FrameFormat(size, crop, colour)
        check_option("frames", frames, 1, MOST_STEPS)
        stride = frames if stride is None else stride
        check_option("stride", stride, 1, MOST_STEPS)
        self.frames, self.stride = frames, stride
        self.skipped = Skipped()

    @abstractmethod
    def videos(self) -> list[Video]:
        """The videos, each once. Raises DataError for what no file can be made of."""

    @abstractmethod
    def splits(self, windows: Sequence[Window]) -> dict[str, dict[str, np.ndarray]]:
        """{scheme: {part: indices of windows}} without empty parts."""

    @property
    def recipe(self) -> dict[str, Any]:
        """Every option and seed that the sequences depend on."""
        return {
            "source": self.name,
            "size": list(self.format.size),
            "crop": self.format.crop,
            "colour": self.format.colour,
            "frames": self.frames,
            "stride": self.stride,
        }

    def write(
        self, out: str | Path, overwrite: bool = False, on_progress: Progress = lambda done: None
    ) -> Path:
        """Write all usable windows to a file, whole or not at all; returns its path.

        Raises DataError when the output exists or no window is usable.
        """
        out = hdf5.check_output(out, overwrite)
        videos = self.videos()
        windows, places = [], []
        with FrameStore(out, self.format.shape) as store:
            for n, video in enumerate(videos):
                for window, place in self._decode(
                    video, store, lambda part, n=n: on_progress((n + part) / len(videos) / 2)
                ):
                    windows.append(window)
                    places.append(place)
            if not windows:
                raise DataError(f"{self.source}: holds no usable sequence ({self.skipped})")
            lengths = np.array([window.stop - window.first for window in windows])
            groups = {
                name: n for n, name in enumerate(dict.fromkeys(w.clip.group for w in windows))
            }
            return hdf5.write(
                out,
                store.blocks(
                    places, lengths, lambda done: on_progress(0.5 + done / len(windows) / 2)
                ),
                labels=np.array([w.clip.labels for w in windows]).reshape(len(windows), -1),
                factors=self.factors,
                ids=[window.id for window in windows],
                groups=np.array([groups[window.clip.group] for window in windows]),
                splits=self.splits(windows),
                name=self.name,
                source=f"videos in {self.source.resolve().name}",
                licence=self.licence,
                attribution=self.attribution,
                citation=self.citation,
                recipe={**self.recipe, "skipped": self.skipped.table()},
                lengths=lengths,
                overwrite=overwrite,
            )

    def _decode(
        self, video: Video, store: FrameStore, on_progress: Progress
    ) -> Iterator[tuple[Window, int]]:
        """Keep the frames of a video; gives its windows and where in the store each begins."""
        footage, start, decoded = video.footage, len(store), 0
        first = min(clip.first for clip in video.clips)
        stops = [clip.stop for clip in video.clips]
        stop = None if None in stops else max(stops)
        reason = ""
        try:
            for image in footage.frames(self.format.mode):
                if decoded >= first:
                    store.append(self.format(image))
                decoded += 1
                if decoded == stop:
                    break
                if footage.stated:
                    on_progress(min(decoded / footage.stated, 1.0))
        except FootageError as error:
            reason = str(error)
        if not decoded:
            self.skipped.add(footage.name, reason or "holds no frame")
            return
        if stop is None and (reason or decoded < footage.stated):
            self.skipped.add(f"{footage.name}, frames after {decoded}", reason or UNDECODED)
        for clip in video.clips:
            end = decoded if clip.stop is None else clip.stop
            if clip.first >= end or end > decoded:
                frames = f"frames {clip.first + 1} to {clip.stop or 'the last'} of {decoded}"
                self.skipped.add(f"{clip.id}, {frames}", reason or UNDECODED)
                continue
            for begin in range(clip.first, max(end - self.frames, clip.first) + 1, self.stride):
                window = Window(clip, footage.name, begin, min(begin + self.frames, end))
                yield window, start + begin - first
