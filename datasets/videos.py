"""Videos and folders of pictures of a user's own, with what a table or folders say of them."""

import csv
import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pyro_dsae.datasets.footage import (
    VIDEO_SUFFIXES,
    Footage,
    PictureFolder,
    VideoFile,
    natural,
    pictures,
    visible,
)
from pyro_dsae.datasets.hdf5 import DataError, Factor
from pyro_dsae.datasets.parts import PARTS
from pyro_dsae.datasets.recordings import Clip, Recordings, Video, Window
from pyro_dsae.datasets.source import OptionError, check_seed

RESERVED = ("path", "split", "group", "first", "last")  # columns that are no factors


@dataclass(frozen=True)
class Row:
    """What is said of a video, or of a range of its frames.

    where: where it is said, for errors. path: below the source. values: of each column but path.
    """

    where: str
    path: str
    values: dict[str, str] = field(default_factory=dict)


class Videos(Recordings):
    """Windows of videos and of folders of pictures, split so that no group is in two parts.

    source: folder that holds them. table: CSV file with a header and a row for each video, or for
        each range of its frames. Its columns are `path`, below source, and where they are wanted
        `split` (train, validation or test), `group` (what must not leak between parts, such as a
        person; if there is none, the video), `first` and `last` (frames, counted from 1). Any other
        column is a factor, whose values are names of classes, empty for unknown.
    folders: what the folders are that lead to a video, outermost first, with commas: the columns
        of such a table. Without table and folders the videos have no labels.
    static, dynamic: names of the factors of these roles; a factor that neither names is static.
    test_fraction: of the groups, for testing where no split is given. seed: of that choice.
    Raises OptionError when an option is out of range.
    """

    name = "videos"
    licence = "NOASSERTION"
    attribution = "none"
    citation = "none"

    def __init__(
        self,
        source: str | Path,
        table: str | Path | None = None,
        folders: str | None = None,
        static: Sequence[str] = (),
        dynamic: Sequence[str] = (),
        size: int | tuple[int, int] = 64,
        crop: str = "centre",
        colour: str = "rgb",
        frames: int = 16,
        stride: int | None = None,
        test_fraction: float = 0.2,
        seed: int = 0,
    ):
        super().__init__(size, crop, colour, frames, stride)
        if table is not None and folders is not None:
            raise OptionError("table and folders both say what videos show; give one of them")
        if not 0 <= test_fraction < 1:
            raise OptionError(f"test_fraction = {test_fraction} is out of range, expected 0 to 1")
        check_seed(seed)
        for both in set(static) & set(dynamic):
            raise OptionError(f"factor {both!r} is named static and dynamic; name it once")
        self.source = Path(source)
        self.table = None if table is None else Path(table)
        self.folders = None if folders is None else folders.split(",")
        self.roles = dict.fromkeys(static, "static") | dict.fromkeys(dynamic, "dynamic")
        self.test_fraction, self.seed = test_fraction, seed
        self.factors: tuple[Factor, ...] = ()

    @property
    def recipe(self) -> dict[str, Any]:
        return {
            **super().recipe,
            "table": self.table and self.table.name,
            "folders": self.folders,
            "roles": self.roles,
            "test_fraction": self.test_fraction,
            "seed": self.seed,
        }

    def videos(self) -> list[Video]:
        if not self.source.is_dir():
            raise DataError(f"{self.source}: no such folder; expected one with videos or pictures")
        rows = self._read_table() if self.table else self._read_folders()
        self.factors = self._factors(rows)
        by_path: dict[str, list[Row]] = {}
        for row in rows:
            by_path.setdefault(row.path, []).append(row)
        self._check_static(by_path)
        videos = [
            Video(self._footage(path), [self._clip(row, len(of) > 1) for row in of])
            for path, of in by_path.items()
        ]
        clips = [clip for video in videos for clip in video.clips]
        _check_clips(clips)
        for video in videos:
            _check_shared(video)
        given = {clip.part for clip in clips} - {""}
        if given and "train" not in given:
            raise DataError(f"{self.source}: no sequence is for training; change the split")
        return videos

    def splits(self, windows: Sequence[Window]) -> dict[str, dict[str, np.ndarray]]:
        given = [window.clip.part for window in windows]
        for window, part in zip(windows, given, strict=True):
            if any(given) and not part:
                self.skipped.add(window.id, "in no part, as its split is empty")
        if not any(given):
            groups = list(dict.fromkeys(window.clip.group for window in windows))
            tested = _draw(groups, self.test_fraction, self.seed)
            given = ["test" if window.clip.group in tested else "train" for window in windows]
        parts = {part: np.flatnonzero([part == of for of in given]) for part in PARTS}
        if not parts["train"].size:
            raise DataError(f"{self.source}: no usable sequence is for training; change the split")
        return {"official": {part: rows for part, rows in parts.items() if rows.size}}

    def _read_table(self) -> list[Row]:
        try:
            with self.table.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file, restkey="")
                columns = reader.fieldnames or []
                if "path" not in columns or len(set(columns)) < len(columns) or "" in columns:
                    raise DataError(
                        f"{self.table}: its columns are {', '.join(columns) or 'none'}; expected "
                        "path and other names, each once"
                    )
                rows = []
                for values in reader:
                    where = f"{self.table}, line {reader.line_num}"
                    if None in values.values() or "" in values:
                        raise DataError(f"{where}: expected {len(columns)} values, as its header")
                    values = {name: value.strip() for name, value in values.items()}
                    path = Path(values.pop("path")).as_posix()
                    rows.append(Row(where, path, values))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{self.table}: cannot be read as a table ({reason})") from error
        if not rows:
            raise DataError(f"{self.table}: has no rows; expected one for each video")
        places: dict[Path, Row] = {}
        for row in rows:
            first = places.setdefault((self.source / row.path).resolve(), row)
            if first.path != row.path:
                raise DataError(
                    f"{row.where}: {row.path!r} is {first.path!r} by another path; write it alike"
                )
        absent = [row for row in rows if not (self.source / row.path).exists()]
        if absent:
            more = f", and {len(absent) - 1} more rows" if len(absent) > 1 else ""
            raise DataError(
                f"{absent[0].where}: {absent[0].path!r} is not in {self.source}{more}; correct "
                "the paths, which start at --source"
            )
        return rows

    def _read_folders(self) -> list[Row]:
        rows = []
        for path in _find(self.source):
            above = path.split("/")[:-1]
            if self.folders is None:
                rows.append(Row(path, path))
            elif len(above) != len(self.folders):
                raise DataError(
                    f"{self.source}: {path} lies in {len(above)} folders, but {len(self.folders)} "
                    f"are named: {','.join(self.folders)}"
                )
            else:
                rows.append(Row(path, path, dict(zip(self.folders, above, strict=True))))
        if not rows:
            raise DataError(
                f"{self.source}: holds neither videos ({', '.join(sorted(VIDEO_SUFFIXES))}) nor "
                "folders of pictures (.jpg, .png)"
            )
        return rows

    def _factors(self, rows: Sequence[Row]) -> tuple[Factor, ...]:
        names = [name for name in rows[0].values if name not in RESERVED]
        for name in self.roles:
            if name not in names:
                known = ", ".join(names) or "none"
                raise DataError(f"{self.source}: no factor is named {name!r}; there are: {known}")
        factors = []
        for name in names:
            classes = tuple(sorted({row.values[name] for row in rows} - {""}, key=natural))
            if not classes:
                raise DataError(f"{self.table}: {name} is empty in every row; leave it out")
            factors.append(Factor(name, self.roles.get(name, "static"), classes))
        return tuple(factors)

    def _check_static(self, by_path: dict[str, list[Row]]) -> None:
        for path, rows in by_path.items():
            for factor in self.factors:
                values = dict.fromkeys(row.values[factor.name] for row in rows)
                if factor.role == "static" and len(values) > 1:
                    first, second = list(values)[:2]
                    raise DataError(
                        f"{rows[0].where}: {path} has {factor.name} {first!r} and {second!r}, but "
                        f"a static factor does not change; use --dynamic {factor.name}"
                    )

    def _footage(self, path: str) -> Footage:
        place = self.source / path
        return (
            PictureFolder(path, place) if place.is_dir() else VideoFile(path, partial(str, place))
        )

    def _clip(self, row: Row, one_of_several: bool) -> Clip:
        values = row.values
        first, last = (_frame(row, name) for name in ("first", "last"))
        if one_of_several and not (first and last):
            raise DataError(
                f"{row.where}: {row.path} is in the table twice; name the frames of each by the "
                "columns first and last"
            )
        part = values.get("split", "")
        if part and part not in PARTS:
            raise DataError(
                f"{row.where}: split is {part!r}, but must be one of: {', '.join(PARTS)}"
            )
        if first and last and last < first:
            raise DataError(f"{row.where}: first is {first}, but last {last}")
        labels = tuple(
            factor.classes.index(values[factor.name]) if values[factor.name] else -1
            for factor in self.factors
        )
        frames = f"#{first}-{last}" if one_of_several else ""
        group = values.get("group") or row.path
        return Clip(row.path + frames, group, labels, (first or 1) - 1, last, part)


