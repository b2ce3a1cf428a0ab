"""Disentangled sequential autoencoders in Pyro.

A sequence is split into a static code f (who) and one dynamic code z_t a step (what happens).
"""

from pyro_dsae.checkpoint import CheckpointError, load, save
from pyro_dsae.config import ConfigError, ModelConfig
from pyro_dsae.model import DSAE
from pyro_dsae.sequences import Sequences
from pyro_dsae.training import TrainingConfig, TrainingError, fit

__all__ = [
    "DSAE",
    "CheckpointError",
    "ConfigError",
    "ModelConfig",
    "Sequences",
    "TrainingConfig",
    "TrainingError",
    "fit",
    "load",
    "save",
]
