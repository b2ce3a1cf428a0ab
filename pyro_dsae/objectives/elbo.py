"""The evidence lower bound, with its parts (Das & Dandi 2018, section II).

    ELBO = E_q log p(x | f, z) - KL(q(f) || p(f)) - sum_t E KL(q(z_t | ...) || p(z_t | z_<t))

These are Pyro's own estimators; all that is added is that the traces they draw anyway also give the
parts, without a second pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.util import check_fully_reparametrized, is_validation_enabled
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_dsae.model import DSAE
from pyro_dsae.objectives.objective import Objective

if TYPE_CHECKING:
    from pyro_dsae.training import TrainingConfig


class SampledELBO(Trace_ELBO):
    """Both log q and log p at the samples: Pyro's ``Trace_ELBO``, valid for any guide.

    ``parts`` holds :func:`parts_of` the latest estimate, here and in :class:`AnalyticELBO`.
    """

    parts: dict[str, Tensor]

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Trace, Trace]:
        model_trace, guide_trace = super()._get_trace(model, guide, args, kwargs)
        with torch.no_grad():
            self.parts = detached(parts_of(model_trace, kl_terms(model_trace, guide_trace)))
        return model_trace, guide_trace


class AnalyticELBO(TraceMeanField_ELBO):
    """KL terms in closed form: Pyro's ``TraceMeanField_ELBO``, with less noise in the gradient.

    Args:
        free_bits: nats that f and each z_t may cost for nothing, lest they are given up early in
            training: a KL, averaged over the batch, counts as max(free_bits, KL). A dropped f, of
            KL 0, counts in that average. Kingma et al.
            (2016), Improved Variational Inference with Inverse Autoregressive Flow. With 0 the
            loss is the negative ELBO.
    """

    parts: dict[str, Tensor]

    def __init__(self, free_bits: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.free_bits = free_bits

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Pyro's, without its test for NaN, at which the host would wait for the device."""
        if is_validation_enabled():
            return super().differentiable_loss(model, guide, *args, **kwargs)
        drawn = self._get_traces(model, guide, args, kwargs)
        return sum(self.particle(*each) for each in drawn) / self.num_particles

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Trace, Trace]:
        if is_validation_enabled():
            return super()._get_trace(model, guide, args, kwargs)
        return traces(model, guide, *args, **kwargs)

    def _differentiable_loss_particle(
        self, model_trace: Trace, guide_trace: Trace
    ) -> tuple[float, Tensor]:
        loss = self.particle(model_trace, guide_trace)
        return loss.item(), loss

    def particle(self, model_trace: Trace, guide_trace: Trace) -> Tensor:
        """The loss from one draw; reads no value on the host."""
        loss, kl, costs = 0.0, kl_terms(model_trace, guide_trace), []
        for site in model_trace.nodes.values():
            if site["type"] == "sample" and site["is_observed"]:
                loss = loss - site["log_prob_sum"]
        for name, cost in kl.items():
            site = guide_trace.nodes[name]
            if is_validation_enabled():
                check_fully_reparametrized(site)
            if self.free_bits:
                free = cost.new_full(site["fn"].batch_shape, self.free_bits)
                cost = torch.maximum(scale_and_mask(free, mask=site["mask"]).sum(), cost)
            costs.append(site["scale"] * cost)
        loss = loss + torch.stack(costs).sum()
        for name, site in guide_trace.nodes.items():  # what the guide alone draws, not our noise
            if site["type"] == "sample" and name not in model_trace and site["mask"] is not False:
                log_q = site["fn"].log_prob(site["value"])
                loss = loss + scale_and_mask(log_q, site["scale"], site["mask"]).sum()
        self.parts = detached(parts_of(model_trace, kl))
        return loss


def traces(model: Any, guide: Any, *args: Any, **kwargs: Any) -> tuple[Trace, Trace]:
    """Of the model, replayed with what the guide drew, and of the guide.

    Without Pyro's checks, and without log q and log p of any latent: closed forms need neither.
    """
    guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
    model_trace = poutine.trace(poutine.replay(model, guide_trace)).get_trace(*args, **kwargs)
    model_trace.compute_log_prob(lambda name, site: site["is_observed"])
    return model_trace, guide_trace


