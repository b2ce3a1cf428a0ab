"""Draws from the prior and the posterior with Predictive, and f held fixed while z varies.

python examples/predictive.py
"""

import pyro
import torch
from pyro import poutine
from pyro.infer import Predictive
from torch import Tensor

from common import moving_shapes, trained_model


def main(draws: int = 8, steps: int = 60) -> dict[str, dict[str, Tensor]]:
    pyro.set_rng_seed(0)
    x, _ = moving_shapes()
    dsae = trained_model(x, steps)
    x = x[:2]
    # The model observes x. Without that x is drawn as well, and only its shape is still used.
    generative = poutine.uncondition(dsae.model)
    # The model returns the means of the frames, which show more than x with its pixel noise.
    options = {"num_samples": draws, "return_sites": ("f", "z_0", "x", "_RETURN")}
    with torch.no_grad():
        # parallel: all draws at once, in one pass through the networks
        prior = Predictive(generative, parallel=True, **options)(x)
        posterior = Predictive(generative, guide=dsae.guide, parallel=True, **options)(x)

        f, _ = dsae.encode(x)  # (2, static_dim), so one draw of the rest at a time
        varied = Predictive(poutine.condition(generative, {"f": f}), **options)(x)

    found = {"prior": prior, "posterior": posterior, "f fixed, z varied": varied}
    for name, sites in found.items():
        spread = {site: values.std(dim=0).mean().item() for site, values in sites.items()}
        print(
            f"{name:18} spread over draws: f {spread['f']:.2f}, z_0 {spread['z_0']:.2f}, "
            f"frames {spread['_RETURN']:.3f}"
        )
    return found


if __name__ == "__main__":
    main()
