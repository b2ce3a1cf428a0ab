"""The stages of benchmarks/gpu_campaign.sh run, on a CPU and next to nothing."""

import json
import os
import subprocess
import sys

import pytest
import torch

from conftest import ROOT
from pyro_dsae import load

SCRIPT = ROOT / "benchmarks" / "gpu_campaign.sh"


@pytest.fixture
def campaign(tmp_path):
    def run(*words, **variables):
        environment = {
            **os.environ,
            "PYTHON": sys.executable,
            "OMP_NUM_THREADS": "1",
            "WORK": str(tmp_path / "work"),
            **variables,
        }
        subprocess.run([SCRIPT, *words, "--smoke"], cwd=tmp_path, env=environment, check=True)
        left = list((tmp_path / words[1]).iterdir())
        assert len(left) <= 8 and all(file.stat().st_size < 15e6 for file in left)
        return {file.name: file for file in left}

    return run


def test_train_leaves_a_table_and_weights_that_evaluate_takes_elsewhere(campaign, tmp_path):
    left = campaign("train", "out", "recipe")
    trained = json.loads(left["train.json"].read_text())["runs"]["recipe"]
    assert trained["config"]["model"]["dynamic_view"] == "colour"
    assert "| recipe | toy-sprites | 1 |" in left["train.md"].read_text()
    before = load(tmp_path / "work" / "recipe").state_dict()

    elsewhere = {"WORK": str(tmp_path / "bare"), "WEIGHTS": str(tmp_path / "out")}
    left = campaign("evaluate", "scores", "recipe", **elsewhere)
    assert "recipe.png" in left
    assert "| similarity.auroc_motion | 0." in left["evaluate.md"].read_text()
    for name, value in load(tmp_path / "bare" / "recipe").state_dict().items():
        rounded = value if not value.is_floating_point() else before[name].bfloat16().float()
        assert torch.equal(value, rounded), name


@pytest.mark.slow
def test_check_and_bench(campaign):
    left = campaign("check", "out")
    runs = json.loads(left["check.json"].read_text())["runs"]
    off, auto = (runs[f"check-{graph}"]["metrics"][-1] for graph in ("off", "auto"))
    assert off["validation_elbo"] == auto["validation_elbo"]
    assert campaign("bench", "bench")["bench.md"].read_text()


def test_what_is_no_stage_shows_the_stages():
    for words in (["fly", "out"], ["train"]):
        answer = subprocess.run([SCRIPT, *words], capture_output=True, text=True)
        assert answer.returncode == 2 and "evaluate  a judge" in answer.stderr
