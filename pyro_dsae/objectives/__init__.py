"""Objectives by name, one file each. One of your own goes by name too, once it is in here."""

from pyro_dsae.objectives.aae import AdversarialAutoencoder
from pyro_dsae.objectives.agreement import Agreement
from pyro_dsae.objectives.avb import AVB
from pyro_dsae.objectives.beta import Beta
from pyro_dsae.objectives.beta_tc import BetaTC
from pyro_dsae.objectives.elbo import Bound
from pyro_dsae.objectives.mi import MutualInformation
from pyro_dsae.objectives.objective import Objective
from pyro_dsae.objectives.vae_gan import VAEGAN

OBJECTIVES: dict[str, type[Objective]] = {
    "elbo": Bound,
    "beta": Beta,
    "beta-tc": BetaTC,
    "mi": MutualInformation,
    "agreement": Agreement,
    "vae-gan": VAEGAN,
    "aae": AdversarialAutoencoder,
    "avb": AVB,
}
