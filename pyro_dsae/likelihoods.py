"""The likelihood p(x_t | f, z_t) around the decoder's output."""

import pyro.distributions as dist
from torch import Tensor


def normal(loc: Tensor, scale: float) -> dist.Normal:
    """Independent normal values with mean ``loc`` and one fixed ``scale`` (the paper's l2 loss)."""
    return dist.Normal(loc, loc.new_tensor(scale))


LIKELIHOODS = {"normal": normal}
