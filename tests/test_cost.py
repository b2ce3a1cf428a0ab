import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pyro_dsae import DSAE, ModelConfig
from pyro_dsae.cost import PASSES, frame_cost

WIDTHS = {"channels": (8, 8, 16, 16), "code_dim": 24, "static_dim": 4, "dynamic_dim": 3}


@pytest.mark.parametrize("options", [{}, {"shared_encoder": False}, {"batch_norm": False}], ids=str)
@pytest.mark.parametrize("frame_shape", [(3, 64, 64), (1, 32, 128)])
def test_the_cost_of_a_frame_is_what_torch_counts(frame_shape, options):
    """Operations within a fiftieth, and what autograd keeps but for the weights within a tenth.

    On a CPU the decoder's last layer takes a few more, to be faster.
    """
    frames = 8
    dsae = DSAE(ModelConfig(frame_shape=frame_shape, **options, **WIDTHS))
    weights = {parameter.data_ptr() for parameter in dsae.parameters()}
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor  # held, so that no other has its address
        return tensor

    x, latents = torch.rand(frames, *frame_shape), torch.rand(frames, 7)
    counter = FlopCounterMode(display=False)
    with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        if not dsae.config.shared_encoder:
            dsae.guide.static_encoder(x.clone())
        dsae.guide.encoder(x), dsae.model.decoder(latents)
    cost = frame_cost(dsae.config)
    operations = PASSES * counter.get_total_flops()
    assert operations == pytest.approx(1e9 * frames * cost.gflop, rel=0.02)
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert size == pytest.approx(1e6 * frames * cost.megabytes, rel=0.1)


def test_the_papers_network_costs_what_was_measured():
    """35 GFLOP for a sequence of 8 frames."""
    assert 8 * frame_cost(ModelConfig.preset("paper")).gflop == pytest.approx(35, abs=0.5)
