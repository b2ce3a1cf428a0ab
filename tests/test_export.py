"""The exported decoder gives the frames that the model gives, for any batch and length."""

import warnings

import pytest
import torch

from conftest import tiny_model
from pyro_dsae.analyses.export import decoder_onnx, export_decoder


@pytest.fixture
def model():
    return tiny_model().float().eval()


def codes(model, sequences, steps):
    torch.manual_seed(3)
    f = torch.randn(sequences, model.config.static_dim)
    return f, torch.randn(sequences, steps, model.config.dynamic_dim)


def test_the_exported_program_decodes(model):
    program = export_decoder(model).module()
    for sequences, steps in ((2, 3), (5, 7)):
        f, z = codes(model, sequences, steps)
        torch.testing.assert_close(program(f, z), model.decode(f, z))


def test_the_onnx_file_decodes(model):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the writer, about itself
        content = decoder_onnx(model)
    session = onnxruntime.InferenceSession(content)
    for sequences, steps in ((2, 3), (5, 7)):
        f, z = codes(model, sequences, steps)
        (frames,) = session.run(["frames"], {"f": f.numpy(), "z": z.numpy()})
        torch.testing.assert_close(torch.from_numpy(frames), model.decode(f, z))