def _frame(row: Row, name: str) -> int | None:
    """The number of a frame, counted from 1, or None where there is none."""
    text = row.values.get(name, "")
    if not text:
        return None
    if not text.isdecimal() or not int(text):
        raise DataError(f"{row.where}: {name} is {text!r}, but must be a whole number from 1")
    return int(text)


def _check_clips(clips: Sequence[Clip]) -> None:
    """Raise DataError where a clip is there twice, or a group in two parts."""
    part: dict[str, str] = {}
    names: set[str] = set()
    for clip in clips:
        if clip.id in names:
            raise DataError(f"{clip.id}: is in the table twice; leave one out")
        names.add(clip.id)
        if part.setdefault(clip.group, clip.part) != clip.part:
            raise DataError(
                f"{clip.id}: is for {clip.part or 'no part'}, but others of its group "
                f"{clip.group!r} are for {part[clip.group] or 'no part'}; a group is in one part"
            )


def _check_shared(video: Video) -> None:
    """Raise DataError where frames are in two groups, which may be in two parts."""
    for first, second in itertools.combinations(video.clips, 2):
        stop = min(clip.stop or math.inf for clip in (first, second))
        if max(first.first, second.first) < stop and first.group != second.group:
            raise DataError(
                f"{first.id} and {second.id} share frames, but are of two groups, "
                f"{first.group!r} and {second.group!r}; give them one"
            )


