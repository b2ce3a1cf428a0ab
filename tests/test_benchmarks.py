"""The benchmarks run, here on next to nothing."""

import json
import re
import subprocess
import sys

import pytest
import torch

from conftest import ROOT
from pyro_dsae import DSAE, ModelConfig, load, save
from pyro_dsae.datasets import prepare

TINY = {"channels": (2, 2, 4, 4), "code_dim": 8, "hidden_dim": 6, "static_dim": 4, "dynamic_dim": 2}


def test_the_table_of_bounds_has_three_guides_of_one_generative_model(tmp_path):
    prepare("moving-shapes", tmp_path / "x.h5", characters=8, motions=2, size=32, steps=3)
    generative = DSAE(ModelConfig(frame_shape=(3, 32, 32), **TINY))
    save(generative, tmp_path / "model.safetensors")
    call = ["docs.md", "guides", "--on", "x.h5", "model.safetensors", "--epochs", "1"]
    command = [sys.executable, ROOT / "benchmarks" / "bounds.py", *call, "--sequences", "3"]

    def page() -> str:
        subprocess.run([*command, "--batch-size", "4"], cwd=tmp_path, check=True)
        return (tmp_path / "docs.md").read_text()

    written = page()
    rows = re.findall(r"^\| moving-shapes \| `(\w+)` \| (.*) \|$", written, re.MULTILINE)
    assert [guide for guide, _ in rows] == ["full", "factorized", "framewise"]
    bounds = {
        guide: [[float(part) for part in cell.split(" ± ")] for cell in cells.split(" | ")]
        for guide, cells in rows
    }
    highest = max(found[2][0] for found in bounds.values())
    for guide, ((elbo, _), _, _, (gap, error)) in bounds.items():
        assert gap >= 0 and error >= 0 and abs(highest - elbo - gap) < 0.02  # rounded to 0.01
        fitted = load(tmp_path / "guides" / "moving-shapes" / guide).model.state_dict()
        for name, value in generative.model.state_dict().items():
            assert torch.equal(value, fitted[name])
    for fact in ("--on x.h5 model.safetensors", "3 of", "1 epochs, seed 0", "commit "):
        assert fact in written
    assert page() == written  # nothing is fitted again


def test_a_set_like_kth_is_prepared_and_its_speed_stated(tmp_path):
    pytest.importorskip("av", reason="videos need PyAV: pip install av")
    command = [sys.executable, ROOT / "benchmarks" / "prepare_kth.py", "--videos", "2"]
    result = subprocess.run(
        [*command, "--frames", "40"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    facts = json.loads(result.stdout)
    assert (facts["videos"], facts["frames"], facts["sequences"]) == (2, 80, 8)  # 10 of 10 frames
    assert facts["frames_a_second"] > 0 and facts["peak_memory_mb"] > 0


def test_the_table_of_growth_has_a_row_a_size(tmp_path):
    axes = ["--steps", "2,4", "--sequences", "60,1e6", "--frame", "32", "--batch", "2"]
    command = [sys.executable, ROOT / "benchmarks" / "growth.py", "growth.md", "growth.png"]
    subprocess.run([*command, *axes, "--count", "1"], cwd=tmp_path, check=True)
    page = (tmp_path / "growth.md").read_text()
    rows = re.findall(r"^\| (.*?) \| ([\d,]+) \| .* \| ([\d.]+) \|$", page, re.MULTILINE)
    assert [row[:2] for row in rows] == [
        ("N", "60"),
        ("N", "1,000,000"),
        ("T", "2"),
        ("T", "4"),
        ("frame side", "32"),
        ("batch", "2"),
    ]
    assert float(rows[1][2]) < 2  # GB for a million sequences of 98 kB
    assert (tmp_path / "growth.png").read_bytes()[:4] == b"\x89PNG"
