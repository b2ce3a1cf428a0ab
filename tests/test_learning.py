"""What a user gets from a few minutes of training; run by ``make test-slow``."""

import json
import os

import pytest
import torch
from click.testing import CliRunner

from pyro_dsae.cli.main import main


@pytest.fixture
def all_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    yield
    torch.set_num_threads(before)


def dsae(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "guide", "repeated"),
    [("toy-sprites", "factorized", 0.0085), ("moving-shapes", "full", 0.034)],
)
def test_minutes_of_training_beat_what_needs_no_model(
    name, guide, repeated, all_threads, tmp_path, monkeypatch
):
    """Half the error of repeating the first frame, and cos z tells the motion."""
    monkeypatch.chdir(tmp_path)
    dsae("prepare", name, "data.h5")
    dsae("fit", "data.h5", "run", "--guide", guide, "--minutes", 3)
    scores = json.loads(dsae("reconstruct", "run", "--json"))
    assert scores["reconstruction_mse"] < 0.5 * repeated
    codes = json.loads(dsae("similarity", "run", "--json"))
    assert codes["auroc_motion"] > 0.9
