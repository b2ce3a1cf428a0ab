"""Static dropout and views: what they do in training, and that they are not there afterwards."""

import pytest
import torch
from pyro import poutine

from conftest import tiny_model
from pyro_dsae.guides import GUIDES
from pyro_dsae.networks import per_value
from pyro_dsae.objectives.elbo import AnalyticELBO
from pyro_dsae.views import VIEWS, Seen, blurred, colour, partner, shuffled, worn


def test_a_colour_view_changes_colours_alone():
    """What is equal stays equal in all steps, and colours say little about what they were."""
    torch.manual_seed(0)
    palette = torch.rand(5, 3)
    classes = torch.randint(5, (40, 2, 8, 8))
    x = palette[classes].movedim(-1, 2)  # (40, 2, 3, 8, 8)
    seen = colour(x)
    assert seen.shape == x.shape and 0 <= seen.min() and seen.max() <= 1
    first = []
    for sequence, drawn in zip(classes, seen.movedim(2, -1), strict=True):
        for number in range(5):
            colours = drawn[sequence == number]
            assert torch.allclose(colours, colours[:1], atol=1e-6)
        first.append(drawn[sequence == 1][0])
    assert torch.stack(first).std(dim=0).min() > 0.1


@pytest.mark.parametrize(
    ("view", "shape", "mask"),
    [
        (colour, (4, 3, 3, 8, 8), torch.tensor([[0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 1, 1]]) == 1),
        (blurred, (4, 3, 3, 8, 8), torch.tensor([[0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 1, 1]]) == 1),
        (worn, (4, 3, 6), torch.rand(4, 3, 6, generator=torch.Generator().manual_seed(0)) < 0.6),
    ],
)
def test_a_view_shows_nothing_of_what_is_not_observed(view, shape, mask):
    x, other = torch.rand(2, *shape)
    observed = per_value(mask, x)
    seen = []
    for hidden in (torch.zeros(shape), other):
        torch.manual_seed(1)
        seen.append(view(torch.where(observed, x, hidden), mask) * observed)
    assert torch.equal(*seen)


@pytest.mark.parametrize("ground", [0.0, 0.7])
def test_a_colour_view_hides_the_ground(ground):
    """A plain ground of any colour turns black half the time; what stands before it is seen."""
    torch.manual_seed(0)
    x = torch.full((400, 2, 3, 8, 8), ground)
    x[:, :, :, 2:4, 2:4] = torch.rand(400, 1, 3, 1, 1)
    seen = colour(x)
    black = (seen == 0).all(dim=2)  # (400, 2, 8, 8)
    assert not black[:, :, 2:4, 2:4].any()
    of_ground = black[:, :, 4:].flatten(1)
    assert of_ground.any(dim=1).equal(of_ground.all(dim=1))
    assert of_ground.all(dim=1).double().mean().item() == pytest.approx(0.5, abs=0.1)  # 4 errors


def test_a_blurred_view_hides_the_outline_and_leaves_the_place(monkeypatch):
    """A dot and a larger square come out where they were, with variances that grow by one amount
    for each sequence and may be those of the other; no frame spills over into another."""
    monkeypatch.setattr("pyro_dsae.views.colour", lambda x, mask: x)
    monkeypatch.setattr("pyro_dsae.views.BLUR", 0.1)  # far from the edges
    torch.manual_seed(0)
    x = torch.zeros(200, 2, 1, 48, 96).double()
    x[:, 0, :, 20, 40] = 1
    x[:, 1, :, 22:27, 50:55] = 1
    seen = blurred(x)
    assert torch.allclose(seen.sum((2, 3, 4)), x.sum((2, 3, 4)), rtol=0.01)
    spread = []
    for axis, places in ((-2, (20, 24)), (-1, (40, 52))):
        where = torch.arange(x.shape[axis]).double()
        weights = seen.sum((2, -3 - axis))  # (200, 2, places)
        weights = weights / weights.sum(dim=-1, keepdim=True)
        centre = weights @ where
        assert torch.allclose(centre, torch.tensor(places).double().expand(200, 2), atol=0.1)
        variance = (weights * (where - centre.unsqueeze(-1)).square()).sum(dim=-1)
        spread.append(variance[:, 0].sqrt() / x.shape[axis])
        grown = variance - torch.tensor([0, 2]).double()  # (5^2 - 1) / 12 is the square's
        assert torch.allclose(grown[:, 0], grown[:, 1], rtol=0.05, atol=0.05)
    assert torch.allclose(*spread, rtol=0.05, atol=0.005)
    assert 0.09 < spread[0].max() < 0.101 and spread[0].min() < 0.01


