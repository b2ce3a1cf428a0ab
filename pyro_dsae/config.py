"""What a model is made of: one frozen, validated dataclass, and presets that are data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args, get_origin, get_type_hints

from pyro_dsae.guides import GUIDES
from pyro_dsae.likelihoods import LIKELIHOODS
from pyro_dsae.networks import FRAME_MULTIPLE
from pyro_dsae.priors import PRIORS
from pyro_dsae.views import STATIC_VIEWS, VIEWS

# Das & Dandi (2018), section III.
_PAPER_SIZES = {"channels": (256, 256, 256, 256), "code_dim": 1024, "hidden_dim": 256}
_SMALL = {
    "model": {
        "channels": (16, 32, 64, 128),
        "code_dim": 256,
        "hidden_dim": 128,
        "shared_encoder": False,
        "batch_norm": False,  # grounds of many colours make the statistics of a batch noise
    },
    # Many cheap steps learn faster than few good ones.
    "training": {"batch_size": 8, "learning_rate": 2e-3},
}
# What keeps f and z apart, docs/recipe.md: the lstm prior, the view and the weight of KL_z keep
# appearance out of z, static dropout and in the end the weight of KL_f motion out of f.
_RECIPE = {
    "model": {
        "prior": "lstm",
        "static_dropout": 0.5,
        "dynamic_view": "colour",
    },
    "training": {"kl_f_growth": 4.0, "kl_z_weight": 2.0, "static_dropout_until": 0.4},
}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {
        "model": {"prior": "standard", **_PAPER_SIZES},
        "training": {"epochs": 50, "batch_size": 16, "learning_rate": 1e-3},
    },
    # The paper's size by the recipe. Not trained to the end yet.
    "gpu": {
        "model": {**_SMALL["model"], **_PAPER_SIZES, **_RECIPE["model"]},
        "training": {
            "epochs": 50,
            "batch_size": 16,
            "learning_rate": 1e-3,
            **_RECIPE["training"],
        },
    },
    # Trains in minutes on a CPU.
    "small": {
        "model": {**_SMALL["model"], **_RECIPE["model"]},
        "training": {"epochs": 10, **_SMALL["training"], **_RECIPE["training"]},
    },
    # The same for data of which no view hides all appearance: each z_t may cost some nats for
    # nothing, and hardly any more, so that it carries what these are worth most for.
    "bottleneck": {
        "model": {
            **_SMALL["model"],
            "prior": "standard",
            "static_dropout": 0.98,
            "dynamic_view": "none",
        },
        "training": {
            "epochs": 15,
            **_SMALL["training"],
            "kl_f_weight": 10.0,
            "kl_z_weight": 200.0,
            "free_bits": 4.5,
            "static_dropout_until": 0.8,
        },
    },
    # The same for data that say who is who: f comes from another sequence of the same one, and has
    # no motion to tell; z is so dear that what f can say stays there.
    "pairs": {
        "model": {**_SMALL["model"], "prior": "lstm", "static_view": "partner"},
        "training": {"epochs": 10, **_SMALL["training"], "kl_z_weight": 8.0},
    },
    # Vectors in units of their spread. The weights keep in f what both codes could carry.
    "series": {
        "model": {
            "prior": "lstm",
            "static_dim": 16,
            "dynamic_dim": 8,
            "code_dim": 64,
            "hidden_dim": 64,
            "scale": 0.25,
        },
        "training": {
            "epochs": 60,
            "batch_size": 16,
            "learning_rate": 3e-3,
            "kl_f_weight": 0.5,
            "kl_z_weight": 4.0,
        },
    },
}


# What only the guide and its training use; all the rest describes the generative model too.
GUIDE_FIELDS = (
    "guide",
    "static_dropout",
    "dynamic_view",
    "static_view",
    "shared_encoder",
    "noise_dim",
)


class ConfigError(ValueError):
    """An option has a value, or a name, that no model can have."""


def one_of(field: str, value: str, names: Mapping[str, Any]) -> None:
    """Raise ConfigError unless ``value`` is one of ``names``."""
    if not isinstance(value, str) or value not in names:
        raise ConfigError(f"{field} is {value!r}, but must be one of: {', '.join(names)}")


def check_fields(config: type, options: Mapping[str, Any], of: str = "") -> None:
    """Raise ConfigError unless each of ``options`` is a field of ``config`` and of its type.

    Args:
        of: whose options they are, in words.
    """
    kinds = get_type_hints(config)
    for key, value in options.items():
        if key not in kinds:
            whose = f" of {of}" if of else ""
            raise ConfigError(
                f"unknown option {key!r}{whose}; known are: {', '.join(kinds) or 'none'}"
            )
        if not _is_a(kinds[key], value):
            name = getattr(kinds[key], "__name__", kinds[key])
            raise ConfigError(f"{key} is {value!r}, but must be of type {name}")


def _is_a(kind: Any, value: Any) -> bool:
    if get_origin(kind) is tuple:  # JSON and TOML have lists only
        return isinstance(value, list | tuple) and all(
            _is_a(get_args(kind)[0], part) for part in value
        )
    if get_args(kind):  # a union
        return any(_is_a(part, value) for part in get_args(kind))
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The architecture of a :class:`~pyro_dsae.model.DSAE`.

    Args:
        frame_shape: (C, H, W) of one frame; H and W are multiples of 16. For a series (D,), the
            size of one vector: then the networks are fully connected, not convolutions.
        guide: name of the guide, a key of :data:`pyro_dsae.guides.GUIDES`.
        prior: name of the prior of z, a key of :data:`pyro_dsae.priors.PRIORS`.
        static_dim: size of f.
        dynamic_dim: size of each z_t.
        channels: channels of the encoder's four convolutions; the decoder mirrors them.
        batch_norm: normalise each hidden layer of convolutions over the batch, as the paper does.
        code_dim: size of the code of one frame, and of the layers of fully connected networks.
        hidden_dim: size of every recurrent state.
        likelihood: name of the likelihood, a key of :data:`pyro_dsae.likelihoods.LIKELIHOODS`.
        scale: scale of the likelihood in units of x, such as a pixel in [0, 1]. It is the trade
            between reconstruction and KL, and therefore never hidden. ``bernoulli`` has none.
        learn_scale: train the scale too, from ``scale`` on: one for all pixels, or one for each
            channel of a series.
        static_dropout: how often, in training, a sequence's f is drawn from its prior: it makes z
            carry what happens. See :class:`pyro_dsae.guides.Guide`.
        dynamic_view: name of the view of x that z is inferred from in training, a key of
            :data:`pyro_dsae.views.VIEWS`: it keeps out of z what the view changes.
        static_view: the same of f, a key of :data:`pyro_dsae.views.STATIC_VIEWS`: it keeps out of f
            what the order of the frames tells, or all that does not look alike.
        shared_encoder: infer f and z from the codes of one encoder. If not, each has its own, and
            what z must not see does not blunt what f has to see.
        noise_dim: size of the noise beside the code of each frame, which makes q a mixture of any
            shape. See :class:`pyro_dsae.guides.Guide`.

    Raises:
        ConfigError: naming the field, its value and what would be right.
    """

    frame_shape: tuple[int, ...] = (3, 64, 64)
    guide: str = "factorized"
    prior: str = "lstm"
    static_dim: int = 64
    dynamic_dim: int = 32
    channels: tuple[int, int, int, int] = (16, 32, 64, 128)
    batch_norm: bool = True
    code_dim: int = 256
    hidden_dim: int = 128
    likelihood: str = "normal"
    scale: float = 0.5
    learn_scale: bool = False
    static_dropout: float = 0.0
    dynamic_view: str = "none"
    static_view: str = "none"
    shared_encoder: bool = True
    noise_dim: int = 0

    def __post_init__(self) -> None:
        # JSON knows no tuples; a config read back must equal the one that was written.
        object.__setattr__(self, "frame_shape", tuple(self.frame_shape))
        object.__setattr__(self, "channels", tuple(self.channels))
        one_of("guide", self.guide, GUIDES)
        one_of("prior", self.prior, PRIORS)
        one_of("likelihood", self.likelihood, LIKELIHOODS)
        one_of("dynamic_view", self.dynamic_view, VIEWS)
        one_of("static_view", self.static_view, STATIC_VIEWS)
        if len(self.frame_shape) not in (1, 3) or any(size < 1 for size in self.frame_shape):
            raise ConfigError(
                f"frame_shape is {self.frame_shape}, but must be (C, H, W), or (D,) for a series"
            )
        if self.of_series and self.likelihood == "bernoulli":
            raise ConfigError(
                f"likelihood is 'bernoulli', but frame_shape {self.frame_shape} is that of a "
                "series, whose values have no bounds; use normal or laplace"
            )
        view = self.dynamic_view
        if (view in ("colour", "blurred") and self.of_series) or (
            view == "worn" and self.frame_shape != (6,)
        ):
            raise ConfigError(
                f"dynamic_view is {view!r}, but frame_shape is {self.frame_shape}: colour and "
                "blurred are of frames, worn of the series of an accelerometer and a gyroscope; "
                "use none"
            )
        if any(side % FRAME_MULTIPLE for side in self.frame_shape[1:]):
            raise ConfigError(
                f"frame_shape is {self.frame_shape}, but height and width must be multiples "
                f"of {FRAME_MULTIPLE}"
            )
        if len(self.channels) != 4 or any(width < 1 for width in self.channels):
            raise ConfigError(f"channels is {self.channels}, but must be four positive integers")
        for field in ("static_dim", "dynamic_dim", "code_dim", "hidden_dim"):
            if getattr(self, field) < 1:
                raise ConfigError(f"{field} is {getattr(self, field)}, but must be at least 1")
        if self.noise_dim < 0:
            raise ConfigError(f"noise_dim is {self.noise_dim}, but must not be negative")
        if not 0 <= self.static_dropout < 1:
            raise ConfigError(
                f"static_dropout is {self.static_dropout}, but must be at least 0 and below 1"
            )
        if not 0 < self.scale < float("inf"):
            raise ConfigError(f"scale is {self.scale}, but must be positive and finite")
        if self.learn_scale and self.likelihood == "bernoulli":
            raise ConfigError("learn_scale is True, but likelihood 'bernoulli' has no scale")

    @property
    def of_series(self) -> bool:
        """Whether a frame is a vector, not a picture."""
        return len(self.frame_shape) == 1

    @classmethod
    def preset(cls, name: str, **changes: Any) -> ModelConfig:
        """The model of the preset ``name`` (a key of :data:`PRESETS`), with ``changes`` applied."""
        one_of("preset", name, PRESETS)
        return cls.from_dict({**PRESETS[name]["model"], **changes})

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> ModelConfig:
        """The config that :meth:`to_dict` wrote. Unknown keys are refused by name."""
        check_fields(cls, options)
        return cls(**options)

    def to_dict(self) -> dict[str, Any]:
        """The config as a plain dictionary that JSON can hold."""
        return dataclasses.asdict(self)
