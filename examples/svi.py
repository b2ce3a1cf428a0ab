"""Plain SVI with three of Pyro's losses, and nothing of the package but the model and the guide.

python examples/svi.py
"""

from collections.abc import Iterable

import pyro
import torch
from pyro.infer import ELBO, SVI, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor

from common import moving_shapes, small_model
from pyro_dsae import DSAE

LOSSES = {
    "sampled ELBO": Trace_ELBO(),
    "analytic KL": TraceMeanField_ELBO(),  # the guide is normal at every site: less noise
    # alpha = 0 is the importance-weighted bound. Pyro weighs draws of a whole batch at once; for
    # the bound of each sequence there is pyro_dsae.evaluation.bound.
    "Renyi, alpha 0": RenyiELBO(
        alpha=0, num_particles=4, vectorize_particles=True, max_plate_nesting=1
    ),
}


def train(
    dsae: DSAE, batches: Iterable[Tensor], optimizer: pyro.optim.PyroOptim, loss: ELBO
) -> list[float]:
    """Take one step on each batch (B, T, C, H, W); the losses, in nats a batch."""
    svi = SVI(dsae.model, dsae.guide, optimizer, loss)
    return [svi.step(batch) for batch in batches]


def main(steps: int = 60, batch_size: int = 16) -> dict[str, list[float]]:
    x, _ = moving_shapes()
    found = {}
    for name, loss in LOSSES.items():
        pyro.set_rng_seed(0)
        batches = (x[torch.randint(len(x), (batch_size,))] for _ in range(steps))
        # A scope of the parameter store leaves nothing of one model to the next.
        with pyro.get_param_store().scope():
            found[name] = train(small_model(), batches, pyro.optim.Adam({"lr": 2e-3}), loss)
        first, last = (nats / batch_size for nats in (found[name][0], found[name][-1]))
        print(f"{name:15} {first:8.0f} to {last:8.0f} nats a sequence")
    return found


if __name__ == "__main__":
    main()
