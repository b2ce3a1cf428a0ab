"""The likelihood p(x_t | f, z_t) around the decoder's output, by name.

Its scale is the trade between reconstruction and KL: with a fixed one it is the user's, a learned
one is the model's own root mean square error (Rybkin, Daniilidis & Levine 2021, Simple and
Effective VAE Training with Calibrated Decoders).
"""

import pyro.distributions as dist
from torch import Tensor


def normal(loc: Tensor, scale: float | Tensor) -> dist.Distribution:
    """Independent normal values: with a fixed scale the l2 loss of Das & Dandi (2018), section III.

    Args:
        loc: means of the frames, any shape.
        scale: one standard deviation for all values, in units of a pixel in [0, 1].
    """
    return dist.Normal(loc, scale)


def laplace(loc: Tensor, scale: float | Tensor) -> dist.Distribution:
    """Independent Laplace values, the l1 loss: more forgiving of few large errors.

    Args:
        loc: means of the frames, any shape.
        scale: one mean absolute deviation for all values, in units of a pixel in [0, 1].
    """
    return dist.Laplace(loc, scale)


def bernoulli(loc: Tensor, scale: float | Tensor) -> dist.Distribution:
    """Independent values that are 0 or 1, with mean ``loc``; there is no scale.

    For binary frames only. Of grey values the cross entropy is no density: it does not integrate to
    1, so the loss would bound nothing, and could not be compared with another likelihood's.
    """
    return dist.Bernoulli(loc)


LIKELIHOODS = {"normal": normal, "laplace": laplace, "bernoulli": bernoulli}
