"""What only a GPU shows. Everything but the capture itself is tested on the CPU as well."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from conftest import TINY
from pyro_dsae import DSAE, ModelConfig, Sequences, TrainingConfig, fit

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device is here; benchmarks/gpu_campaign.sh check"
)
CONFIG = TrainingConfig(epochs=3, batch_size=8, validation_fraction=0.2, kl_warmup=0.5)


@pytest.fixture(params=["full", "factorized"])
def train(request, tmp_path):
    """Trains on the GPU by a name and options of fit; the metrics and the model."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (55, 6, 16, 32, 2), np.uint8)  # the last batch is small
    sequences = Sequences(x, np.full(55, 6), np.arange(55))

    def run(name, config=CONFIG, lengths=None, **options):
        torch.manual_seed(0)
        options_of_model = {"guide": request.param, "static_dropout": 0.2, "dynamic_view": "colour"}
        dsae = DSAE(ModelConfig(**TINY, **options_of_model)).cuda()
        data = sequences if lengths is None else dataclasses.replace(sequences, lengths=lengths)
        fit(dsae, data, tmp_path / name, config, **options)
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines], dsae

    return run


def test_a_graph_gives_the_numbers_of_the_steps_without_one(train):
    eager, first = train("eager", cuda_graph="off")
    graph, second = train("graph", cuda_graph="on")
    for one, other in zip(eager, graph, strict=True):
        del one["sequences_per_second"], other["sequences_per_second"]
        assert other == pytest.approx(one, rel=1e-3)
    for name, value in first.state_dict().items():
        other = second.state_dict()[name]
        torch.testing.assert_close(other, value, rtol=1e-2, atol=1e-2, msg=name)


def test_a_graph_resumes_where_it_was(train):
    whole, _ = train("whole", cuda_graph="on")

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("cut", cuda_graph="on", on_epoch=stop)
    resumed, _ = train("cut", cuda_graph="on", resume=True)
    for one, other in zip(whole, resumed, strict=True):
        assert other["validation_elbo"] == pytest.approx(one["validation_elbo"], rel=1e-3)


def test_an_eager_step_waits_for_nothing(train, monkeypatch):
    """A host that reads a value of the device within a step is an error here."""
    from pyro_dsae import training

    step = training._Training._compute

    def watched(*arguments):
        torch.cuda.set_sync_debug_mode("error")
        try:
            return step(*arguments)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(training._Training, "_compute", watched)
    train("watched", cuda_graph="off")


def test_sequences_that_differ_in_length_are_trained_without_a_graph(train, caplog):
    train("ragged", lengths=np.repeat([5, 6], [27, 28]))
    assert "cannot be a CUDA graph" in caplog.text and "differ in length" in caplog.text
