"""One frozen generative model, three posteriors of one sequence: the guide's, AutoNormal's, NUTS's.

The guide infers any sequence at once. AutoNormal is fitted to this one alone, so that it shows what
the guide loses by being shared; NUTS assumes no family of distributions at all.

    python examples/posterior.py
"""

from typing import Any

import pyro
import torch
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

from common import moving_shapes, trained_model


def main(train_steps: int = 200, steps: int = 300, draws: int = 100) -> dict[str, Any]:
    pyro.set_rng_seed(0)
    x, _ = moving_shapes(steps=3)
    # Few and weakly determined latents: the Markov chain has to find its way among all of them.
    dsae = trained_model(x, train_steps, static_dim=2, dynamic_dim=1, scale=1.0)
    dsae.requires_grad_(False)
    x = x[:1]

    with pyro.get_param_store().scope():
        auto = AutoNormal(dsae.model)
        svi = SVI(dsae.model, auto, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
        for _ in range(steps):
            svi.step(x)
        elbo = Trace_ELBO(num_particles=500, vectorize_particles=True, max_plate_nesting=1)
        bounds = {
            "guide": -elbo.loss(dsae.model, dsae.guide, x),
            "AutoNormal": -elbo.loss(dsae.model, auto, x),
        }
        several = {"num_samples": draws, "parallel": True}
        samples = {
            "guide": Predictive(dsae.guide, **several)(x),
            "AutoNormal": Predictive(auto, **several)(x),
        }

    kernel = NUTS(dsae.model, max_tree_depth=5)
    chain = MCMC(kernel, num_samples=draws, warmup_steps=draws // 2, disable_progbar=True)
    chain.run(x)
    samples["NUTS"] = chain.get_samples()

    for name, sites in samples.items():
        codes = torch.cat([_flat(sites["f"]), *(_flat(sites[f"z_{t}"]) for t in range(3))], dim=1)
        values = ", ".join(f"{m:5.2f} +- {s:.2f}" for m, s in zip(*_moments(codes), strict=True))
        bound = f"ELBO {bounds[name]:.2f} nats" if name in bounds else ""
        print(f"{name:10} f and z: {values}  {bound}")
    return {"dsae": dsae, "x": x, "samples": samples, "bounds": bounds}


def _flat(draws: Tensor) -> Tensor:
    return draws.reshape(len(draws), -1)


def _moments(codes: Tensor) -> tuple[list[float], list[float]]:
    return codes.mean(dim=0).tolist(), codes.std(dim=0).tolist()


if __name__ == "__main__":
    main()
