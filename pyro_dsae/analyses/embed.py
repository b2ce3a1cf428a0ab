"""The codes of a part as a table for other programs: npz or csv, by the file's suffix."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pyro_dsae.analyses.codes import Codes

Factors = Mapping[str, np.ndarray]  # class names or numbers of each factor, shape (N,)


def to_npz(codes: Codes, ids: Sequence[str], factors: Factors) -> bytes:
    """Arrays ``id`` and ``length`` (N,), ``f`` (N, static_dim), ``z`` (N, T, dynamic_dim) and one
    ``factor_NAME`` (N,) for each factor. numpy reads them without unpickling."""
    content = io.BytesIO()
    np.savez(
        content,
        id=np.array(ids),
        length=codes.lengths,
        f=codes.f.cpu().numpy(),
        z=codes.z.cpu().numpy(),
        **{f"factor_{name}": values for name, values in factors.items()},
    )
    return content.getvalue()


def to_csv(codes: Codes, ids: Sequence[str], factors: Factors) -> bytes:
    """A row for each sequence: ``id``, ``length``, the factors, ``f_0`` ... and ``z_T_D``: z_0_0,
    z_0_1 ... of the first step and so on, empty after the sequence's length."""
    f, z = codes.f.cpu().numpy(), codes.z.cpu().numpy()
    _, steps, size = z.shape
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(
        ["id", "length", *factors]
        + [f"f_{i}" for i in range(f.shape[1])]
        + [f"z_{t}_{i}" for t in range(steps) for i in range(size)]
    )
    for row, length in enumerate(codes.lengths.tolist()):
        writer.writerow(
            [ids[row], length, *(values[row] for values in factors.values())]
            + f[row].tolist()
            + z[row, :length].ravel().tolist()
            + [""] * (steps - length) * size
        )
    return content.getvalue().encode()


FORMATS: dict[str, Callable[[Codes, Sequence[str], Factors], bytes]] = {
    ".npz": to_npz,
    ".csv": to_csv,
}
