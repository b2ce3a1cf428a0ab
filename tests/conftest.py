"""A small model of every guide and prior, in float64, and frames for it."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pyro_dsae import DSAE, ModelConfig
from pyro_dsae.guides import GUIDES
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
