"""A small model of every guide and prior, in float64, and frames for it."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_dsae import DSAE, ModelConfig, TrainingConfig
from pyro_dsae.datasets import ToySprites, hdf5, prepare
from pyro_dsae.guides import GUIDES
from pyro_dsae.objectives import OBJECTIVES, Objective
from pyro_dsae.priors import PRIORS

ROOT = Path(__file__).parents[1]
LPC = Path(os.environ.get("DSAE_LPC") or ROOT.parent / "shared" / "lpc")  # the sheets of Sprites

torch.set_num_threads(1)  # tiny tensors: threads would only wait for each other

TINY = {
    "frame_shape": (2, 16, 32),
    "static_dim": 5,
    "dynamic_dim": 3,
    "channels": (4, 4, 6, 6),
    "code_dim": 12,
    "hidden_dim": 7,
}


def few_toy_sprites(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Prepares twelve toy sprites, and they are all there are: retrieval takes seconds less."""
    labels = ToySprites.labels(np.concatenate(list(ToySprites.split(12).values())))
    monkeypatch.setattr(ToySprites, "combinations", lambda self: labels)
    return prepare("toy-sprites", path, characters=12)


def write_drawings(path, x, labels, factors, parts, lengths=None) -> Path:
    """A file of sequences, uint8 (N, T, H, W, C), that no source renders."""
    return hdf5.write(
        path,
        [x],
        labels=labels,
        factors=factors,
        ids=[f"drawing {i}" for i in range(len(x))],
        groups=np.arange(len(x)),
        splits={"official": parts},
        name="drawings",
        source="a test",
        licence="CC0-1.0",
        attribution="none",
        citation="none",
        recipe={},
        lengths=lengths,
    )


def tiny_model(**changes) -> DSAE:
    torch.manual_seed(0)
    return DSAE(ModelConfig(**{**TINY, **changes})).double()


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.rand(4, 6, 2, 16, 32, generator=torch.Generator().manual_seed(1)).double()


@pytest.fixture(params=[(g, p) for g in GUIDES for p in PRIORS], ids="-".join)
def dsae(request) -> DSAE:
    guide, prior = request.param
    return tiny_model(guide=guide, prior=prior)


@pytest.fixture
def little_space() -> Iterator[None]:
    """No file can grow beyond 50 kB, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def objective_of(name: str, dsae: DSAE, sequences: int = 100, **options) -> Objective:
    """The objective of a model as a trainer makes it, with its own options, in float64."""
    torch.manual_seed(0)
    config = TrainingConfig(objective=name, objective_options=options)
    return OBJECTIVES[name](dsae, config, sequences).double().train()
