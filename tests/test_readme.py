import re
import tomllib

import pyro
from click.testing import CliRunner

from conftest import LPC, ROOT
from pyro_dsae import ModelConfig, TrainingConfig
from pyro_dsae.cli.main import main

README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"test_readme.py -->\n```python\n(.*?)```", README, re.DOTALL)


def run(snippet: str) -> dict:
    names: dict = {}
    with pyro.get_param_store().scope():
        exec(snippet, names)
    return names


def test_the_fifteen_lines_run_and_give_the_shapes_they_state():
    names = run(SNIPPETS[0])
    assert names["loss"] > 0
    assert names["f"].shape == (8, 64) and names["z"].shape == (8, 6, 32)
    assert names["swapped"].shape == (4, 6, 3, 64, 64)


def test_a_file_is_prepared_and_a_model_trained_on_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run(SNIPPETS[1])
    assert names["dsae"].config.guide == "factorized"
    assert (tmp_path / "runs" / "b" / "metrics.jsonl").read_text().count("\n") == 1


def test_the_config_file_is_one(tmp_path, monkeypatch):
    text = re.search(r"```toml\n(.*?)```", README, re.DOTALL)[1]
    tables = tomllib.loads(text)
    assert ModelConfig.preset(tables["preset"], **tables["model"]).guide == "full"
    assert TrainingConfig.from_dict(tables["training"]).minutes == 14


def test_the_commands_run(tmp_path, monkeypatch):
    """As they stand, but on few characters, drawn ones without the sheets, and for one epoch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pyro_dsae.evaluation.judge.REQUIRED", 0.0)  # an epoch makes no judge
    lines = re.findall(r"^dsae (\w.*)$", README, re.MULTILINE)
    assert {line.split()[0] for line in lines} == set(main.commands)
    for line in lines:
        words = line.replace("--minutes 14", "--epochs 1").split()
        if words[0] == "prepare":
            source = ["sprites", words[2], "--source", str(LPC)]
            drawn = ["toy-sprites", words[2]]
            words = ["prepare", *(source if LPC.is_dir() else drawn), "--characters", "12"]
        if words[0] == "judge":
            words += ["--epochs", "1"]
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.output
    made = {path.name for path in (tmp_path / "runs" / "a" / "figures").iterdir()}
    assert {"reconstruct.png", "swap.png", "swap.gif", "sample.png"} <= made


def test_every_picture_is_there():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README)
    assert pictures and all((ROOT / picture).exists() for picture in pictures)
