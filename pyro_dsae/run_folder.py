"""The folder of a training run: its config, metrics and checkpoint, each written whole."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from pyro_dsae.checkpoint import MODEL, write_whole

CONFIG = "config.json"
METRICS = "metrics.jsonl"
CHECKPOINT = "checkpoint.pt"
EVALUATION = "evaluation.json"  # what was measured of the weights, and the same as a table
TABLE = "evaluation.md"
DAMAGED = (ValueError, LookupError, TypeError, AttributeError)  # of what has another form
PACKAGES = ("pyro-dsae", "pyro-ppl", "torch", "numpy")


class TrainingError(RuntimeError):
    """A run cannot start, go on or be resumed."""


class RunFolder:
    """Writes and reads the files of one run.

    Args:
        path: the folder.
        settings: what a resumed run must have in common with the first: ``model``, ``training`` and
            ``data``, each a mapping.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Mapping[str, Any]]) -> None:
        self.path = Path(path)
        self.settings = json.loads(json.dumps(settings))  # as they will be read back

    def check(self, overwrite: bool = False) -> None:
        """Raise TrainingError unless a run can be made here."""
        if self.path.exists() and not self.path.is_dir():
            raise TrainingError(f"{self.path}: is a file; choose another name for the run's folder")
        held = any((self.path / name).exists() for name in (CONFIG, METRICS, CHECKPOINT, MODEL))
        if held and not overwrite:
            raise TrainingError(
                f"{self.path}: holds a run already; go on with --resume (resume=True), replace it "
                "with --overwrite (overwrite=True), or choose another folder"
            )

    def create(self, state: Mapping[str, Any], overwrite: bool = False) -> None:
        """Make the folder with its config and the first checkpoint, whole or not at all.

        With ``overwrite`` the files of an earlier run go, once the new ones are there; anything
        else in the folder stays.
        Raises TrainingError when the folder holds a run already.
        """
        self.check(overwrite)
        made = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        checkpoint = self.path / CHECKPOINT
        earlier, saved = checkpoint.read_bytes() if checkpoint.exists() else None, False
        try:
            self.save(state)
            saved = True
            about = {**self.settings, "versions": versions()}
            write_whole(self.path / CONFIG, json.dumps(about, indent=2).encode())
        except BaseException:
            if saved:  # else the earlier one is there still
                checkpoint.unlink()
                if earlier is not None:
                    write_whole(checkpoint, earlier)
            if made:
                self.path.rmdir()
            raise
        for name in (METRICS, MODEL, EVALUATION, TABLE):
            (self.path / name).unlink(missing_ok=True)

    def write_metrics(self, history: list[dict[str, Any]]) -> None:
        """Write one line an epoch."""
        lines = "".join(json.dumps(line) + "\n" for line in history)
        write_whole(self.path / METRICS, lines.encode())

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a checkpoint of ``state``: tensors, numbers, strings, lists and dictionaries."""
        content = io.BytesIO()
        torch.save({"settings": self.settings, **state}, content)
        write_whole(self.path / CHECKPOINT, content.getvalue())

    def restore(self) -> dict[str, Any]:
        """The state that :meth:`save` wrote. Nothing is ever unpickled.

        Raises TrainingError when there is none, when it is no whole checkpoint, or when it comes
        from another model, training or data file.
        """
        path = self.path / CHECKPOINT
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            found = {part: dict(options) for part, options in state.pop("settings").items()}
        except FileNotFoundError:
            raise TrainingError(f"{path}: no such file, so there is nothing to resume") from None
        except (pickle.UnpicklingError, RuntimeError, EOFError, *DAMAGED):
            raise TrainingError(f"{path}: truncated, or not a checkpoint of this package") from None
        for part, options in self.settings.items():
            for key in dict.fromkeys([*options, *found.get(part, {})]):
                before, now = found.get(part, {}).get(key), options.get(key)
                if before != now and (part, key) != ("data", "path"):  # a file may have moved
                    raise TrainingError(
                        f"{path}: was trained with {part} {key}={before!r}, not {now!r}; resume "
                        "with the same, or choose another folder"
                    )
        return state


def read_config(path: str | Path) -> dict[str, Any]:
    """The ``config.json`` of the run in the folder ``path``.

    Raises TrainingError when the folder holds no run.
    """
    try:
        config = json.loads((Path(path) / CONFIG).read_text())
        return {**config, "model": {**config["model"]}, "training": {**config["training"]}}
    except (FileNotFoundError, NotADirectoryError):
        raise TrainingError(f"{path}: no run is here; make one with dsae fit") from None
    except DAMAGED:
        raise TrainingError(f"{path}: its {CONFIG} is damaged") from None


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl`` of the run in the folder ``path``, one an epoch.

    Raises TrainingError when they are damaged.
    """
    file = Path(path) / METRICS
    try:
        return [json.loads(line) for line in file.read_text().splitlines()]
    except FileNotFoundError:  # stopped within the first epoch
        return []
    except ValueError:
        raise TrainingError(f"{file}: is damaged") from None


def versions(*more: str) -> dict[str, str]:
    """The version of every package that figures depend on, and of ``more``."""
    return {package: _version(package) for package in (*PACKAGES, *more)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a checkout that is not installed
        return "(not installed)"
