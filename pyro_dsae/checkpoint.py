"""Weights on disk: one safetensors file whose metadata carries the config, so it loads alone."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from pyro_dsae.config import GUIDE_FIELDS, ConfigError, ModelConfig
from pyro_dsae.model import DSAE

MODEL = "model.safetensors"  # the best weights of a run, in its folder
KINDS = {"model": "pyro-dsae", "judge": "pyro-dsae-judge"}  # what a file is of, by its metadata


class CheckpointError(ValueError):
    """A file is not a model of this package, or the path cannot be used."""


def save(dsae: DSAE, path: str | Path, overwrite: bool = False) -> None:
    """Write ``dsae`` to ``path``, whole or not at all.

    Raises CheckpointError when ``path`` exists and ``overwrite`` is False, or cannot be written.
    """
    write_weights(path, "model", dsae, dsae.config.to_dict(), overwrite)


def write_weights(
    path: str | Path, kind: str, module: nn.Module, about: Mapping[str, Any], overwrite: bool
) -> None:
    """Write the weights of ``module``, of a kind in ``KINDS``, with ``about`` as their metadata.

    Raises CheckpointError as :func:`save` does.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path} exists; use --overwrite (overwrite=True) to replace it")
    write_whole(path, serialize(module.state_dict(), {KINDS[kind]: json.dumps(about)}))


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all: to a temporary name, then renamed.

    Raises CheckpointError where it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot write ({error.strerror}); check the folder, its permissions and the "
            "free space"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def load(path: str | Path, **parts: nn.Module) -> DSAE:
    """The model that :func:`save` wrote, in eval mode on the CPU. Nothing is ever unpickled.

    Args:
        path: the file, or the folder of a run that holds it as ``model.safetensors``.
        parts: what was passed to :class:`~pyro_dsae.model.DSAE` beside the config, such as
            ``encoder``; their weights are read, they themselves are not in the file.

    Raises:
        CheckpointError: when the file is missing, truncated or not a model of this package.
    """
    config, weights = read(path)
    with torch.random.fork_rng():  # initial weights must not cost the caller random numbers
        dsae = DSAE(config, **parts)
    try:
        dsae.load_state_dict(weights)
    except RuntimeError:
        raise CheckpointError(
            f"{path}: its weights do not fit the config it carries; a model with parts of your own "
            "needs them passed again"
        ) from None
    return dsae.eval()


def load_generative(dsae: DSAE, path: str | Path) -> None:
    """Give ``dsae`` the generative model in a file that :func:`save` wrote; its guide stays.

    Raises:
        CheckpointError: as :func:`load`.
        ConfigError: when the two differ in more than the guide.
    """
    config, weights = read(path)
    for field in dataclasses.fields(config):
        asked, held = getattr(dsae.config, field.name), getattr(config, field.name)
        if asked != held and field.name not in GUIDE_FIELDS:
            raise ConfigError(
                f"{field.name} is {asked!r}, but that of the generative model in {path} is {held!r}"
            )
    prefix = "model."
    parts = {name: value for name, value in weights.items() if name.startswith(prefix)}
    try:
        dsae.model.load_state_dict({name[len(prefix) :]: value for name, value in parts.items()})
    except RuntimeError:
        raise CheckpointError(
            f"{path}: its weights do not fit the generative model; one with parts of your own "
            "needs the same again"
        ) from None


def read(path: str | Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The config and the weights in a file that :func:`save` wrote. See :func:`load`."""
    path = Path(path)
    options, weights = read_weights(path / MODEL if path.is_dir() else path, "model")
    return ModelConfig.from_dict(options), weights


def read_weights(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The metadata and the weights that :func:`write_weights` wrote.

    Raises CheckpointError when the file is missing, truncated or of another kind.
    """
    with _opened(path) as file:
        metadata = file.metadata() or {}
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if KINDS[kind] not in metadata:
        raise CheckpointError(
            f"{path}: a safetensors file, but not one of a {kind} that pyro-dsae wrote"
        )
    return json.loads(metadata[KINDS[kind]]), weights


def kind_of(path: str | Path) -> str:
    """The key in ``KINDS`` of what a file holds the weights of; a model where none is named.

    Raises CheckpointError when the file is missing or truncated.
    """
    with _opened(path) as file:
        metadata = file.metadata() or {}
    return next((kind for kind, key in KINDS.items() if key in metadata), "model")


@contextmanager
def _opened(path: str | Path) -> Iterator[safe_open]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from None
