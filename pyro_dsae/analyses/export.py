"""The decoder as a graph that needs none of this package: ``torch.export``, and ONNX from it."""

from __future__ import annotations

import io

import torch
from torch import Tensor, nn

from pyro_dsae.config import ConfigError
from pyro_dsae.model import DSAE


class _Decode(nn.Module):
    def __init__(self, dsae: DSAE) -> None:
        super().__init__()
        self.model = dsae.model

    def forward(self, f: Tensor, z: Tensor) -> Tensor:
        return self.model.decode(f, z)


def export_decoder(dsae: DSAE) -> torch.export.ExportedProgram:
    """``dsae.decode`` as a graph, for any number of sequences and steps.

    It maps f (N, static_dim) and z (N, T, dynamic_dim) to means of frames (N, T, C, H, W), as the
    networks are: call ``dsae.eval()`` first.
    """
    f = dsae.model.origin.new_zeros(2, dsae.config.static_dim)
    z = dsae.model.origin.new_zeros(2, 3, dsae.config.dynamic_dim)
    n, steps = torch.export.Dim("sequences"), torch.export.Dim("steps")
    shapes = {"f": {0: n}, "z": {0: n, 1: steps}}
    with torch.no_grad():
        return torch.export.export(_Decode(dsae), (f, z), dynamic_shapes=shapes)


def decoder_onnx(dsae: DSAE) -> bytes:
    """The graph of :func:`export_decoder` as an ONNX file with inputs f and z and output frames.

    Raises ConfigError where the packages that write ONNX are not installed.
    """
    content = io.BytesIO()
    try:
        program = torch.onnx.export(
            export_decoder(dsae),
            input_names=["f", "z"],
            output_names=["frames"],
            dynamo=True,
            verbose=False,
        )
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"writing ONNX needs the package {error.name}; pip install {error.name}"
        ) from error
    program.save(content)
    return content.getvalue()
