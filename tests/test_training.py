import copy
import dataclasses
import io
import json
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyro
import pytest
import torch
from torch import nn

from conftest import TINY
from pyro_dsae import (
    DSAE,
    CheckpointError,
    ConfigError,
    ModelConfig,
    Sequences,
    TrainingConfig,
    TrainingError,
    load,
    training,
)
from pyro_dsae import fit as fit_
from pyro_dsae.checkpoint import write_whole
from pyro_dsae.priors import LSTMPrior
from pyro_dsae.run_folder import read_config

HERE = Path(__file__).parent
SHORT = TrainingConfig(epochs=4, batch_size=8, validation_fraction=0.2, kl_warmup=0.5)


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


def assert_equal_weights(first, second):
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def weights_of(dsae) -> list[tuple[float, ...]]:
    """The KL weights that the model is called with, as they come; none on the held-out part."""
    weights = []
    dsae.model.register_forward_pre_hook(
        lambda _, call: weights.append(tuple(float(weight) for weight in call[2:]))
    )
    return weights


def test_the_kl_weights_warm_up_in_the_loss_alone(sequences, tmp_path):
    dsae = model()
    weights = weights_of(dsae)
    config = dataclasses.replace(SHORT, epochs=2, kl_f_weight=2.0, kl_z_weight=0.5)
    fit_(dsae, sequences, tmp_path / "run", config)
    rising = [(2.0 * share, 0.5 * share) for share in (0.002, 0.25, 0.5, 0.75, 1, 1, 1, 1)]
    assert weights.pop(4) == weights.pop() == ()
    assert weights == [pytest.approx(pair) for pair in rising]


def test_the_weight_of_kl_f_grows_along_a_line(sequences, tmp_path):
    dsae = model()
    weights = weights_of(dsae)
    options = {"kl_warmup": 0.0, "kl_f_weight": 2.0, "kl_f_growth": 5.0}
    fit_(dsae, sequences, tmp_path / "run", dataclasses.replace(SHORT, epochs=1, **options))
    assert weights == [(2, 1), (4, 1), (6, 1), (8, 1), ()]


def test_static_dropout_falls_along_a_line_to_zero(sequences, tmp_path):
    dsae, rates = model(static_dropout=0.2), []
    config = dataclasses.replace(SHORT, epochs=2, static_dropout_until=0.5)
    on_step = lambda step: rates.append(float(dsae.guide.static_dropout))  # noqa: E731
    fit_(dsae, sequences, tmp_path / "run", config, on_step=on_step)
    assert rates == pytest.approx([0.2, 0.15, 0.1, 0.05, 0.0, 0.0, 0.0, 0.0])
    again = model(static_dropout=0.2)
    fit_(again, sequences, tmp_path / "run", config, resume=True)
    assert again.guide.static_dropout == dsae.guide.static_dropout == 0.2  # the model's own


def test_pyro_s_store_is_left_to_the_caller(sequences, tmp_path):
    """Whose own programs find it as it was, also from a callback."""
    dsae, stores, config = model(), [], dataclasses.replace(SHORT, epochs=1)
    x = torch.zeros(1, 6, *TINY["frame_shape"])

    def on_step(_) -> None:
        stores.append(set(pyro.get_param_store()))
        dsae.model(x)

    with pyro.get_param_store().scope():
        fit_(dsae, sequences, tmp_path / "run", config)
        assert not set(pyro.get_param_store())
        fit_(dsae, sequences, tmp_path / "other", config, on_step=on_step)
        assert stores[0] == set() and len(stores[1]) == len(list(dsae.model.parameters()))


def test_with_all_kl_free_the_prior_stays_as_it_was(sequences, tmp_path):
    config = dataclasses.replace(SHORT, epochs=1, free_bits=1e6)
    dsae = fit_(model(), sequences, tmp_path / "run", config)
    assert_equal_weights(dsae.model.prior, model().model.prior)
    assert metrics(tmp_path / "run")[0]["kl_f"] < 100  # what is logged is the KL itself


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