def test_a_blurred_view_leaves_a_plain_frame_plain():
    torch.manual_seed(0)
    seen = blurred(torch.rand(8, 2, 3, 1, 1).expand(8, 2, 3, 16, 32))
    assert torch.allclose(seen, seen[..., :1, :1].expand_as(seen), atol=1e-6)


def test_a_worn_view_moves_the_sensors_as_a_body():
    """Inner products within a sensor stay, up to one factor. Reflected ones are known by the volume
    of three accelerations and by accelerations times velocities, which change their sign."""
    torch.manual_seed(0)
    x = torch.randn(400, 4, 6).double()
    seen = worn(x)

    def inner(values):
        sensors = values.unflatten(-1, (2, 3)).movedim(2, 1)  # (N, 2, T, 3)
        return sensors @ sensors.mT

    factor = (seen.square().sum((1, 2)) / x.square().sum((1, 2))).sqrt()
    assert torch.allclose(inner(seen), factor.square()[:, None, None, None] * inner(x))
    assert 0.15 < factor.log().std() < 0.25
    before, after = (
        torch.stack([torch.linalg.det(v[:, :3, :3]), (v[..., :3] * v[..., 3:]).sum((1, 2))], -1)
        for v in (x, seen)
    )
    powers = torch.stack([factor**3, factor**2], -1)
    signs = after / (before * powers)
    assert torch.allclose(signs.abs(), torch.ones_like(signs))
    assert torch.equal(signs[:, 0].sign(), signs[:, 1].sign())
    cosine = torch.cosine_similarity(x.flatten(1), seen.flatten(1))[signs[:, 0] > 0]
    assert 0.85 < cosine.mean() < 0.95  # 1 - (2 / 3) TURNED^2, nearly
    assert signs[:, 0].lt(0).double().mean().item() == pytest.approx(0.5, abs=0.1)  # 4 errors


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("shape", [(2, 16, 32), (6,)])
def test_z_sees_the_view_and_f_the_sequence(shape, guide, shared, monkeypatch):
    """With a view that blackens everything, in training only."""
    monkeypatch.setitem(VIEWS, "dark", lambda x, mask: torch.zeros_like(x))
    dsae = tiny_model(guide=guide, dynamic_view="dark", shared_encoder=shared, frame_shape=shape)
    values = torch.rand(4, 3, *shape, generator=torch.Generator().manual_seed(0)).double()
    moments = []
    for training in (True, False):
        dsae.train(training)
        for x in (values, values.flip(0)):
            data = {"f": torch.zeros(4, 5).double()}
            nodes = poutine.trace(poutine.condition(dsae.guide, data=data)).get_trace(x).nodes
            moments.append((nodes["f"]["fn"].mean, nodes["z_0"]["fn"].mean))
    (f, z), (f_flipped, z_flipped), *without = moments
    assert torch.allclose(z[:1].expand_as(z), z) and torch.allclose(z, z_flipped)
    assert torch.allclose(f.flip(0), f_flipped) and not torch.allclose(f, f_flipped)
    (f, z), (f_flipped, z_flipped) = without
    assert torch.allclose(z.flip(0), z_flipped) and not torch.allclose(z, z_flipped)


def test_real_steps_change_places_and_padding_stays():
    torch.manual_seed(0)
    lengths = torch.tensor([6, 1, 4])
    steps = torch.arange(6.0).expand(3, 6).unsqueeze(-1)
    orders = torch.stack([shuffled(Seen(steps, None, lengths)).codes[..., 0] for _ in range(50)])
    for row, length in enumerate(lengths):
        first = orders[:, row, :length]
        assert torch.equal(first.sort(dim=1).values, torch.arange(float(length)).expand(50, -1))
        assert (orders[:, row, length:] >= length).all()
        assert len(first.unique(dim=0)) == 1 if length == 1 else len(first.unique(dim=0)) > 10


