"""The file of sequences: one HDF5 format for every source, a validating writer and reader."""

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pyro_dsae.sequences import Sequences, Standard, known, numbered

FORMAT = "pyro-dsae"
SCHEMA_VERSION = 1
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container, or of a job on a cluster
REMEDY = "make the file again with `dsae prepare`"
LAYOUTS = {"video": ("NTHWC", 5, np.uint8), "series": ("NTD", 3, np.float32)}
TEXT_ATTRIBUTES = (
    "name",
    "modality",
    "layout",
    "source",
    "source_sha256",
    "licence",
    "attribution",
    "citation",
    "recipe",
    "created_by",
    "content_sha256",
)


class DataError(ValueError):
    """Data that cannot be used: what is wrong, which value, what would be right."""


@dataclass(frozen=True)
class Factor:
    """A named cause of variation.

    name: how commands and files call it.
    role: "static" for what stays the same in a sequence, "dynamic" for what changes.
    classes: a name for each class; empty for a real-valued factor.
    """

    name: str
    role: str
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise DataError(f"factor name {self.name!r}: expected a non-empty name without '/'")
        if self.role not in ("static", "dynamic"):
            raise DataError(
                f"factor {self.name}: role is {self.role!r}, expected 'static' or 'dynamic'"
            )
        if len(set(self.classes)) != len(self.classes):
            raise DataError(f"factor {self.name}: class names repeat: {', '.join(self.classes)}")


def check_output(path: str | Path, overwrite: bool = False) -> Path:
    """Return path when a file may be written there; raises DataError otherwise."""
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: is a folder, expected the name of a file to write")
    if not path.parent.is_dir():
        raise DataError(f"{path}: the folder {path.parent} does not exist; create it first")
    if path.exists() and not overwrite:
        raise DataError(f"{path}: exists already; give another name or --overwrite")
    return path