def test_a_signal_saves_in_the_middle_of_an_epoch_and_resuming_equals_the_whole(
    sequences, tmp_path
):
    whole = fit_(model(), sequences, tmp_path / "whole", SHORT)
    cut, steps = tmp_path / "cut", iter(range(100))

    def stop_at(*when):
        return lambda step: signal.raise_signal(signal.SIGTERM) if next(steps) in when else None

    with pytest.raises(TrainingError, match="stopped by SIGTERM after step 2 of epoch 1.*--resume"):
        fit_(model(), sequences, cut, SHORT, on_step=stop_at(1))
    with pytest.raises(TrainingError, match="after step 3 of epoch 3"):
        fit_(model(), sequences, cut, SHORT, resume=True, on_step=stop_at(10))
    with pytest.raises(TrainingError, match="after step 4 of epoch 3"):  # its last one
        fit_(model(), sequences, cut, SHORT, resume=True, on_step=stop_at(11))
    with (cut / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": ')  # as a kill in the middle of a write might have left it
    torch.manual_seed(5)
    resumed = fit_(DSAE(model().config), sequences, cut, SHORT, resume=True)
    assert metrics(cut) == metrics(tmp_path / "whole")
    assert_equal_weights(whole, resumed)


@pytest.fixture
def interruptible():
    """SIGINT raises KeyboardInterrupt, also where a shell ignores it for its background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_signal_acts_at_once_and_handlers_are_put_back(sequences, tmp_path, interruptible):
    def twice(step):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit_(model(), sequences, tmp_path / "run", SHORT, on_step=twice)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_stopped_by_a_failing_callback_resumes(sequences, tmp_path):
    def fail(line):
        raise ZeroDivisionError

    whole = fit_(model(), sequences, tmp_path / "whole", SHORT)
    with pytest.raises(ZeroDivisionError):
        fit_(model(), sequences, tmp_path / "cut", SHORT, on_epoch=fail)
    assert_equal_weights(whole, fit_(model(), sequences, tmp_path / "cut", SHORT, resume=True))


PROGRAM = """
import sys
import numpy as np
import torch
from conftest import TINY
from pyro_dsae import DSAE, ModelConfig, Sequences, TrainingConfig, fit

x = np.random.default_rng(0).integers(0, 256, (60, 4, 16, 32, 2), np.uint8)
sequences = Sequences(x, np.full(60, 4), np.arange(60))
torch.manual_seed(0)
dsae = DSAE(ModelConfig(**TINY))
config = TrainingConfig(epochs=60, batch_size=4, validation_fraction=0.2)
fit(dsae, sequences, sys.argv[1], config, resume=sys.argv[2] == "resume")
"""


def test_a_run_killed_at_any_moment_resumes_to_the_same_weights(tmp_path):
    """By a real SIGKILL to a real process, three times."""
    python = [sys.executable, "-c", PROGRAM]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    subprocess.run([*python, tmp_path / "whole", "start"], env=environment, check=True)
    cut = tmp_path / "cut"
    for mode, wait in (("start", 0.0), ("resume", 0.37), ("resume", 0.81)):
        process = subprocess.Popen([*python, cut, mode], env=environment)
        before = _stamp(cut / "checkpoint.pt")
        while _stamp(cut / "checkpoint.pt") == before:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(wait)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert len(metrics(cut)) < 60
    subprocess.run([*python, cut, "resume"], env=environment, check=True)
    assert metrics(cut) == metrics(tmp_path / "whole")
    weights = (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert (cut / "model.safetensors").read_bytes() == weights


def _stamp(path):
    return path.stat().st_mtime_ns if path.exists() else None


def test_training_by_the_clock_ends_within_an_epoch_and_resumes(sequences, tmp_path, monkeypatch):
    """A clock that a step moves by a second: 4 batches an epoch, 5 seconds, so 5 steps."""
    now = [0.0]
    monkeypatch.setattr(training.time, "perf_counter", lambda: now[0])

    def tick(step):
        now[0] += 1
        progress.append(step.progress)

    progress: list[float] = []
    config = TrainingConfig(minutes=5 / 60, batch_size=8, validation_fraction=0.2)
    fit_(model(), sequences, tmp_path / "run", config, on_step=tick)
    lines = metrics(tmp_path / "run")
    assert progress == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])  # of the steps before
    assert [line["epoch"] for line in lines] == [1, 2]
    left = 0.02 + 0.98 * 0.5 * (1 + math.cos(0.8 * math.pi))
    assert lines[1]["learning_rate"] == pytest.approx(left * config.learning_rate)
    assert (tmp_path / "run" / "model.safetensors").exists()
    fit_(model(), sequences, tmp_path / "run", config, resume=True)  # nothing is left to do
    assert metrics(tmp_path / "run") == lines


def test_long_epochs_are_saved_in_between(sequences, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(training.time, "perf_counter", lambda: now[0])

    def tick(step):
        now[0] += 0.6 * training.CHECKPOINT_SECONDS
        if now[0] > 3 * 0.6 * training.CHECKPOINT_SECONDS:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit_(model(), sequences, tmp_path / "run", SHORT, on_step=tick)
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert (len(state["history"]), state["step"]) == (0, 2)


def test_bfloat16_stays_inside_the_networks_over_frames(sequences, tmp_path):
    dsae = model()
    x, _ = sequences.batch(np.arange(8), torch.device("cpu"))
    dsae.eval()
    exact = dsae.reconstruct(x)
    dsae.use_bfloat16(True)
    rounded = dsae.reconstruct(x)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.02
    trace = pyro.poutine.trace(dsae.guide).get_trace(x)
    assert trace.nodes["z_1"]["value"].dtype == torch.float32
    config = dataclasses.replace(SHORT, precision="bf16")
    line = fit_(model(), sequences, tmp_path / "bf16", config) and metrics(tmp_path / "bf16")[-1]
    fit_(model(), sequences, tmp_path / "fp32", dataclasses.replace(SHORT, precision="fp32"))
    full = metrics(tmp_path / "fp32")[-1]
    assert line != full
    assert line["validation_elbo"] == pytest.approx(full["validation_elbo"], rel=0.05)


def test_pairs_are_trained_whole_and_resume(sequences, tmp_path):
    alike = np.arange(40) // 5  # of each five one is left out
    paired = dataclasses.replace(sequences, alike=alike, groups=np.zeros(40, int) + alike % 4)
    dsae, seen = model(static_view="partner"), []

    class Watched(Sequences):
        def batch(self, indices, device):
            seen.extend([self.alike[indices]] if dsae.training else [])
            return super().batch(indices, device)

    fields = {field.name: getattr(paired, field.name) for field in dataclasses.fields(paired)}
    config = dataclasses.replace(SHORT, epochs=2)
    whole = fit_(dsae, Watched(**fields), tmp_path / "whole", config)
    assert sum(map(len, seen)) == 2 * 6 * 4  # of 30 for training 24 in pairs, twice
    for rows in seen:
        assert (rows[::2] == rows[1::2]).all()

    def stop(line):
        raise OSError

    with pytest.raises(OSError):
        fit_(model(static_view="partner"), paired, tmp_path / "cut", config, on_epoch=stop)
    cut = fit_(model(static_view="partner"), paired, tmp_path / "cut", config, resume=True)
    assert_equal_weights(whole, cut)


def test_pairs_that_cannot_be_made_are_refused(sequences, tmp_path):
    call = model(static_view="partner"), sequences, tmp_path / "run"
    with pytest.raises(TrainingError, match="'partner', but no two sequences of the train part"):
        fit_(*call, SHORT)
    paired = dataclasses.replace(sequences, alike=np.arange(40) // 4)
    odd = dataclasses.replace(SHORT, batch_size=7)
    with pytest.raises(TrainingError, match="takes an even batch_size in one process.*is 7 in 1"):
        fit_(call[0], paired, tmp_path / "run", odd)
    assert not (tmp_path / "run").exists()


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
        (
            model(likelihood="bernoulli"),
            sequences,
            SHORT,
            "values other than 0 and 255",
        ),
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
    own = DSAE(ModelConfig(**TINY), prior=LSTMPrior(TINY["dynamic_dim"], 9))
    with pytest.raises(TrainingError, match="was trained with a model of other parts"):
        fit_(own, sequences, run, SHORT, resume=True)
    with pytest.raises(
        TrainingError, match="was trained with model guide='factorized', not 'full'"
    ):
        fit_(model(guide="full"), sequences, run, SHORT, resume=True)
    other = dataclasses.replace(sequences, origin={"path": "b.h5", "content_sha256": "ab"})
    with pytest.raises(TrainingError, match="was trained with data content_sha256=None, not 'ab'"):
        fit_(model(), other, run, SHORT, resume=True)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(TrainingError, match="is a file; choose another name"):
        fit_(model(), sequences, tmp_path / "file", SHORT)


def test_a_model_with_parts_of_its_own_is_trained_and_loaded(sequences, tmp_path):
    def encoder():
        return nn.Sequential(nn.Flatten(-3), nn.Linear(2 * 16 * 32, TINY["code_dim"]))

    dsae = DSAE(ModelConfig(**TINY, learn_scale=True), encoder=encoder())
    fit_(dsae, sequences, tmp_path / "run", dataclasses.replace(SHORT, learning_rate=0.02))
    assert dsae.model.scale < 0.5
    assert_equal_weights(dsae, load(tmp_path / "run", encoder=encoder()))
    with pytest.raises(CheckpointError, match="parts of your own needs them passed again"):
        load(tmp_path / "run")


def test_a_run_is_kept_where_there_is_no_room_to_overwrite_it(sequences, tmp_path, request):
    fit_(model(), sequences, tmp_path / "run", SHORT)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    request.getfixturevalue("little_space")
    with pytest.raises(CheckpointError, match="checkpoint.pt: cannot write"):
        fit_(model(code_dim=100), sequences, tmp_path / "run", SHORT, overwrite=True)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}


def test_a_run_is_kept_where_the_config_of_another_cannot_be_written(
    sequences, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    fit_(model(), sequences, run, SHORT)
    before = {path.name: path.read_bytes() for path in run.iterdir()}

    def write(path, content):
        if path.name == "config.json":
            raise KeyboardInterrupt
        write_whole(path, content)

    monkeypatch.setattr("pyro_dsae.run_folder.write_whole", write)
    with pytest.raises(KeyboardInterrupt):
        fit_(model(guide="full"), sequences, run, SHORT, overwrite=True)
    assert before == {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        fit_(model(), sequences, tmp_path / "other", SHORT)
    assert not (tmp_path / "other").exists()


def test_a_full_disk_leaves_no_half_a_run(sequences, tmp_path, little_space):
    with pytest.raises(CheckpointError, match="checkpoint.pt: cannot write"):
        fit_(model(code_dim=100), sequences, tmp_path / "run", SHORT)
    assert list(tmp_path.iterdir()) == []


def test_overwrite_replaces_a_run_and_nothing_else(sequences, tmp_path):
    run = tmp_path / "run"
    fit_(model(), sequences, run, SHORT)
    for name in ("notes.txt", "evaluation.json", "evaluation.md"):
        (run / name).write_text("mine")
    fit_(model(guide="full"), sequences, run, dataclasses.replace(SHORT, epochs=1), overwrite=True)
    assert load(run).config.guide == "full"
    assert len(metrics(run)) == 1 and (run / "notes.txt").read_text() == "mine"
    assert not [*run.glob("evaluation.*")]  # they were the earlier run's


def test_data_that_moved_can_be_resumed(sequences, tmp_path):
    for path, resume in (("a.h5", False), ("b.h5", True)):
        data = dataclasses.replace(sequences, origin={"path": path, "content_sha256": "ab"})
        fit_(model(), data, tmp_path / "run", SHORT, resume=resume)
    about = read_config(tmp_path / "run")
    assert about["data"] == {"path": "a.h5", "content_sha256": "ab"}
    assert about["training"]["seed"] == 0 and about["versions"]["torch"] == torch.__version__


def saved(value) -> bytes:
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


class Malicious:
    def __reduce__(self):
        return (pytest.fail, ("was unpickled",))


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Malicious(), protocol=2),
        b"",
        b"PK\x03\x04half",
        b"\x80\x02.",
        saved(torch.zeros(3)),
        saved({"settings": 3}),
    ],
    ids=["pickle", "empty", "half", "nothing", "tensor", "other"],
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
        ({"epochs": 2, "minutes": 1.0}, "epochs is 2 and minutes is 1.0.*only one"),
        ({"minutes": 0.0}, "minutes is 0.0"),
        ({"precision": "fp8"}, "precision is 'fp8'.*auto, fp32, bf16"),
        ({"validation_fraction": 1.5}, "validation_fraction is 1.5"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"kl_f_weight": 0.0}, "kl_f_weight is 0.0.*positive"),
        ({"kl_f_growth": 0.0}, "kl_f_growth is 0.0.*positive"),
        ({"free_bits": -1.0}, "free_bits is -1.0.*negative"),
        ({"free_bits": 1.0, "estimator": "sampled"}, "free_bits is 1.0.*use 'analytic'"),
        ({"kl_warmup": -0.1}, "kl_warmup is -0.1"),
        ({"kl_warmup": 5}, "kl_warmup is 5.*fraction"),
        ({"static_dropout_until": 0.0}, "static_dropout_until is 0.0.*positive"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_a_bad_option_is_named(options, message):
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**options)


@pytest.mark.parametrize("options", [{}, {"learn_scale": True}])
def test_a_guide_is_fitted_to_a_generative_model_that_stays_as_it_is(sequences, tmp_path, options):
    first = fit_(model(guide="framewise", **options), sequences, tmp_path / "first", SHORT)
    config = dataclasses.replace(SHORT, epochs=2, generative_from=str(tmp_path / "first"))
    torch.manual_seed(1)
    second = DSAE(ModelConfig(**{**TINY, "guide": "full", **options}))
    before = copy.deepcopy(second.guide)
    in_training_mode = []
    second.guide.register_forward_pre_hook(
        lambda guide, _: in_training_mode.append((guide.training, second.model.decoder.training))
    )
    fit_(second, sequences, tmp_path / "second", config)
    assert in_training_mode.count((True, False)) == 2 * 4  # so the guide's batch norm still learns
    for trained in (second, load(tmp_path / "second")):
        assert_equal_weights(trained.model, first.model)
    assert not any(parameter.requires_grad for parameter in second.model.parameters())
    after = second.guide.state_dict()
    changed = [name for name, value in before.state_dict().items() if not value.equal(after[name])]
    assert changed == list(after)


def test_a_refused_training_leaves_the_model_as_it_is(sequences, tmp_path):
    dsae = fit_(model(static_dropout=0.1), sequences, tmp_path / "first", SHORT)
    torch.manual_seed(1)
    other = DSAE(dsae.config)
    own = copy.deepcopy(other)
    generative = dataclasses.replace(SHORT, generative_from=str(tmp_path / "first"))
    for config, run, resume, message in (
        (SHORT, "absent", True, "nothing to resume"),
        (generative, "first", False, "holds a run already"),
    ):
        with pytest.raises(TrainingError, match=message):
            fit_(other, sequences, tmp_path / run, config, resume=resume)
        assert other.guide.static_dropout == 0.1 and not other.model.frozen
        assert_equal_weights(other, own)


def test_a_frozen_run_resumes_bit_for_bit(sequences, tmp_path):
    fit_(model(), sequences, tmp_path / "first", SHORT)
    config = dataclasses.replace(SHORT, generative_from=str(tmp_path / "first"))
    whole = fit_(model(guide="full"), sequences, tmp_path / "whole", config)

    def stop(line):
        if line["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_(model(guide="full"), sequences, tmp_path / "parts", config, on_epoch=stop)
    shutil.rmtree(tmp_path / "first")
    parts = fit_(model(guide="full"), sequences, tmp_path / "parts", config, resume=True)
    assert_equal_weights(parts, whole)
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")


def test_a_generative_model_of_another_config_is_refused_and_leaves_nothing(sequences, tmp_path):
    fit_(model(), sequences, tmp_path / "first", dataclasses.replace(SHORT, epochs=1))
    config = dataclasses.replace(SHORT, generative_from=str(tmp_path / "first"))
    with pytest.raises(ConfigError, match="static_dim is 4, but that of the generative model in"):
        fit_(model(static_dim=4), sequences, tmp_path / "run", config)
    own = model()
    own.model.decoder = nn.Linear(8, 3)
    with pytest.raises(CheckpointError, match="parts of your own needs the same again"):
        fit_(own, sequences, tmp_path / "run", config)
    assert not (tmp_path / "run").exists()
