"""The evidence lower bound, with its parts (Das & Dandi 2018, section II).

    ELBO = E_q log p(x | f, z) - KL(q(f) || p(f)) - sum_t E KL(q(z_t | ...) || p(z_t | z_<t))

These are Pyro's own estimators; all that is added is that the traces they draw anyway also give the
parts, without a second pass.
"""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import kl_divergence


class _Parts:
    """Keeps the parts of the latest estimate in ``parts``: nats, summed over the batch, detached.

    ``reconstruction``, ``kl_f`` and ``kl_z`` are unweighted, whatever the KL weight of the loss;
    the KL terms are analytic given the sampled z_<t under either estimator.
    """

    parts: dict[str, Tensor]

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Trace, Trace]:
        model_trace, guide_trace = super()._get_trace(model, guide, args, kwargs)  # type: ignore
        with torch.no_grad():
            kl = {
                name: scale_and_mask(
                    kl_divergence(site["fn"], model_trace.nodes[name]["fn"]), mask=site["mask"]
                ).sum()
                for name, site in guide_trace.nodes.items()
                if name == "f" or name.startswith("z_")
            }
            self.parts = {
                "reconstruction": model_trace.nodes["x"]["log_prob_sum"].detach(),
                "kl_f": kl.pop("f"),
                "kl_z": torch.stack(list(kl.values())).sum(),
            }
        return model_trace, guide_trace


class SampledELBO(_Parts, Trace_ELBO):
    """Both log q and log p at the samples: Pyro's ``Trace_ELBO``, valid for any guide."""


class AnalyticELBO(_Parts, TraceMeanField_ELBO):
    """KL terms in closed form: Pyro's ``TraceMeanField_ELBO``, with less noise in the gradient."""


ESTIMATORS = {"sampled": SampledELBO, "analytic": AnalyticELBO}