def write(
    path: str | Path,
    blocks: Iterable[np.ndarray],
    *,
    labels: np.ndarray,
    factors: Sequence[Factor],
    ids: Sequence[str],
    groups: np.ndarray,
    splits: Mapping[str, Mapping[str, np.ndarray]],
    name: str,
    source: str,
    licence: str,
    attribution: str,
    citation: str,
    recipe: Mapping[str, Any],
    source_sha256: str = "",
    lengths: np.ndarray | None = None,
    step_labels: np.ndarray | None = None,
    step_factors: Sequence[Factor] = (),
    mask: np.ndarray | None = None,
    standard: Standard | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a file of N sequences, whole or not at all.

    blocks: consecutive blocks of sequences, uint8 (n, T, H, W, C) or float32 (n, T, D), zero after
        a sequence's length and where not observed.
    labels: value of each factor, shape (N, n_factors); class -1 is unknown.
    ids: unique names, length N. groups: the unit that must not leak between parts, shape (N,).
    splits: {scheme: {part: indices}}. lengths: steps of each sequence, (N,); None for all T.
    step_labels: value of each step factor at each step, shape (N, T, n_step_factors), zero after a
        sequence's length.
    mask: True where observed, bool (N, T) or (N, T, D), with an observation at the last step of
        each sequence; None where all real steps are. standard: of a series, over its train part.
    Raises DataError when a value is invalid or the output exists; then nothing is left behind.
    """
    path = check_output(path, overwrite)
    labels = np.asarray(labels)
    attributes = {
        "name": name,
        "source": source,
        "source_sha256": source_sha256,
        "licence": licence,
        "attribution": attribution,
        "citation": citation,
        "recipe": json.dumps(dict(recipe), sort_keys=True),
        "created_by": f"{FORMAT} {_version()}",
    }
    if labels.shape != (len(ids), len(factors)) or not len(ids):
        raise DataError(
            f"{path}: labels have shape {labels.shape}, expected ({len(ids)}, {len(factors)}) for "
            f"{len(ids)} ids and {len(factors)} factors, with at least one id"
        )
    for named in (*factors, *step_factors):
        if named.name in ("", ".", "..") or "/" in named.name or "\0" in named.name:
            raise DataError(f"{path}: a factor cannot be named {named.name!r}; rename it")
    columns = [
        _column(f"{path}", factor, column) for factor, column in zip(factors, labels.T, strict=True)
    ]
    groups = np.asarray(groups, np.int32)
    _check_ids(path, ids)
    _check_length(path, "group", groups, len(ids))
    splits = {
        scheme: {part: np.asarray(index, np.int64) for part, index in parts.items()}
        for scheme, parts in splits.items()
    }
    _check_splits(path, splits, len(ids))
    with creating(path) as (output, file):
        file.create_group("splits", track_order=True)
        for scheme, parts in splits.items():
            group = file["splits"].create_group(scheme, track_order=True)
            for part, indices in parts.items():
                group[part] = indices
        file.create_dataset("id", data=list(ids), dtype=h5py.string_dtype())
        file["group"] = groups
        digest = hashlib.sha256()
        _write_blocks(path, file, output.checked(blocks), len(ids), lengths, mask, digest)
        lengths = file["length"][:]
        if mask is not None:
            file.create_dataset("mask", data=mask, chunks=(1, *mask.shape[1:]), compression="gzip")
            _hash_row(digest, mask)
        if standard is not None:
            file.create_dataset("channels", data=standard.channels, dtype=h5py.string_dtype())
            file["mean"], file["scale"] = standard.mean, standard.scale
            _hash_standard(digest, standard)
        columns += _step_columns(path, step_factors, step_labels, lengths, file["x"].shape[1])
        file.create_group("factors", track_order=True)
        for factor, column in zip((*factors, *step_factors), columns, strict=True):
            dataset = file["factors"].create_dataset(factor.name, data=column)
            dataset.attrs["role"] = factor.role
            dataset.attrs["classes"] = json.dumps(factor.classes)
        names = list(file["factors"])
        _hash_labels(digest, lengths, names, columns)
        attributes["content_sha256"] = digest.hexdigest()
        file.attrs["format"] = FORMAT
        file.attrs["schema_version"] = SCHEMA_VERSION
        for key, value in attributes.items():
            file.attrs[key] = value
    return path


@contextmanager
def creating(path: Path) -> Iterator[tuple["_Output", h5py.File]]:
    """A new HDF5 file that lies at ``path`` once it is whole, and what it is written to.

    Raises DataError where it cannot be written; whatever is raised inside leaves nothing behind.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with _Output(partial, "w+") as output, h5py.File(output, "w") as file:
            yield output, file
            file.flush()
            output.check()
        output.check()
        os.replace(partial, path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot write ({error.strerror or error}); check the free space and "
            "permissions"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


class _Output(io.FileIO):
    """The file that HDF5 writes to; it keeps a failed write's error for `check` to raise.

    HDF5 itself must not see the failure: unable to flush its cache, it would crash at exit.
    """

    error: OSError | None = None

    def write(self, data: memoryview) -> int:
        done = 0
        try:
            while self.error is None and done < len(data):
                done += super().write(data[done:])
        except OSError as error:
            self.error = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        return super().truncate(size) if self.error is None else 0

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    def checked(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The same blocks, but no more of them after a failed write."""
        for block in blocks:
            self.check()
            yield block


def _write_blocks(
    path: Path,
    file: h5py.File,
    blocks: Iterable[np.ndarray],
    n: int,
    lengths: np.ndarray | None,
    mask: np.ndarray | None,
    digest: "hashlib._Hash",
) -> None:
    """Stream the blocks into /x and the digest, and write /length; check values and padding."""
    dataset, start = None, 0
    for block in blocks:
        if dataset is None:
            modality = "video" if block.ndim == 5 else "series"
            layout, ndim, dtype = LAYOUTS[modality]
            if block.ndim != ndim or block.dtype != dtype or 0 in block.shape[1:]:
                raise DataError(
                    f"{path}: sequences are {block.dtype} {block.shape}, expected uint8 "
                    "(n, T, H, W, C) or float32 (n, T, D)"
                )
            shape = block.shape[1:]
            steps = shape[0]
            lengths = np.full(n, steps, np.int32) if lengths is None else np.asarray(lengths)
            check_lengths(path, lengths, n, steps)
            if mask is not None:
                _check_mask(path, mask, lengths, (n, *shape))
            chunks = (1, min(steps, 16) if steps > 64 else steps, *shape[1:])
            dataset = file.create_dataset(
                "x", (n, *shape), dtype, chunks=chunks, compression="gzip", compression_opts=4
            )
            file["length"] = lengths.astype(np.int32)
            file.attrs["modality"] = modality
            file.attrs["layout"] = layout
        end = start + len(block)
        if block.dtype != dataset.dtype or block.shape[1:] != dataset.shape[1:] or end > n:
            raise DataError(
                f"{path}: a block of sequences is {block.dtype} {block.shape} at {start}, expected "
                f"{dataset.dtype} (at most {n - start}, {', '.join(map(str, dataset.shape[1:]))})"
            )
        if block.dtype.kind == "f" and not np.isfinite(block).all():
            raise DataError(f"{path}: sequences {start} to {end - 1} hold NaN or infinite values")
        for i, (row, length) in enumerate(zip(block, lengths[start:end], strict=True), start):
            if row[length:].any():
                raise DataError(f"{path}: values after a length of {length} are not zero")
            if mask is not None and row[~mask[i]].any():
                raise DataError(f"{path}: values of sequence {i} are not zero where it is masked")
            _hash_row(digest, row)
        dataset[start:end] = block
        start = end
    if dataset is None or start != n:
        raise DataError(f"{path}: got {start} sequences for {n} ids")


class SequenceFile:
    """A checked, open file of sequences; `SequenceFile.open(path)` is a context manager.

    name: the source's name. attrs: the file's attributes. recipe: the source's options and seeds.
    factors, step_factors: tuples of Factor, with a value a sequence and with a value a step.
    lengths, groups: int32 (N,). ids: N names. frame_shape: (C, H, W), or (D,) for a series.
    standard: of a series, over its train part; None where it has none.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file = _open(self.path)
        try:
            self._load()
        except DataError:
            self.close()
            raise
        except (KeyError, OSError, RuntimeError, TypeError, AttributeError, ValueError) as error:
            self.close()
            reason = " ".join(str(error).split())
            raise DataError(f"{self.path}: is damaged ({reason}); {REMEDY}") from error

    @classmethod
    def open(cls, path: str | Path) -> "SequenceFile":
        """Open and check a file; raises DataError with the path, the value and the remedy."""
        return cls(path)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "SequenceFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.ids)

    def _load(self) -> None:
        path, file = self.path, self._file
        self.attrs = dict(file.attrs)
        found = self.attrs.get("format")
        if found != FORMAT:
            raise DataError(
                f"{path}: format is {found!r}, expected {FORMAT!r}; make the file with "
                "`dsae prepare`"
            )
        found = self.attrs.get("schema_version")
        if found != SCHEMA_VERSION:
            raise DataError(
                f"{path}: schema version is {found}, expected {SCHEMA_VERSION}; {REMEDY}, or use "
                "the release that wrote it"
            )
        for key in TEXT_ATTRIBUTES:
            if not isinstance(self.attrs.get(key), str):
                raise DataError(f"{path}: has no attribute {key!r}; {REMEDY}")
        for key in ("x", "length", "id", "group", "factors", "splits"):
            if key not in file:
                raise DataError(f"{path}: has no /{key}; {REMEDY}")
        self.name = self.attrs["name"]
        self.recipe = dict(json.loads(self.attrs["recipe"]))
        self.content_sha256 = self.attrs["content_sha256"]
        self._x = file["x"]
        layout, ndim, dtype = LAYOUTS.get(self.attrs["modality"], (None, None, None))
        if layout is None or self.attrs["layout"] != layout:
            raise DataError(
                f"{path}: modality {self.attrs['modality']!r} with layout {self.attrs['layout']!r},"
                f" expected 'video' with 'NTHWC' or 'series' with 'NTD'; {REMEDY}"
            )
        if self._x.ndim != ndim or self._x.dtype != dtype or 0 in self._x.shape:
            raise DataError(
                f"{path}: /x is {self._x.dtype} {self._x.shape}, expected {np.dtype(dtype)} with "
                f"axes {layout}; {REMEDY}"
            )
        n, steps, *frame = self._x.shape
        self.frame_shape = (frame[-1], *frame[:-1])  # channels first
        self.standard = None
        if "channels" in file:
            names = tuple(file["channels"].asstr()[:])
            self.standard = Standard(names, file["mean"][:], file["scale"][:])
            for values in (names, self.standard.mean, self.standard.scale):
                _check_length(path, "channels, mean or scale", np.array(values), frame[-1])
        self.lengths = file["length"][:]
        check_lengths(path, self.lengths, n, steps)
        self._mask = file["mask"][:] if "mask" in file else None
        if self._mask is not None:
            _check_mask(path, self._mask, self.lengths, self._x.shape)
        self.ids = list(file["id"].asstr()[:])
        _check_length(path, "id", file["id"], n)
        _check_ids(path, self.ids)
        self.groups = file["group"][:]
        _check_length(path, "group", self.groups, n)
        self._columns: dict[str, np.ndarray] = {}
        factors: dict[int, list[Factor]] = {1: [], 2: []}
        for name, dataset in file["factors"].items():
            classes = tuple(json.loads(dataset.attrs["classes"]))
            factor = Factor(name, dataset.attrs["role"], classes)
            if dataset.shape not in ((n,), (n, steps)):
                raise DataError(
                    f"{path}: /factors/{name} has shape {dataset.shape}, expected ({n},) or "
                    f"({n}, {steps}); {REMEDY}"
                )
            factors[dataset.ndim].append(factor)
            self._columns[name] = _column(str(path), factor, dataset[:])
        self.factors, self.step_factors = tuple(factors[1]), tuple(factors[2])
        self._splits = {
            scheme: {part: indices[:] for part, indices in parts.items()}
            for scheme, parts in file["splits"].items()
        }
        _check_splits(path, self._splits, n)

    @property
    def nbytes(self) -> int:
        """What all sequences take in memory, in bytes."""
        return self._x.size * self._x.dtype.itemsize

    @property
    def splits(self) -> dict[str, tuple[str, ...]]:
        """The parts of each scheme."""
        return {scheme: tuple(parts) for scheme, parts in self._splits.items()}

    def labels(self, names: Sequence[str]) -> np.ndarray:
        """Values of the named factors, shape (N, k); -1 is an unknown class.

        Raises DataError for an unknown factor or one with a value for each step.
        """
        columns = [self._values(name, 1) for name in names]
        return np.stack(columns, axis=-1) if columns else np.empty((len(self), 0), np.int16)

    def step_labels(self, names: Sequence[str]) -> np.ndarray:
        """Values of the named factors at each step, shape (N, T, k), zero after a length.

        Raises DataError for an unknown factor or one with a value for each sequence.
        """
        columns = [self._values(name, 2) for name in names]
        empty = np.empty((len(self), self._x.shape[1], 0), np.float32)
        return np.stack(columns, axis=-1) if columns else empty

    def _values(self, name: str, ndim: int) -> np.ndarray:
        """Values of a factor, (N,) for ndim 1 and (N, T) for ndim 2, or DataError."""
        if name not in self._columns:
            known = ", ".join(self._columns) or "none"
            raise DataError(f"{self.path}: has no factor {name!r}; its factors are {known}")
        if self._columns[name].ndim != ndim:
            found, asked = ("step", "sequence") if ndim == 1 else ("sequence", "step")
            raise DataError(
                f"{self.path}: factor {name!r} has a value for each {found}; choose one with a "
                f"value for each {asked}"
            )
        return self._columns[name]

    def split(self, part: str, scheme: str = "official") -> np.ndarray:
        """Sorted indices of the sequences in a part, int64; raises DataError for unknown names."""
        if scheme not in self._splits:
            known = ", ".join(self._splits) or "none"
            raise DataError(f"{self.path}: has no split {scheme!r}; its splits are {known}")
        parts = self._splits[scheme]
        if part not in parts:
            raise DataError(
                f"{self.path}: split {scheme!r} has no part {part!r}; its parts are "
                f"{', '.join(parts)}"
            )
        return parts[part].copy()

    def read(
        self,
        indices: Sequence[int] | np.ndarray,
        starts: np.ndarray | None = None,
        steps: int | None = None,
    ) -> np.ndarray:
        """Read sequences in the given order, uint8 (n, T, H, W, C) or float32 (n, T, D).

        starts, steps: read only so many steps of each, from its start (n,) on; None for all T.
        Raises DataError for an index out of range, damaged data, or NaN.
        """
        indices = np.asarray(indices)
        if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
            raise DataError(
                f"{self.path}: indices are {indices.dtype} {indices.shape}, expected integers (n,)"
            )
        outside = indices[(indices < 0) | (indices >= len(self))]
        if outside.size:
            raise DataError(
                f"{self.path}: sequence {outside[0]} does not exist, expected 0 to {len(self) - 1}"
            )
        starts = np.zeros(len(indices), int) if starts is None else starts
        steps = self._x.shape[1] if steps is None else steps
        out = np.empty((len(indices), steps, *self._x.shape[2:]), self._x.dtype)
        for n, (index, start) in enumerate(zip(indices.tolist(), starts.tolist(), strict=True)):
            try:
                self._x.read_direct(out, np.s_[index, start : start + steps], np.s_[n])
            except OSError as error:
                raise DataError(
                    f"{self.path}: sequence {index} is damaged ({error}); {REMEDY}"
                ) from error
            if out.dtype.kind == "f" and not np.isfinite(out[n]).all():
                raise DataError(
                    f"{self.path}: sequence {index} ({self.ids[index]}) holds NaN or infinite "
                    f"values; {REMEDY}"
                )
        return out

    def mask(self, indices: np.ndarray) -> np.ndarray | None:
        """Where these are observed, bool (n, T) or (n, T, D); None where all steps are."""
        return None if self._mask is None else self._mask[indices]

    def sequences(
        self,
        part: str,
        scheme: str = "official",
        in_memory: bool | None = True,
        standard: Standard | None = None,
    ) -> Sequences:
        """A part of the sequences; raises DataError as `split` and `read` do.

        in_memory: whether it is read now, or a batch at a time while this file stays open; None
            for what fits.
        standard: what a series is measured by; None for the file's own.
        """
        return self.take(self.split(part, scheme), in_memory, standard)

    def take(
        self,
        indices: np.ndarray,
        in_memory: bool | None = True,
        standard: Standard | None = None,
    ) -> Sequences:
        """The sequences of these indices. See `sequences`."""
        if in_memory is None:
            in_memory = fits_in_memory(self.nbytes // len(self) * len(indices))
        standard = standard or self.standard
        origin = {
            "path": str(self.path.resolve()),
            "name": self.name,
            "content_sha256": self.content_sha256,
        }
        if standard is not None:
            origin |= standard.to_dict()
        found = Sequences(
            _PartOfFile(self, indices, standard),
            self.lengths[indices],
            self.groups[indices],
            origin,
            self.mask(indices),
            standard,
            alike=self._alike()[indices],
        )
        return replace(found, x=found.frames(np.arange(len(found)))) if in_memory else found

    def _alike(self) -> np.ndarray:
        """The number of each sequence's appearance, (N,), -1 where a static factor is unknown.

        Without static factors what belongs to a group looks alike.
        """
        names = [f.name for f in self.factors if f.role == "static" and f.classes]
        if not names:
            return self.groups
        labels = self.labels(names)
        return np.where(known(labels), numbered(labels), -1)

    def verify(self) -> None:
        """Read everything; raises DataError when it differs from what was written."""
        digest = hashlib.sha256()
        for i in range(len(self)):
            _hash_row(digest, self.read([i])[0])
        if self._mask is not None:
            _hash_row(digest, self._mask)
        if self.standard is not None:
            _hash_standard(digest, self.standard)
        _hash_labels(digest, self.lengths, list(self._columns), list(self._columns.values()))
        found = digest.hexdigest()
        if found != self.content_sha256:
            raise DataError(
                f"{self.path}: content sha256 is {found}, expected {self.content_sha256}; {REMEDY}"
            )


class _PartOfFile:
    """Sequences that stay in an open file, as pyro_dsae.sequences.StoredFrames.

    rows: the numbers of its sequences in the file, (N,). standard: of a series.
    """

    def __init__(self, file: SequenceFile, rows: np.ndarray, standard: Standard | None) -> None:
        self.file, self.rows, self.standard = file, rows, standard
        self.shape = (len(rows), *file._x.shape[1:])

    def take(self, rows: np.ndarray) -> "_PartOfFile":
        return _PartOfFile(self.file, self.rows[rows], self.standard)

    def read(self, rows: np.ndarray, starts: np.ndarray, steps: int) -> np.ndarray:
        file, rows = self.file, self.rows[rows]
        x = file.read(rows, starts, steps)
        if self.standard is None:
            return x
        at = starts[:, None] + np.arange(steps)  # (n, steps)
        if file._mask is None:
            observed = at < file.lengths[rows, None]
        else:
            observed = file._mask[rows[:, None], at]
        observed = observed.reshape(*at.shape, -1)
        return np.where(observed, self.standard.apply(x), np.float32(0))


def fits_in_memory(size: int) -> bool:
    """Whether data of so many bytes may be read whole: a quarter of this process's memory at most.

    Training holds them twice for a moment, when it sets a part aside for validation.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if MEMORY_LIMIT.exists() and (limit := MEMORY_LIMIT.read_text().strip()).isdigit():
        memory = min(memory, int(limit))
    return size <= memory / int(os.environ.get("LOCAL_WORLD_SIZE", 1)) / 4  # torchrun's processes


def _version() -> str:
    try:
        return version("pyro-dsae")
    except PackageNotFoundError:  # a checkout that is not installed
        return "(not installed)"


def _open(path: Path) -> h5py.File:
    if not path.exists():
        raise DataError(f"{path}: no such file; make one with `dsae prepare`")
    if path.is_dir():
        raise DataError(f"{path}: is a folder, expected a file made by `dsae prepare`")
    try:
        with path.open("rb"):
            return h5py.File(path, "r")
    except PermissionError as error:
        raise DataError(f"{path}: cannot be read; change its permissions") from error
    except OSError as error:
        if "truncated" in str(error) or not path.stat().st_size:
            size = path.stat().st_size
            raise DataError(
                f"{path}: is truncated at {size} bytes; copy it again, or {REMEDY}"
            ) from error
        raise DataError(
            f"{path}: is not an HDF5 file; expected one made by `dsae prepare`"
        ) from error


def _hash_row(digest: "hashlib._Hash", row: np.ndarray) -> None:
    """Add a sequence to the content hash."""
    digest.update(f"x {row.dtype} {row.shape}".encode())
    digest.update(np.ascontiguousarray(row))


def _hash_standard(digest: "hashlib._Hash", standard: Standard) -> None:
    """Add what a series is measured by to the content hash."""
    digest.update(json.dumps(standard.channels).encode())
    _hash_row(digest, np.stack([standard.mean, standard.scale]))


def _hash_labels(
    digest: "hashlib._Hash",
    lengths: np.ndarray,
    names: Sequence[str],
    columns: Sequence[np.ndarray],
) -> None:
    """Add the lengths and the labels to the content hash, whatever the order of the factors."""
    digest.update(b"length")
    digest.update(np.ascontiguousarray(lengths, "<i4"))
    for name, column in sorted(zip(names, columns, strict=True), key=lambda pair: pair[0]):
        digest.update(f"{name} {column.dtype} {column.shape}".encode())
        digest.update(np.ascontiguousarray(column))


def _column(path: str, factor: Factor, values: np.ndarray) -> np.ndarray:
    """Return a factor's values as int16 classes or float32, or raise DataError."""
    if not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0, 0])
        raise DataError(
            f"{path}: factor {factor.name} of sequence {row} is NaN or infinite; use -1 for an "
            "unknown class"
        )
    if not factor.classes:
        return values.astype(np.float32)
    outside = (values < -1) | (values >= len(factor.classes)) | (values != np.floor(values))
    if outside.any():
        row = int(np.argwhere(outside)[0, 0])
        raise DataError(
            f"{path}: factor {factor.name} of sequence {row} is {values[outside][0]}, expected "
            f"a class from 0 to {len(factor.classes) - 1}, or -1 for unknown; correct the labels"
        )
    return values.astype(np.int16)


def _step_columns(
    path: Path,
    factors: Sequence[Factor],
    labels: np.ndarray | None,
    lengths: np.ndarray,
    steps: int,
) -> list[np.ndarray]:
    """Return the values of each step factor, (N, T), or raise DataError."""
    shape = (len(lengths), steps, len(factors))
    labels = np.empty(shape) if labels is None and not factors else np.asarray(labels)
    if labels.shape != shape:
        raise DataError(f"{path}: step labels have shape {labels.shape}, expected {shape}")
    if labels[np.arange(steps) >= lengths[:, None]].any():
        raise DataError(f"{path}: step labels after a length are not zero")
    return [_column(str(path), factor, labels[..., n]) for n, factor in enumerate(factors)]


def _check_length(path: Path, name: str, values: np.ndarray | h5py.Dataset, n: int) -> None:
    if values.shape != (n,):
        raise DataError(f"{path}: /{name} has shape {values.shape}, expected ({n},); {REMEDY}")


def check_lengths(path: Path, lengths: np.ndarray, n: int, steps: int) -> None:
    _check_length(path, "length", lengths, n)
    if lengths.dtype.kind not in "iu":
        raise DataError(f"{path}: length is {lengths.dtype}, expected whole numbers")
    outside = lengths[(lengths < 1) | (lengths > steps)]
    if outside.size:
        raise DataError(f"{path}: length {outside[0]} is out of range, expected 1 to {steps}")


def _check_mask(path: Path, mask: np.ndarray, lengths: np.ndarray, shape: tuple[int, ...]) -> None:
    """mask: of sequences whose /x has this shape."""
    allowed = (shape[:2], shape) if len(shape) == 3 else (shape[:2],)
    if mask.shape not in allowed or mask.dtype != bool:
        raise DataError(
            f"{path}: /mask is {mask.dtype} {mask.shape}, expected bool "
            f"{' or '.join(map(str, allowed))}; {REMEDY}"
        )
    steps = mask.reshape(*shape[:2], -1).any(axis=-1)  # (N, T)
    last = shape[1] - np.where(steps.any(axis=1), steps[:, ::-1].argmax(axis=1), shape[1])
    if (last != lengths).any():
        row = int(np.argmax(last != lengths))
        raise DataError(
            f"{path}: sequence {row} has a length of {lengths[row]}, but its last observed step is "
            f"{last[row]}; {REMEDY}"
        )


def _check_ids(path: Path, ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise DataError(f"{path}: id {name!r} occurs twice; ids must be unique")
        if "\0" in name:
            raise DataError(f"{path}: id {name!r} holds a NUL, which no name can; rename it")
        seen.add(name)


def _check_splits(path: Path, splits: Mapping[str, Mapping[str, np.ndarray]], n: int) -> None:
    for scheme, parts in splits.items():
        owner: dict[int, str] = {}
        for part, indices in parts.items():
            where = f"{path}: split {scheme}/{part}"
            if indices.ndim != 1 or indices.dtype.kind not in "iu" or not indices.size:
                raise DataError(f"{where} is {indices.dtype} {indices.shape}, expected indices")
            outside = indices[(indices < 0) | (indices >= n)]
            if outside.size:
                raise DataError(f"{where} holds {outside[0]}, expected 0 to {n - 1}; {REMEDY}")
            if (np.diff(indices) <= 0).any():
                raise DataError(f"{where} is not sorted or repeats an index; {REMEDY}")
            for index in indices.tolist():
                if index in owner:
                    raise DataError(
                        f"{where} shares sequence {index} with {owner[index]}; {REMEDY}"
                    )
                owner[index] = part
