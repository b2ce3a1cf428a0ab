"""Disentangled sequential autoencoders in Pyro.

A sequence is split into a static code f (who) and one dynamic code z_t a step (what happens).
"""

from pyro_dsae.checkpoint import CheckpointError, load, save
from pyro_dsae.config import ConfigError, ModelConfig
from pyro_dsae.model import DSAE

__all__ = ["DSAE", "CheckpointError", "ConfigError", "ModelConfig", "load", "save"]
