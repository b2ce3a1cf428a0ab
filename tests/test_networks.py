import pyro.distributions as dist
import pytest
import torch

from pyro_dsae import DSAE, ModelConfig
from pyro_dsae.networks import (
    BiLSTM,
    ConvDecoder,
    ConvEncoder,
    NormalVector,
    ToFrames,
    step_lengths,
    use_bfloat16,
)


def test_the_paper_preset_has_the_papers_shapes():
    """Das & Dandi (2018), section III."""
    with torch.device("meta"):
        dsae = DSAE(ModelConfig.preset("paper", guide="full"))
    encoder, decoder = dsae.guide.encoder, dsae.model.decoder
    down = [layer for layer in encoder.convolutions if isinstance(layer, torch.nn.Conv2d)]
    up = [layer for layer in decoder.convolutions if isinstance(layer, torch.nn.ConvTranspose2d)]
    assert [layer.weight.shape for layer in down] == [(256, 3, 4, 4)] + 3 * [(256, 256, 4, 4)]
    assert [layer.weight.shape for layer in up] == 3 * [(256, 256, 4, 4)] + [(256, 3, 4, 4)]
    assert encoder.code.weight.shape == (1024, 256 * 4 * 4)
    assert decoder.code[0].weight.shape == (1024, 64 + 32)
    assert dsae.guide.static_summary.lstm.hidden_size == 256
    assert dsae.guide.dynamic_summary.lstm.input_size == 1024 + 64
    assert dsae.guide.from_past.out_features == 256
    assert dsae.config.prior == "standard"


@pytest.mark.parametrize("frame_shape", [(1, 16, 256), (2, 256, 16), (3, 64, 64), (4, 32, 48)])
@pytest.mark.parametrize("batch", [(2,), (2, 3), (1, 2, 3)])
def test_networks_take_any_frame_and_any_leading_shape(frame_shape, batch):
    x = torch.rand(*batch, *frame_shape)
    code = ConvEncoder(frame_shape, (2, 2, 2, 2), 8)(x)
    assert code.shape == (*batch, 8)
    frames = ConvDecoder(8, frame_shape, (2, 2, 2, 2), 8)(code)
    assert frames.shape == x.shape
    assert (frames >= 0).all() and (frames <= 1).all()


def test_a_pixel_that_is_surely_wrong_has_a_gradient_in_bfloat16():
    decoder = ConvDecoder(8, (1, 16, 16), (2, 2, 2, 2), 8)
    use_bfloat16(decoder, True)
    last = decoder.convolutions[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, 7.0)
    probs = decoder(torch.zeros(1, 8))
    assert probs.dtype == torch.float32
    dist.Bernoulli(probs).log_prob(torch.zeros_like(probs)).sum().backward()
    assert last.bias.grad.item() == pytest.approx(-256, rel=0.01)


def test_signals_keep_their_size_without_batch_norm():
    """Every hidden layer has the mean square of its input, but for what the border takes."""
    torch.manual_seed(0)
    shape, channels = (3, 64, 64), (32, 64, 64, 64)
    down = ConvEncoder(shape, channels, 8, batch_norm=False).convolutions
    up = ConvDecoder(8, shape, channels, 8, batch_norm=False).convolutions[:-1]
    for network, x in ((down, torch.randn(16, *shape)), (up, torch.randn(64, 64, 4, 4))):
        for convolution, activation in zip(network[::2], network[1::2], strict=True):
            before, x = x, activation(convolution(x))
            assert 0.6 < x.square().mean() / before.square().mean() < 1.2


def test_a_padded_lstm_equals_the_unpadded_one():
    torch.manual_seed(0)
    lstm, codes, lengths = BiLSTM(3, 4), torch.randn(2, 5, 3), torch.tensor([5, 2])
    outputs, last = lstm(codes, lengths)
    short_outputs, short_last = lstm(codes[1:, :2])
    torch.testing.assert_close(outputs[1:, :2], short_outputs)
    torch.testing.assert_close(last[1:], short_last)


def test_step_lengths_count_gaps_but_no_padding():
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [0, 1, 0, 0]]).bool()
    assert step_lengths(mask).tolist() == [4, 3, 2]


def test_frames_are_computed_by_corners_as_by_the_transposed_convolution():
    torch.manual_seed(0)
    layer = ToFrames(5, 3, 4, stride=2, padding=1).double()
    x = torch.randn(2, 5, 3, 4).double().requires_grad_()
    usual = torch.nn.ConvTranspose2d.forward(layer, x)
    torch.testing.assert_close(layer(x), usual)
    ours, theirs = (
        torch.autograd.grad(frames.square().sum(), [x, *layer.parameters()])
        for frames in (layer(x), usual)
    )
    torch.testing.assert_close(ours, theirs)


def test_a_vector_is_expanded_only_to_another_shape():
    loc, scale = torch.randn(3, 2), torch.rand(3, 2) + 0.1
    vector, plain = NormalVector(loc, scale), dist.Normal(loc, scale).to_event(1)
    assert vector.expand([3]) is vector
    wider, z = vector.expand([4, 3]), torch.randn(4, 3, 2)
    assert wider.batch_shape == (4, 3) and wider.event_shape == (2,)
    assert wider.rsample().shape == z.shape
    assert torch.equal(wider.log_prob(z), plain.log_prob(z))
