"""What is kept of an evaluation: its figures, how each was made, and a table to read.

``evaluation.json`` in the folder of a run holds one section for each kind of figures, so that one
can be added later: sections stay as long as weights, data and part are the same. ``evaluation.md``
says the same in words.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pyro_dsae.checkpoint import MODEL, write_whole
from pyro_dsae.run_folder import EVALUATION, TABLE, TrainingError

SUBJECT = ("weights_sha256", "data")  # what figures are of; with another, they are others


def weights_sha256(run: str | Path) -> str:
    """Which weights the run in the folder ``run`` has."""
    return sha256(Path(run) / MODEL)


def sha256(file: str | Path) -> str:
    """Of the bytes of a file."""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def merge(run: str | Path, report: Mapping[str, Any]) -> dict[str, Any]:
    """``report`` with the sections beside its own that the folder ``run`` holds of its subject.

    Args:
        report: what the figures are of, ``weights_sha256``, ``data`` and more, and ``sections``,
            each with its ``figures`` and how they were made.

    Raises TrainingError when what the folder holds is damaged.
    """
    file = Path(run) / EVALUATION
    try:
        earlier = json.loads(file.read_text())
        same = all(earlier[key] == report[key] for key in SUBJECT)
        kept = earlier["sections"] if same else {}
        merged = {**report, "sections": {**kept, **report["sections"]}}
        markdown(merged)
    except FileNotFoundError:
        return dict(report)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TrainingError(f"{file}: is damaged; remove it") from None
    return merged


def write(run: str | Path, report: Mapping[str, Any]) -> None:
    """Write ``report`` as JSON and as Markdown, each whole or not at all.

    Raises CheckpointError where they cannot be written.
    """
    write_whole(Path(run) / EVALUATION, (json.dumps(report, indent=2) + "\n").encode())
    write_whole(Path(run) / TABLE, markdown(report).encode())


def markdown(report: Mapping[str, Any]) -> str:
    """The figures of a report as a table, and a second one of how each section was made."""
    data, sections = report["data"], report["sections"]
    figures = [
        (section, name, value)
        for section, made in sections.items()
        for name, value in _rows(made["figures"])
    ]
    made = [
        (
            section,
            f"{made['seconds']:.1f}",
            f"`{made['command']}`",
            made["device"],
            made["versions"],
        )
        for section, made in sections.items()
    ]
    made = [(*row, ", ".join(map(" ".join, versions.items()))) for *row, versions in made]
    return "\n".join(
        [
            f"# Evaluation of {report['run']}",
            "",
            f"Data {data['name']}, part {data['part']}, {data['sequences']:,} sequences, content "
            f"sha256 {data['content_sha256']}.",
            f"Training seed {report['training_seed']}, weights sha256 {report['weights_sha256']}.",
            "",
            *_table(("section", "figure", "value"), figures),
            "",
            *_table(("section", "seconds", "command", "device", "versions"), made),
            "",
            *_judges(sections),
        ]
    )


def _judges(sections: Mapping[str, Any]) -> list[str]:
    """A paragraph for each judge, with the sections that it measured."""
    found: dict[str, list[str]] = {}
    for name, section in sections.items():
        if judge := section.get("judge"):
            right = ", ".join(f"{head} {share:.3%}" for head, share in judge["accuracy"].items())
            said = f"sha256 {judge['sha256']}, right on its own test part: {right}."
            found.setdefault(said, []).append(name)
    return [
        line for said, of in found.items() for line in (f"Judge of {', '.join(of)}: {said}", "")
    ]


def _rows(figures: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """A row for each figure, and one for all of an inner mapping that holds numbers alone."""
    for key, value in figures.items():
        name = f"{above}{key}"
        if not isinstance(value, dict):
            yield name, _shown(value)
        elif any(isinstance(entry, dict | str) for entry in value.values()):
            yield from _rows(value, f"{name}, ")
        else:
            yield name, ", ".join(f"{inner} {_shown(entry)}" for inner, entry in value.items())


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Lines of a Markdown table whose columns are aligned, except for the last."""
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head) - 1)] + [0]
    lines = [head, tuple("-" * max(width, 3) for width in widths), *rows]
    return [
        "| " + " | ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) + " |"
        for row in lines
    ]
