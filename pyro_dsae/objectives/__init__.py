"""Objectives by name, one file each. One of your own goes by name too, once it is in here."""

from pyro_dsae.objectives.elbo import Bound
from pyro_dsae.objectives.objective import Objective

OBJECTIVES: dict[str, type[Objective]] = {"elbo": Bound}
