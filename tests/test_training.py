import json
import pickle

import numpy as np
import pytest
import torch

from conftest import TINY
from pyro_dsae import DSAE, ConfigError, ModelConfig, Sequences, TrainingConfig, TrainingError, load
from pyro_dsae import fit as fit_

SHORT = TrainingConfig(epochs=4, batch_size=8, validation_fraction=0.2, kl_warmup=2)


@pytest.fixture
def sequences() -> Sequences:
    """Bright and dark sequences with a blinking half: something static, something dynamic."""
    rng = np.random.default_rng(0)
    x = np.zeros((40, 6, 16, 32, 2), np.uint8)
    x[..., :16, :] = rng.integers(0, 200, (40, 1, 1, 1, 1))
    x[..., 16:, :] = rng.integers(0, 2, (40, 6, 1, 1, 1)) * 200
    return Sequences(x, np.full(40, 6), np.arange(40))


def model(**changes) -> DSAE:
    torch.manual_seed(0)
    return DSAE(ModelConfig(**{**TINY, **changes}))


def metrics(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["sequences_per_second"]
    return lines


class StopError(Exception):
    pass


@pytest.mark.parametrize("estimator", ["sampled", "analytic"])
@pytest.mark.parametrize("guide", ["full", "factorized", "framewise"])
def test_training_raises_the_bound(guide, estimator, sequences, tmp_path):
    config = TrainingConfig(
        epochs=8, batch_size=8, learning_rate=1e-2, validation_fraction=0.2, estimator=estimator
    )
    fit_(model(guide=guide), sequences, tmp_path / "run", config)
    lines = metrics(tmp_path / "run")
    assert [line["epoch"] for line in lines] == list(range(1, 9))
    assert lines[-1]["validation_elbo"] > lines[0]["validation_elbo"] + 10
    for line in lines:
        parts = line["reconstruction"] - line["kl_f"] - line["kl_z"]
        assert line["elbo"] == pytest.approx(parts)
    assert lines[-1]["learning_rate"] < 0.1 * lines[0]["learning_rate"]


def test_the_model_keeps_its_best_weights(sequences, tmp_path):
    dsae = fit_(model(), sequences, tmp_path / "run", SHORT)
    saved = load(tmp_path / "run" / "model.safetensors").state_dict()
    assert not dsae.training
    assert all(torch.equal(value, saved[name]) for name, value in dsae.state_dict().items())


@pytest.mark.parametrize("stopped", [1, 3])
def test_a_resumed_run_equals_the_uninterrupted_one(stopped, sequences, tmp_path):
    whole = fit_(model(), sequences, tmp_path / "whole", SHORT)

    def stop(line):
        if line["epoch"] == stopped:
            raise StopError

    with pytest.raises(StopError):
        fit_(model(), sequences, tmp_path / "cut", SHORT, on_epoch=stop)
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": ')  # as a kill in the middle of a write might have left it
    torch.manual_seed(5)
    resumed = fit_(DSAE(model().config), sequences, tmp_path / "cut", SHORT, resume=True)
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


def test_training_leaves_the_callers_random_numbers_alone(sequences, tmp_path):
    dsae = model()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    fit_(dsae, sequences, tmp_path / "run", SHORT)
    assert torch.equal(torch.rand(2), expected)


def test_what_cannot_be_started_or_resumed_says_why(sequences, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(TrainingError, match="nothing to resume"):
        fit_(model(), sequences, run, SHORT, resume=True)
    assert not run.exists()
    wrong = [
        (model(frame_shape=(3, 16, 32)), sequences, SHORT, r"frames are \(2, 16, 32\)"),
        (model(), sequences, TrainingConfig(batch_size=64), "batch_size is 64.*38 sequences"),
        (
            model(),
            Sequences(sequences.x[:, :1], np.ones(40, int), sequences.groups),
            SHORT,
            "have 1 step",
        ),
        (
            model(),
            Sequences(sequences.x, sequences.lengths, np.zeros(40, int)),
            SHORT,
            "cannot hold out 0.2 of 1 groups",
        ),
    ]
    for dsae, data, config, message in wrong:
        with pytest.raises(TrainingError, match=message):
            fit_(dsae, data, run, config)
        assert not run.exists()
    fit_(model(), sequences, run, SHORT)
    with pytest.raises(TrainingError, match="holds a run already; go on with --resume"):
        fit_(model(), sequences, run, SHORT)
    with pytest.raises(
        TrainingError, match="was trained with model guide='factorized', not 'full'"
    ):
        fit_(model(guide="full"), sequences, run, SHORT, resume=True)


class Malicious:
    def __reduce__(self):
        return (pytest.fail, ("was unpickled",))


@pytest.mark.parametrize(
    "content",
    [pickle.dumps(Malicious(), protocol=2), b"", b"PK\x03\x04half"],
    ids=["pickle", "empty", "half"],
)
def test_a_foreign_checkpoint_is_refused_and_never_unpickled(content, sequences, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(TrainingError, match="not a checkpoint of this package"):
        fit_(model(), sequences, tmp_path, SHORT, resume=True)


@pytest.mark.filterwarnings("ignore:Encountered NaN")  # Pyro's own, before our error
def test_a_loss_that_is_not_finite_keeps_the_last_epoch(sequences, tmp_path):
    dsae = model()

    def spoil(line):
        with torch.no_grad():
            dsae.model.decoder.code[0].weight.fill_(float("nan"))

    with pytest.raises(
        TrainingError, match="loss is nan.* in step 1 of epoch 2; the last checkpoint is kept"
    ):
        fit_(dsae, sequences, tmp_path / "run", SHORT, on_epoch=spoil)
    assert len(metrics(tmp_path / "run")) == 1
    kept = load(tmp_path / "run" / "model.safetensors").state_dict()
    assert all(torch.isfinite(value).all() for value in kept.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "exact"}, "estimator is 'exact'.*sampled, analytic"),
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"kl_warmup": -1}, "kl_warmup is -1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_a_bad_option_is_named(options, message):
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**options)
