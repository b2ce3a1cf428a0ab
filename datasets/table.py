"""A CSV table of time series: a row a step, with columns for the sequence, the time and the values.

Every row of a sequence is one step, in the order of the time; what is empty is missing.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pyro_dsae.datasets import parts, series
from pyro_dsae.datasets.hdf5 import DataError
from pyro_dsae.datasets.labels import UNKNOWN, classes
from pyro_dsae.datasets.skipped import Skipped
from pyro_dsae.datasets.source import OptionError, check_option

MISSING = ("", "na", "nan", "null", "none")  # in any case


@dataclass
class _Sequence:
    """Rows of one sequence: values (T, D), the static cells, and the dynamic ones of each row."""

    name: str
    line: int
    static: list[str]
    values: list[list[float]] = field(default_factory=list)
    dynamic: list[list[str]] = field(default_factory=list)
    time: float = -math.inf


def prepare(
    out: Path,
    *,
    source: str,
    sequence_id: str,
    time: str,
    static: Sequence[str] = (),
    dynamic: Sequence[str] = (),
    value: Sequence[str] = (),
    group: str | None = None,
    split: str | None = None,
    test_fraction: float = 0.2,
    window: int | None = None,
    stride: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Write the sequences of a table.

    source: the CSV file, whose first row names the columns.
    sequence_id, time: columns with the name of a sequence and the time of a step, a number.
    static, dynamic: columns with factors that stay the same in a sequence, or may change in it.
    value: columns with the channels; by default all that no other option names.
    group: column with what must not be in two parts (a person); by default the sequence.
    split: column with the part of each sequence, train, validation or test; by default a seeded
        ``test_fraction`` of the groups is for testing.
    window, stride: cut longer sequences into windows of so many steps, one every ``stride`` steps,
        or end to end.
    Raises OptionError for an unknown column or an option out of range, DataError for a table that
    cannot be used, by its line.
    """
    if window is not None:
        check_option("window", window, 2, 10**6)
        check_option("stride", window if stride is None else stride, 1, window)
    elif stride is not None:
        raise OptionError(f"stride is {stride}, but there is no window; give both or neither")
    named_once = [*static, *dynamic, *value]
    for name in named_once:
        if named_once.count(name) > 1:
            raise OptionError(
                f"{source}: column {name!r} is named twice by static, dynamic and value; keep one"
            )
    fixed = [name for name in (group, split) if name is not None]
    channels, found = _read(source, sequence_id, time, [*static, *fixed], dynamic, value)
    values, ids, labels, steps, groups, owners, named = [], [], [], [], [], [], []
    skipped = Skipped()
    for number, one in enumerate(found):
        everything = np.array(one.values)
        observed = np.isfinite(everything).any(axis=1)
        if not observed.any():
            raise DataError(
                f"{source}: sequence {one.name!r} (line {one.line}) has no value in any row; "
                "leave it out"
            )
        cuts = series.windows(len(everything), window, stride)
        if cuts[-1].stop < len(everything):
            skipped.add(f"{one.name}, rows from {cuts[-1].stop + 1} on", "no whole window is left")
        for cut in cuts:
            name = one.name if len(cuts) == 1 else f"{one.name}/{cut.start}"
            if not observed[cut].any():
                skipped.add(name, "a window without a value")
                continue
            if not observed[cut][-1]:
                skipped.add(name, "its last rows have no value")
            values.append(everything[cut])
            ids.append(name)
            labels.append(one.static[: len(static)])
            steps.append(one.dynamic[cut])
            groups.append("" if group is None else one.static[len(static)])
            owners.append(number)
            named.append(one.static[-1] if fixed else "")
    groups = parts.grouped(np.array(groups), np.array(owners))
    if split is None:
        splits = {"official": parts.drawn(groups, test_fraction, seed)}
    else:
        splits = {"official": parts.named(f"{source}: {split}", named, groups)}
    overlap = 0 if window is None else math.ceil(window / (stride or window)) - 1
    if (within := parts.within_groups(groups, overlap)) is not None:
        splits["within-group"] = within
    factors = [classes(name, "static", [row[n] for row in labels]) for n, name in enumerate(static)]
    step_factors = []
    for n, name in enumerate(dynamic):
        cells = [[row[n] for row in rows] for rows in steps]
        known = [{cell for cell in column if cell.lower() not in UNKNOWN} for column in cells]
        if all(len(each) <= 1 for each in known):  # an unknown cell is no other class
            factors.append(classes(name, "dynamic", ["".join(each) for each in known]))
        else:
            step_factors.append(classes(name, "dynamic", np.concatenate(cells)))
    step_labels = None
    if step_factors:
        every = np.stack([column for _, column in step_factors], axis=1)
        step_labels = np.split(every, np.cumsum([len(rows) for rows in steps])[:-1])
    return series.write(
        out,
        values,
        ids=ids,
        channels=channels,
        splits=splits,
        labels=np.stack([column for _, column in factors], axis=1) if factors else None,
        factors=[factor for factor, _ in factors],
        step_labels=step_labels,
        step_factors=[factor for factor, _ in step_factors],
        groups=groups,
        **series.about_own(source),
        recipe={
            "source": "table",
            "sequence_id": sequence_id,
            "time": time,
            "static": list(static),
            "dynamic": list(dynamic),
            "value": list(value),
            "group": group,
            "split": split,
            "test_fraction": test_fraction,
            "window": window,
            "stride": stride,
            "seed": seed,
            "skipped": skipped.table(),
        },
        overwrite=overwrite,
    )


