"""KTH actions (Schuldt et al., 2004): 25 persons, 6 actions, 4 scenarios, as its archives come."""

import io
import re
import zipfile
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from pyro_dsae.datasets.footage import FootageError, VideoFile
from pyro_dsae.datasets.hdf5 import DataError, Factor
from pyro_dsae.datasets.recordings import Clip, Recordings, Video, Window

ACTIONS = ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
SCENARIOS = ("outdoors", "outdoors scale", "outdoors clothes", "indoors")  # d1 to d4
PERSONS = tuple(f"{number:02d}" for number in range(1, 26))
PARTS = {
    "train": ("11", "12", "13", "14", "15", "16", "17", "18"),
    "validation": ("19", "20", "21", "23", "24", "25", "01", "04"),
    "test": ("22", "02", "03", "05", "06", "07", "08", "09", "10"),
}
NAME = rf"(person({'|'.join(PERSONS)})_({'|'.join(ACTIONS)})_d([1-4]))"
VIDEO = re.compile(NAME + r"_uncomp\.avi")
LISTED = re.compile(NAME + r"\s+(\*missing\*|frames\b|\d)(.*)")  # all other lines are prose
RANGE = re.compile(r"(\d+)\s*-\s*(\d+)")
SEQUENCES = "00sequences.txt"
HOME = "https://www.csc.kth.se/cvap/actions/"


class Kth(Recordings):
    """Windows of the sequences that 00sequences.txt lists, split by person and within persons.

    source: folder that holds 00sequences.txt and the videos, or archives of them, at any depth;
        some of them will do.
    The scheme "official" keeps persons apart. In "within-group" the last usable sequence of each
    video that has several is for testing, and windows of the others that share no frame with it are
    for training.
    """

    name = "kth"
    licence = "LicenseRef-KTH-actions"
    attribution = "Recognition of human actions, KTH Royal Institute of Technology, Stockholm."
    citation = (
        "Schuldt, Laptev and Caputo (2004). Recognizing Human Actions: A Local SVM Approach. ICPR."
    )
    factors = (
        Factor("person", "static", PERSONS),
        Factor("scenario", "static", SCENARIOS),
        Factor("action", "dynamic", ACTIONS),
    )

    def __init__(
        self,
        source: str | Path,
        size: int | tuple[int, int] = 64,
        crop: str = "centre",
        colour: str = "grey",
        frames: int = 16,
        stride: int | None = None,
    ):
        super().__init__(size, crop, colour, frames, stride)
        self.source = Path(source)

    def videos(self) -> list[Video]:
        files, listing = self._find()
        if listing is None:
            raise DataError(f"{self.source}: holds no {SEQUENCES}; get it from {HOME}")
        ranges = parse_sequences(listing)
        held: dict[str, VideoFile] = {}
        for file in files:
            name = _video_name(file.name)
            if name in held:
                self.skipped.add(file.name, "a copy of another one here")
            elif name not in ranges:
                self.skipped.add(file.name, f"not listed in {SEQUENCES}")
            else:
                held[name] = file
        for name, listed in ranges.items():
            if not listed:
                held.pop(name, None)
                self.skipped.add(name, f"listed as missing in {SEQUENCES}")
            elif name not in held:
                self.skipped.add(name, f"listed in {SEQUENCES}, but there is no such video")
        return [Video(held[name], _clips(name, ranges[name])) for name in sorted(held)]

    def splits(self, windows: Sequence[Window]) -> dict[str, dict[str, np.ndarray]]:
        official: dict[str, list[int]] = {part: [] for part in PARTS}
        for n, window in enumerate(windows):
            official[window.clip.part].append(n)
        within: dict[str, list[int]] = {"train": [], "test": []}
        for rows in _by_video(windows):
            last = windows[rows[-1]].clip
            test = [n for n in rows if windows[n].clip == last != windows[rows[0]].clip]
            frames = {frame for n in test for frame in range(windows[n].first, windows[n].stop)}
            within["test"] += test
            within["train"] += [
                n for n in rows if frames.isdisjoint(range(windows[n].first, windows[n].stop))
            ]
        return {
            scheme: {part: np.array(rows) for part, rows in parts.items() if rows}
            for scheme, parts in (("official", official), ("within-group", within))
        }

    def _find(self) -> tuple[list[VideoFile], str | None]:
        """The videos by the order of their paths, and what 00sequences.txt says if there is one."""
        if not self.source.is_dir():
            raise DataError(f"{self.source}: no such folder; expected one with the videos of KTH")
        videos, listings = [], []
        for path in sorted(path for path in self.source.rglob("*") if path.is_file()):
            name = path.relative_to(self.source).as_posix()
            if path.suffix.lower() == ".zip":
                try:
                    with zipfile.ZipFile(path) as archive:
                        members = sorted(archive.namelist())
                except (OSError, zipfile.BadZipFile):
                    self.skipped.add(name, "not a whole zip archive")
                    continue
                found = [(f"{name}/{member}", partial(_unzip, path, member)) for member in members]
            else:
                found = [(name, partial(str, path))]
            for name, open_file in found:
                if _video_name(name):
                    videos.append(VideoFile(name, open_file))
                elif name.rpartition("/")[2] == SEQUENCES:
                    listings.append(open_file)
        if not listings:
            return videos, None
        try:
            file = listings[0]()
        except FootageError as error:
            raise DataError(f"{self.source}: {SEQUENCES} {error}") from error
        content = Path(file).read_bytes() if isinstance(file, str) else file.read()
        return videos, content.decode("utf-8-sig", "replace")


