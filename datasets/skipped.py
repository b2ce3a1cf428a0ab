"""What a source could not use, for the user to see and the file to keep."""

from typing import Any

import numpy as np

NAMED = 20_000  # characters of the names of what was skipped that a file keeps


class Skipped:
    """What was not used, by the reason, in the order in which it came up."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}

    def add(self, name: str, reason: str) -> None:
        self._names.setdefault(reason, []).append(name)

    def __str__(self) -> str:
        """The first of each reason, in one line."""
        return "; ".join(f"{names[0]}: {reason}" for reason, names in self._names.items())

    def table(self) -> dict[str, dict[str, Any]]:
        """{reason: {"count": how many, "names": the first of them}}, as a recipe keeps it."""
        left, table = NAMED, {}
        for reason, names in self._names.items():
            ends = np.cumsum([len(name) for name in names])
            table[reason] = {"count": len(names), "names": names[: int((ends <= left).sum())]}
            left -= int(ends[ends <= left].max(initial=0))
        return table
