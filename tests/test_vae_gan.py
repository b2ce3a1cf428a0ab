import math

import pytest
import torch

from conftest import objective_of, tiny_model
from pyro_dsae import ConfigError
from pyro_dsae.objectives.vae_gan import VAEGAN


def softplus(value):
    return math.log1p(math.exp(value))


@pytest.mark.parametrize("lengths", [(6, 6, 6, 6), (6, 2, 4, 1)])
def test_a_discriminator_of_known_opinion_has_known_losses(lengths, frames):
    """It takes every frame for real with logit a and every sequence with logit b, fakes too.

    Real ones cost it softplus(-a), each of as many copies and samples softplus(a), which are what
    the decoder gains.
    """
    mask = torch.arange(6) < torch.tensor(lengths).unsqueeze(1) if min(lengths) < 6 else None
    objective = objective_of("vae-gan", tiny_model(), begin=0.0)
    video, opinions = objective.networks["video"], {"of_frame": 0.4, "of_sequence": 1.1}
    for name, logit in opinions.items():
        torch.nn.init.zeros_(video.get_submodule(name).weight)
        torch.nn.init.constant_(video.get_submodule(name).bias, logit)
    objective(frames, mask, 1.0, 1.0)
    counts = {"of_frame": sum(lengths), "of_sequence": 4}
    missed = sum(count * softplus(-opinions[name]) for name, count in counts.items())
    believed = sum(count * softplus(opinions[name]) for name, count in counts.items())
    assert objective.parts["fooling"].item() == pytest.approx(2 * missed)
    assert objective.parts["discriminator_loss"].item() == pytest.approx(missed + 2 * believed)
    assert objective.parts["frame_accuracy"] == objective.parts["sequence_accuracy"] == 4 * 0.5


def test_samples_have_no_frame_that_the_sequences_lack(frames):
    """It would be in the statistics of the decoder's batch norm, for nothing."""
    mask = torch.arange(6) < torch.tensor([6, 2, 4, 1]).unsqueeze(1)
    objective, shown = objective_of("vae-gan", tiny_model(), begin=0.0), []
    objective.networks["video"].register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    objective(frames, mask, 1.0, 1.0)
    fakes = shown[0][8:]
    assert len(fakes) == 8 and not fakes[~mask.repeat(2, 1)].any()
    assert fakes[mask.repeat(2, 1)].flatten(1).any(dim=1).all()


def test_a_perfect_copy_has_no_feature_error(frames, monkeypatch):
    dsae = tiny_model()
    objective = objective_of("vae-gan", dsae, begin=0.0)
    objective(frames, None, 1.0, 1.0)
    assert objective.parts["feature_error"] > 1
    copies = frames, torch.cat([frames, frames])  # of the model, and then for the discriminators
    calls = iter(copies)
    monkeypatch.setattr(dsae.model, "decode", lambda f, z, *_: next(calls))
    objective(frames, None, 1.0, 1.0)
    assert objective.parts["feature_error"].item() == pytest.approx(0, abs=1e-12)


def test_samples_leave_the_running_statistics_of_the_decoder(frames):
    """They are of the reconstructions alone, as those of the plain bound are."""
    found = []
    for name, options in {"vae-gan": {"begin": 0.0}, "elbo": {}}.items():
        dsae = tiny_model()
        objective = objective_of(name, dsae, **options)
        torch.manual_seed(1)
        objective(frames, None, 1.0, 1.0)
        buffers = dict(dsae.model.decoder.named_buffers())
        found.append({key: value for key, value in buffers.items() if "running" in key})
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())


def test_before_the_discriminators_come_in_the_loss_is_the_bound(frames):
    objective = objective_of("vae-gan", tiny_model(), begin=0.25, pixels=0.5)
    parts = {}
    for objective.progress in (0.24, 0.25):
        objective.zero_grad()
        torch.manual_seed(1)
        loss = objective(frames, None, 0.7, 1.3)
        loss.backward()
        felt = {of.grad is not None for of in objective.networks.parameters()}
        parts[objective.progress] = objective.parts | {"loss": loss.item(), "felt": felt}
    before, after = parts.values()
    bound = 0.7 * before["kl_f"] + 1.3 * before["kl_z"] - before["reconstruction"]
    assert before["loss"] == pytest.approx(bound.item())
    assert before["felt"] == {False} and after["felt"] == {True}
    assert "fooling" in after and "fooling" not in before


def test_a_bad_option_is_named():
    with pytest.raises(ConfigError, match="gan is -1.0.*negative"):
        VAEGAN.Options(gan=-1.0)
    with pytest.raises(ConfigError, match="begin is 1.0, but must be at least 0 and below 1"):
        VAEGAN.Options(begin=1.0)


def test_a_series_is_refused():
    with pytest.raises(ConfigError, match="objective is 'vae-gan', but .* series"):
        objective_of("vae-gan", tiny_model(frame_shape=(3,)))