def parse_sequences(text: str) -> dict[str, list[tuple[int, int]]]:
    """The frame ranges of each video that 00sequences.txt lists, none for one that is missing.

    Ranges are first and last frame, counted from 1. They keep the order of the list: that of time
    is another one in some videos, and a few ranges overlap. Lines that list no video are prose.
    Raises DataError for a line whose ranges cannot be read, or that contradicts another.
    """
    ranges: dict[str, list[tuple[int, int]]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        match = LISTED.fullmatch(line.strip())
        if not match:
            continue
        name, kind, rest = match[1], match[5], match[6]
        parts = (rest if kind == "frames" else kind + rest).split(",")
        found = []
        for part in filter(None, map(str.strip, parts if kind != "*missing*" else [])):
            bounds = RANGE.fullmatch(part)
            if not bounds or not 1 <= int(bounds[1]) <= int(bounds[2]):
                raise DataError(
                    f"{SEQUENCES}, line {number}: cannot read the frames {part!r} of {name}, "
                    "expected such as 1-95"
                )
            found.append((int(bounds[1]), int(bounds[2])))
        if ranges.setdefault(name, found) != found:
            raise DataError(f"{SEQUENCES}, line {number}: lists {name} again, with other frames")
    return ranges


def _video_name(path: str) -> str:
    """Such as person01_boxing_d1, or nothing where it is not the path of a video."""
    match = VIDEO.fullmatch(path.rpartition("/")[2])
    return match[1] if match else ""


def _clips(name: str, ranges: Sequence[tuple[int, int]]) -> list[Clip]:
    _, person, action, scenario = re.fullmatch(NAME, name).groups()
    labels = (PERSONS.index(person), int(scenario) - 1, ACTIONS.index(action))
    part = next(part for part, persons in PARTS.items() if person in persons)
    return [
        Clip(f"{name}#{n}", person, labels, first - 1, last, part)
        for n, (first, last) in enumerate(ranges, start=1)
    ]


def _by_video(windows: Sequence[Window]) -> list[list[int]]:
    """Indices of the windows of each video."""
    rows: dict[str, list[int]] = {}
    for n, window in enumerate(windows):
        rows.setdefault(window.video, []).append(n)
    return list(rows.values())


def _unzip(path: Path, member: str) -> io.BytesIO:
    """The content of a file in an archive: decoders seek in it, which archives do slowly."""
    try:
        with zipfile.ZipFile(path) as archive:
            return io.BytesIO(archive.read(member))
    except (EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise FootageError("cannot be read from its archive") from error