def parts_of(model_trace: Trace, kl: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``reconstruction``, ``kl_f`` and ``kl_z``, in nats, summed over the batch.

    They are unweighted, whatever the KL weights of the loss; the KL terms are analytic given the
    sampled z_<t under either estimator.
    """
    return {
        "reconstruction": model_trace.nodes["x"]["log_prob_sum"],
        "kl_f": kl["f"],
        "kl_z": torch.stack([kl[name] for name in kl if name.startswith("z_")]).sum(),
    }


def detached(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same values without their gradients."""
    return {name: value.detach() for name, value in parts.items()}


def _latents(model_trace: Trace) -> list[str]:
    """f, z_1:T, and what else a larger program around the model leaves open."""
    return [
        name
        for name, site in model_trace.nodes.items()
        if site["type"] == "sample" and not site["is_observed"] and not site_is_subsample(site)
    ]


def kl_terms(model_trace: Trace, guide_trace: Trace) -> dict[str, Tensor]:
    """KL(q || p) of every latent given the samples before it: unweighted, in nats.

    Summed over the sequences where it is not masked. In closed form, or else log q - log p at the
    sample.
    """
    alike: dict[Any, list[str]] = {}  # diagonal normals by their shapes
    kl, masks = {}, {name: guide_trace.nodes[name]["mask"] for name in _latents(model_trace)}
    for name, mask in masks.items():
        q, p = guide_trace.nodes[name]["fn"], model_trace.nodes[name]["fn"]
        shapes = [(fn.batch_shape, fn.event_shape) for fn in (q, p)]
        if _is_diagonal_normal(q) and _is_diagonal_normal(p) and shapes[0] == shapes[1]:
            alike.setdefault((shapes[0], mask is None), []).append(name)
        else:
            cost = _kl_of(q, p, guide_trace.nodes[name]["value"])
            kl[name] = scale_and_mask(cost, mask=mask).sum()
    # All z_t at once: one by one, they were a third of what Pyro adds to a step z_t.
    for (_, whole), names in alike.items():
        q, p = (
            _stacked([trace.nodes[name]["fn"] for name in names])
            for trace in (guide_trace, model_trace)
        )
        costs = kl_divergence(q, p)
        if whole:
            costs = costs.reshape(len(names), -1).sum(dim=1)
        for name, cost in zip(names, costs.unbind(), strict=True):
            kl[name] = scale_and_mask(cost, mask=masks[name]).sum()
    return {name: kl[name] for name in masks}


def _is_diagonal_normal(fn: Any) -> bool:
    return isinstance(fn, dist.Independent) and type(fn.base_dist) is dist.Normal


def _stacked(normals: Sequence[dist.Independent]) -> dist.Independent:
    """Diagonal normals of one shape as one, with an axis more on the left."""
    loc = torch.stack([normal.base_dist.loc for normal in normals])
    scale = torch.stack([normal.base_dist.scale for normal in normals])
    return dist.Normal(loc, scale).to_event(normals[0].reinterpreted_batch_ndims)


def _kl_of(q: Any, p: Any, sample: Tensor) -> Tensor:
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return q.log_prob(sample) - p.log_prob(sample)


def per_sequence(totals: Mapping[str, Tensor], count: int) -> dict[str, float]:
    """``elbo`` and the parts of it in nats a sequence, from sums over ``count`` sequences."""
    parts = {name: total.item() / count for name, total in totals.items()}
    return {"elbo": parts["reconstruction"] - parts["kl_f"] - parts["kl_z"], **parts}


ESTIMATORS = {"sampled": SampledELBO, "analytic": AnalyticELBO}


class Bound(Objective):
    """The negative ELBO, with its KL terms weighted; base of what is one of Pyro's estimators."""

    estimates = True

    def __init__(self, dsae: DSAE, config: TrainingConfig, sequences: int) -> None:
        super().__init__(dsae, config, sequences)
        self.estimator = self.make_estimator(config, sequences)

    def make_estimator(self, config: TrainingConfig, sequences: int) -> Any:
        options = {"free_bits": config.free_bits} if config.free_bits else {}
        return ESTIMATORS[config.estimator](**options)

    def forward(
        self, x: Tensor, mask: Tensor | None, kl_f_weight: float, kl_z_weight: float
    ) -> Tensor:
        dsae, weights = self.dsae, (kl_f_weight, kl_z_weight)
        loss = self.estimator.differentiable_loss(dsae.model, dsae.guide, x, mask, *weights)
        self.parts = self.estimator.parts
        return loss