ROWS = torch.arange(4).unsqueeze(-1)
IN_PAIRS = torch.tensor([[1], [0], [3], [2]])
IN_ORDER = torch.arange(6).expand(4, 6)
MOVED = torch.tensor([[1, 0, 2, 3, 4, 5], [2, 1, 0, 3, 4, 5]]).repeat(2, 1)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize(
    ("view", "rows", "steps"),
    [("shuffled", ROWS, MOVED), ("partner", IN_PAIRS, IN_ORDER)],
    ids=["shuffled", "partner"],
)
def test_f_is_that_of_what_its_view_shows(view, rows, steps, guide, shared, frames, monkeypatch):
    """In training only, with what is not observed in its place, and z as it is."""
    monkeypatch.setattr(torch.Tensor, "argsort", lambda keys, dim: MOVED)
    plain, other = (
        tiny_model(guide=guide, shared_encoder=shared, static_view=view, batch_norm=False)
        for view in ("none", view)
    )
    mask = torch.ones(4, 6, dtype=torch.bool)
    mask[:, 5], mask[0, 1], mask[2, 3:] = False, False, view == "shuffled"

    def posteriors(dsae, x, mask):
        data = {"f": torch.zeros(4, 5).double()}
        nodes = poutine.trace(poutine.condition(dsae.guide, data=data)).get_trace(x, mask).nodes
        return nodes["f"]["fn"].mean, nodes["z_0"]["fn"].mean

    f, z = posteriors(other, frames, mask)
    as_they_are, z_as_it_is = posteriors(plain, frames, mask)
    seen, _ = posteriors(plain, frames[rows, steps], mask[rows, steps])
    assert torch.allclose(f, seen) and torch.allclose(z, z_as_it_is)
    assert not torch.allclose(f, as_they_are)
    other.eval()
    assert torch.equal(posteriors(other, frames, mask)[0], as_they_are)


def test_one_without_a_partner_is_refused():
    with pytest.raises(
        ValueError, match="the batch has 3 sequences, but pairs need an even number"
    ):
        partner(Seen(torch.zeros(3, 2, 1), None, None))


def test_static_dropout_averages_two_bounds(frames):
    """A dropped sequence has q(f | x) = p(f): no KL_f, and its frames explained by z alone."""
    dsae = tiny_model(static_dropout=0.4)
    for module in dsae.modules():  # the same networks for every draw
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    x = frames.repeat(50, 1, 1, 1, 1)
    torch.manual_seed(0)
    node = poutine.trace(dsae.guide).get_trace(x).nodes["f"]
    prior = (node["fn"].mean == 0).all(dim=-1) & (node["fn"].stddev == 1).all(dim=-1)
    assert prior.double().mean().item() == pytest.approx(0.4, abs=0.15)  # 4 standard errors
    kept = node["fn"].mean[~prior]
    dsae.eval()
    exact = poutine.trace(dsae.guide).get_trace(x).nodes["f"]["fn"].mean
    assert torch.allclose(kept, exact[~prior]) and not (exact == 0).any()


def test_evaluation_has_neither(frames):
    plain = tiny_model().eval()
    other = tiny_model(static_dropout=0.5, dynamic_view="colour").eval()
    losses = []
    for dsae in (plain, other):
        torch.manual_seed(0)
        losses.append(AnalyticELBO().loss(dsae.model, dsae.guide, frames))
    assert losses[0] == losses[1]


def test_f_and_z_may_have_an_encoder_each(frames):
    """What one of the two learns does not change what the other sees, unless they share it."""
    for shared in (True, False):
        dsae = tiny_model(guide="factorized", shared_encoder=shared).eval()
        f, z = dsae.encode(frames)
        with torch.no_grad():
            dsae.guide.encoder.code.weight.neg_()
        f_after, z_after = dsae.encode(frames)
        assert torch.equal(f, f_after) == (not shared)
        assert not torch.equal(z, z_after)