def _draw(groups: Sequence[str], fraction: float, seed: int) -> set[str]:
    """A fraction of the groups, one at least unless the fraction is 0."""
    if not fraction:
        return set()
    if len(groups) < 2:
        raise DataError(
            f"all sequences are of one group, {groups[0]!r}, which cannot be split; use "
            "--test-fraction 0"
        )
    count = min(max(1, round(fraction * len(groups))), len(groups) - 1)
    order = np.random.default_rng(seed).permutation(len(groups))
    return {groups[n] for n in order[:count]}


def _find(source: Path) -> list[str]:
    """Videos and folders that hold pictures, below a folder, in natural order; none that is hidden.

    A folder that several links lead to counts once.
    Raises DataError for a name that is no UTF-8.
    """
    found, seen = [], {source.resolve()}
    for folder, below, names in os.walk(source, followlinks=True):
        place = Path(folder)
        real = {name: (place / name).resolve() for name in sorted(below) if name[0] != "."}
        below.clear()
        for name, target in real.items():
            if target not in seen:  # nor is a link to a folder above followed for ever
                seen.add(target)
                below.append(name)
        if place != source and pictures(place):
            found.append(place)
        found += [place / name for name in names if visible(Path(name), VIDEO_SUFFIXES)]
    paths = [path.relative_to(source).as_posix() for path in found]
    for path in paths:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise DataError(f"{source}: the name {path!r} is no UTF-8; rename it") from None
    return sorted(paths, key=natural)
