import math

import pytest
import torch

from conftest import objective_of, tiny_model
from pyro_dsae import ConfigError
from pyro_dsae.objectives.mi import MutualInformation, info_nce


def test_contrast_of_codes_with_known_cosines():
    """Of orthogonal codes log(1 + (B - 1) exp(-1 / temperature)), of equal ones log B."""
    codes, sharp = torch.eye(5), 0.25
    found = info_nce(codes, 3 * codes, sharp).item() / 5
    assert found == pytest.approx(math.log(1 + 4 * math.exp(-1 / sharp)))
    assert info_nce(torch.ones(5, 2), torch.ones(5, 2), sharp).item() == pytest.approx(
        5 * math.log(5)
    )
    assert info_nce(codes, codes.roll(1, dims=0), sharp).item() / 5 > math.log(5)


@pytest.mark.parametrize("shared", [True, False])
def test_codes_that_views_do_not_change_have_the_least_contrast(shared, frames, monkeypatch):
    """f of the mean of the codes alone is blind to their order, z to a view that changes nothing.

    Then C is that of the codes with themselves, so lower than against another code.
    """
    dsae = tiny_model(dynamic_view="colour", shared_encoder=shared)
    objective = objective_of("mi", dsae, temperature=0.1)
    dsae.guide.view = lambda x, mask: x
    monkeypatch.setattr(
        dsae.guide.static_summary, "forward", lambda codes, lengths: (codes, codes.new_zeros(4, 14))
    )
    reading = dsae.guide.read(frames, None)
    f, z = dsae.guide.walk(reading, lambda _, q: q.mean)
    found = [each.item() for each in objective._contrast(frames, None, reading)]
    expected = [info_nce(code, code, 0.1).item() for code in (f, z.flatten(1))]
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_discriminator_that_knows_the_pairs_has_known_losses(frames):
    """Logits of 3 for f beside its own z and of -2 beside another's: log ratios, so I is 3 nats."""

    class Knowing(torch.nn.Module):
        own = None  # what each f was first seen with

        def forward(self, f, z, lengths):
            self.own = z.detach() if self.own is None else self.own
            return torch.where((z == self.own).flatten(1).all(dim=1), 3.0, -2.0)

    objective = objective_of("mi", tiny_model(dynamic_view="colour"))
    objective.networks["pairs"] = Knowing()
    objective(frames, None, 1.0, 1.0)
    missed = math.log1p(math.exp(-3)) + math.log1p(math.exp(-2))
    assert objective.parts["mi"].item() == pytest.approx(4 * 3.0)
    assert objective.parts["discriminator_loss"].item() == pytest.approx(4 * missed)
    assert objective.parts["pairs_accuracy"] == 4


@pytest.mark.parametrize(("logit", "paid"), [(3.0, 3.0), (-3.0, 0.0)])
def test_information_below_0_is_no_gain(logit, paid, frames):
    class Constant(torch.nn.Module):
        def forward(self, f, z, lengths):
            return logit * f.new_ones(len(f))

    losses = []
    for weight in (0.0, 10.0):
        objective = objective_of("mi", tiny_model(dynamic_view="colour"), mi=weight)
        objective.networks["pairs"] = Constant()
        torch.manual_seed(1)
        losses.append(objective(frames, None, 1.0, 1.0).item())
        assert objective.parts["mi"].item() == pytest.approx(4 * logit)
    assert losses[1] - losses[0] == pytest.approx(4 * 10 * paid)


def test_a_sequence_alone_teaches_the_discriminator_nothing(frames):
    objective = objective_of("mi", tiny_model(dynamic_view="colour"))
    objective(frames[:1], None, 1.0, 1.0).backward()
    assert objective.parts["discriminator_loss"] == 0
    assert not any(parameter.grad.any() for parameter in objective.networks.parameters())
    objective(frames[:2], None, 1.0, 1.0).backward()
    assert objective.parts["discriminator_loss"] > 0


@pytest.mark.parametrize("shared", [True, False])
def test_a_series_with_a_view_has_contrasts_too(shared):
    dsae = tiny_model(frame_shape=(6,), dynamic_view="worn", shared_encoder=shared)
    objective = objective_of("mi", dsae)
    mask = torch.rand(4, 5, 6) < 0.8
    mask[:, :, 0] = True
    objective(torch.rand(4, 5, 6).double(), mask, 1.0, 1.0).backward()
    assert objective.parts["contrast_z"] > 0 and objective.parts["contrast_f"] > 0
    assert all(parameter.grad.isfinite().all() for parameter in dsae.guide.parameters())


@pytest.mark.parametrize("shared", [True, False])
def test_a_step_that_is_not_observed_has_no_code_in_either_view(shared):
    """So that z of a view that changes nothing has the contrast of z with itself."""
    dsae = tiny_model(frame_shape=(6,), dynamic_view="worn", shared_encoder=shared)
    objective = objective_of("mi", dsae, temperature=0.1)
    dsae.guide.view = lambda x, mask: x
    x, mask = torch.rand(4, 5, 6).double(), torch.ones(4, 5, 6).bool()
    mask[:, 2] = False
    reading = dsae.guide.read(x, mask)
    z = dsae.guide.walk(reading, lambda _, q: q.mean)[1].flatten(1)
    _, found = objective._contrast(x, mask, reading)
    assert found.item() == pytest.approx(info_nce(z, z, 0.1).item(), rel=1e-6)


def test_without_a_view_there_is_nothing_to_contrast():
    for shape in ((3, 16, 16), (4,)):
        with pytest.raises(ConfigError, match="dynamic_view is 'none'.*use one, such as 'colour'"):
            objective_of("mi", tiny_model(frame_shape=shape))
    with pytest.raises(ConfigError, match="static_view is 'shuffled'.*use 'none'"):
        objective_of("mi", tiny_model(dynamic_view="colour", static_view="shuffled"))
    with pytest.raises(ConfigError, match="temperature is 0.0.*positive"):
        MutualInformation.Options(temperature=0.0)
    with pytest.raises(ConfigError, match="mi is -1.0.*negative"):
        MutualInformation.Options(mi=-1.0)
