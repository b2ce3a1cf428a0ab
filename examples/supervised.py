"""The model inside a larger Pyro program: a few labels, predicted from the static code f.

    p(x, y, f, z) = p(f) p(z) p(x | f, z) p(y | f)

Where y is unknown it is masked out, and such a sequence still trains all the rest.

    python examples/supervised.py
"""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import Tensor, nn

from common import moving_shapes, small_model

LABEL_WEIGHT = 100.0  # a label is one value against thousands of pixels


class Labelled(nn.Module):
    """A DSAE with a classifier on f, as a model and a guide of one signature (x, y, known).

    x: frames, shape (B, T, C, H, W). y: classes, int (B,). known: where y is, bool (B,).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.dsae = small_model()
        self.head = nn.Linear(self.dsae.config.static_dim, classes)

    def model(self, x: Tensor, y: Tensor, known: Tensor) -> None:
        pyro.module("head", self.head)
        with poutine.trace() as inside:
            self.dsae.model(x)
        logits = self.head(inside.trace.nodes["f"]["value"])  # (B, classes)
        with pyro.plate("labels", len(x), dim=-1), poutine.scale(scale=LABEL_WEIGHT):
            pyro.sample("y", dist.Categorical(logits=logits).mask(known), obs=y)

    def guide(self, x: Tensor, y: Tensor, known: Tensor) -> None:
        self.dsae.guide(x)

    def classify(self, x: Tensor) -> Tensor:
        """The likeliest class of each sequence, int (B,)."""
        return self.head(self.dsae.encode(x)[0]).argmax(dim=-1)


def main(steps: int = 200, labelled: float = 0.3) -> dict[str, float]:
    pyro.set_rng_seed(0)
    x, y = moving_shapes()
    held_out = len(x) // 4
    x_test, y_test, x, y = x[:held_out], y[:held_out], x[held_out:], y[held_out:]
    known = torch.rand(len(x)) < labelled
    both = Labelled(classes=3)
    with pyro.get_param_store().scope():
        svi = SVI(both.model, both.guide, pyro.optim.Adam({"lr": 3e-3}), TraceMeanField_ELBO())
        for _ in range(steps):
            chosen = torch.randint(len(x), (16,))
            svi.step(x[chosen], y[chosen], known[chosen])
    both.eval()
    found = {
        "labelled": (both.classify(x[known]) == y[known]).float().mean().item(),
        "unlabelled": (both.classify(x[~known]) == y[~known]).float().mean().item(),
        "held out": (both.classify(x_test) == y_test).float().mean().item(),
        "most frequent class": (y_test.bincount().max() / len(y_test)).item(),
    }
    for name, accuracy in found.items():
        print(f"{name:20} {accuracy:.0%}")
    return found


if __name__ == "__main__":
    main()
