"""What training on one frame costs in the convolutional networks, where nearly all the work is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from pyro_dsae.config import ModelConfig
from pyro_dsae.model import decoder_of, encoder_of

PASSES = 3  # forward, and backward to the weights and to the inputs
BYTES = 4  # of a float32; bfloat16 has half of them


@dataclass(frozen=True)
class FrameCost:
    """Of one frame in a step of training.

    Args:
        gflop: 1e9 multiplications and additions.
        megabytes: what is kept for the backward pass, in float32.
    """

    gflop: float
    megabytes: float


def frame_cost(config: ModelConfig) -> FrameCost:
    """The cost of a frame by the shapes of the layers; nothing is computed.

    A batch of B sequences of T frames costs B T times as much.
    """
    with torch.device("meta"):
        encoder, decoder = encoder_of(config), decoder_of(config)
    # f sees the frame itself; z sees it by another encoder, or another view of it.
    apart = config.dynamic_view != "none" or not config.shared_encoder
    operations, kept = 0, 0
    for network in [encoder, encoder, decoder] if apart else [encoder, decoder]:
        shape = decoder.grid if network is decoder else config.frame_shape
        kept += 0 if network is decoder else math.prod(shape)
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                operations += 2 * layer.weight.numel()
                kept += layer.out_features
            elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                down = isinstance(layer, nn.Conv2d)
                _, height, width = shape
                height, width = (height // 2, width // 2) if down else (2 * height, 2 * width)
                positions = math.prod((height, width) if down else shape[1:])
                operations += 2 * layer.weight.numel() * positions
                shape = (layer.out_channels, height, width)
                kept += math.prod(shape)
            elif isinstance(layer, nn.BatchNorm2d):
                kept += math.prod(shape)  # its output, beside its input
    return FrameCost(PASSES * operations / 1e9, BYTES * kept / 1e6)