def _read(
    source: str,
    sequence_id: str,
    time: str,
    fixed: Sequence[str],
    dynamic: Sequence[str],
    value: Sequence[str],
) -> tuple[list[str], list[_Sequence]]:
    """The channels' names and the sequences, in the order of the table."""
    found: list[_Sequence] = []
    names: set[str] = set()
    for line, row, columns in _rows(source):
        if not names:
            used = [sequence_id, time, *fixed, *dynamic]
            channels = [*value] or [name for name in columns if name not in used]
            for name in (*used, *channels):
                if name not in columns:
                    raise OptionError(
                        f"{source}: has no column {name!r}; its columns are {', '.join(columns)}"
                    )
            if not channels:
                raise OptionError(f"{source}: has no columns left for values")
        where, name, cells = f"{source}, line {line}", row[sequence_id], [row[c] for c in fixed]
        if not name:
            raise DataError(f"{where}: {sequence_id} is empty; every row needs its sequence")
        if not found or found[-1].name != name:
            if name in names:
                raise DataError(
                    f"{where}: sequence {name!r} starts again; put the rows of a sequence "
                    "together, and give two sequences two names"
                )
            names.add(name)
            found.append(_Sequence(name, line, cells))
        one = found[-1]
        for column, first, cell in zip(fixed, one.static, cells, strict=True):
            if cell != first:
                raise DataError(
                    f"{where}: {column} of sequence {name!r} is {cell!r}, but {first!r} in line "
                    f"{one.line}; a column that varies within a sequence is --dynamic"
                )
        at = _number(row[time])
        if at is None or math.isnan(at):
            raise DataError(
                f"{where}: {time} is {row[time]!r}, but must be a number; count dates and times, "
                "from the first row on"
            )
        if not at > one.time:
            raise DataError(
                f"{where}: {time} is {row[time]}, but must be above the row before "
                f"({one.time:g}); sort the rows of sequence {name!r}"
            )
        one.time = at
        one.values.append([_value(where, column, row[column]) for column in channels])
        one.dynamic.append([row[column] for column in dynamic])
    if not found:
        raise DataError(f"{source}: has no rows; expected a row for each step of a sequence")
    return channels, found


def _rows(source: str) -> Iterator[tuple[int, dict[str, str], list[str]]]:
    """Line number, cells by column and all columns of every row."""
    try:
        with open(source, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            if len(set(columns)) != len(columns):
                raise DataError(f"{source}: two columns have one name: {', '.join(columns)}")
            if "" in columns:
                raise DataError(
                    f"{source}: column {columns.index('') + 1} has no name; name it, or leave it "
                    "out (pandas writes none with index=False)"
                )
            reader.fieldnames = columns
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        f"{source}, line {reader.line_num}: has not {len(columns)} cells, as the "
                        "first row has"
                    )
                yield reader.line_num, {name: cell.strip() for name, cell in row.items()}, columns
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{source}: cannot be read as CSV ({error})") from error


def _number(cell: str) -> float | None:
    """A cell as a number, NaN where it is missing, None where it is something else."""
    if cell.lower() in MISSING:
        return math.nan
    try:
        number = float(cell)
    except ValueError:
        return None
    return None if math.isinf(number) or "_" in cell else number


def _value(where: str, column: str, cell: str) -> float:
    """A cell of a channel, NaN where it is missing."""
    if (number := _number(cell)) is None:
        raise DataError(
            f"{where}: {column} is {cell!r}, but must be a number, or empty where it is missing; "
            "name a column of classes by --static or --dynamic, or choose columns by --value"
        )
    return number
