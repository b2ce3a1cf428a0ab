import dataclasses

import pytest

from pyro_dsae import ConfigError, ModelConfig
from pyro_dsae.config import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_survives_its_dictionary(name):
    config = ModelConfig.preset(name, guide="full", frame_shape=(1, 32, 48))
    assert ModelConfig.from_dict(config.to_dict()) == config
    assert config.guide == "full" and config.frame_shape == (1, 32, 48)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guide": "fool"}, "guide is 'fool'.*full, factorized, framewise"),
        ({"prior": "gru"}, "prior is 'gru'.*standard, lstm"),
        ({"likelihood": "poisson"}, "likelihood is 'poisson'.*normal"),
        ({"frame_shape": (3, 60, 64)}, r"\(3, 60, 64\).*multiples of 16"),
        ({"frame_shape": (64, 64)}, r"\(64, 64\).*\(C, H, W\), or \(D,\)"),
        ({"frame_shape": (3,), "dynamic_view": "colour"}, "dynamic_view is 'colour'.*use none"),
        ({"frame_shape": (6,), "dynamic_view": "blurred"}, "dynamic_view is 'blurred'.*use none"),
        ({"frame_shape": (3,), "dynamic_view": "worn"}, r"'worn', but frame_shape is \(3,\).*none"),
        ({"frame_shape": (3,), "likelihood": "bernoulli"}, "'bernoulli'.*use normal or laplace"),
        ({"channels": (8, 8)}, "channels is .*four positive"),
        ({"static_dim": 0}, "static_dim is 0.*at least 1"),
        ({"static_dropout": 1.0}, "static_dropout is 1.0.*below 1"),
        ({"dynamic_view": "sepia"}, "dynamic_view is .sepia.*none, colour"),
        ({"static_view": "blur"}, "static_view is .blur.*none, shuffled, partner"),
        ({"scale": 0.0}, "scale is 0.0.*positive"),
        ({"scale": float("nan")}, "scale is nan.*positive"),
        ({"likelihood": "bernoulli", "learn_scale": True}, "learn_scale is True.*no scale"),
        ({"dropuot": 0.1}, "unknown option 'dropuot'.*static_dim"),
    ],
)
def test_a_bad_option_is_named_with_its_remedy(options, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(options)


def test_an_unknown_preset_is_refused_by_name():
    with pytest.raises(
        ConfigError, match="preset is 'huge'.*paper, gpu, small, bottleneck, pairs, series"
    ):
        ModelConfig.preset("huge")


def test_a_config_cannot_be_changed_behind_a_models_back():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().guide = "full"
