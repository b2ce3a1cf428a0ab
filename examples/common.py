"""What the examples share: shapes that move, drawn by the package, and a model small enough."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyro
import torch
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import Tensor

from pyro_dsae import DSAE, ModelConfig
from pyro_dsae.datasets import SequenceFile, prepare


def moving_shapes(characters: int = 40, steps: int = 4) -> tuple[Tensor, Tensor]:
    """Frames in [0, 1], shape (N, steps, 3, 32, 32), and the background of each, 0 to 2 (N,)."""
    with TemporaryDirectory() as folder:
        path = prepare(
            "moving-shapes",
            Path(folder) / "shapes.h5",
            characters=characters,
            motions=4,
            size=32,
            steps=steps,
        )
        with SequenceFile.open(path) as file:
            sequences = file.sequences("train")
            grounds = file.labels(["background"])[file.split("train"), 0]
    order = np.random.default_rng(0).permutation(len(sequences))
    x, _ = sequences.batch(order, torch.device("cpu"))
    return x, torch.from_numpy(grounds[order]).long()


def small_model(**changes: Any) -> DSAE:
    """An untrained model of 32x32 frames."""
    small = {
        "frame_shape": (3, 32, 32),
        "channels": (8, 16, 16, 32),
        "code_dim": 32,
        "hidden_dim": 32,
        "static_dim": 8,
        "dynamic_dim": 4,
        "scale": 0.2,
    }
    return DSAE(ModelConfig.from_dict({**small, **changes}))


def trained_model(x: Tensor, steps: int, **changes: Any) -> DSAE:
    """A small model after so many steps on batches of 16 of x, in eval mode."""
    dsae = small_model(**changes)
    with pyro.get_param_store().scope():
        svi = SVI(dsae.model, dsae.guide, pyro.optim.Adam({"lr": 3e-3}), TraceMeanField_ELBO())
        for step in range(steps):
            svi.step(x[torch.arange(16 * step, 16 * (step + 1)) % len(x)])
    return dsae.eval()
