"""Videos of a user's own, from the files to a swap, by the commands."""

import json
import re
import shlex

import numpy as np
import pytest
from click.testing import CliRunner

from conftest import ROOT
from drawn_videos import numbered, write_kth, write_video
from pyro_dsae.cli.main import main
from pyro_dsae.datasets import SequenceFile

README = (ROOT / "README.md").read_text()
CONFIG = """
[model]
channels = [2, 2, 4, 4]
code_dim = 8
hidden_dim = 6
static_dim = 4
dynamic_dim = 2
[training]
epochs = 1
batch_size = 4
"""


def dsae(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def refused(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    return result.exit_code, result.stderr.splitlines()[-1]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder to work in, few trees and few draws."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pyro_dsae.evaluation.probes.TREES", 2)
    (tmp_path / "tiny.toml").write_text(CONFIG)
    return tmp_path


def test_a_set_like_kth_goes_from_its_archives_to_swaps_and_scores(folder):
    (folder / "kth").mkdir()
    write_kth(folder / "kth")
    said = dsae("prepare", "kth", "kth.h5", "--source", "kth", "--size", "16x32", "--frames", 6)
    assert said.stdout == "kth.h5\n"
    assert "skipped 1: cannot be decoded: person12_boxing_d1#3, frames 41 to 60 of" in said.stderr
    facts = json.loads(dsae("info", "kth.h5", "--json").output)
    assert facts["frame_shape"] == [1, 16, 32] and set(facts["splits"]) == {
        "official",
        "within-group",
    }
    assert facts["skipped"]["cannot be decoded"] == 1
    dsae("fit", "kth.h5", "run", "--config", "tiny.toml")
    assert "cannot be rendered" in dsae("swap", "run").stderr
    assert (folder / "run" / "figures" / "swap.png").exists()
    dsae("evaluate", "run")
    sections = json.loads((folder / "run" / "evaluation.json").read_text())["sections"]
    assert "cannot be rendered" in sections["exact"]["figures"]["missing"]
    codes = sections["codes"]["figures"]
    assert "dynamic action from mean_z" in codes["probes"]["accuracy"]
    assert sections["similarity"]["figures"]["auroc_appearance"] is not None
    assert np.isfinite(sections["bound"]["figures"]["elbo"])


def test_videos_without_labels_are_fitted_swapped_and_measured(folder):
    for n in range(5):
        write_video(folder / "mine" / f"{n}.avi", numbered(4 + 3 * n, 32, 32))
    options = ["--size", "16x48", "--crop", "none", "--colour", "rgba", "--frames", 5]
    dsae("prepare", "videos", "x.h5", "--source", "mine", *options)
    assert json.loads(dsae("info", "x.h5", "--json").output)["frame_shape"] == [4, 16, 48]
    dsae("fit", "x.h5", "run", "--config", "tiny.toml")
    for command in ("reconstruct", "swap"):
        option = "--pairs" if command == "swap" else "--sequences"
        dsae(command, "run", option, 1, "--part", "train")
    dsae("sample", "run", "--sequences", 1, "--steps", 3)
    dsae("evaluate", "run", "--part", "train")
    sections = json.loads((folder / "run" / "evaluation.json").read_text())["sections"]
    codes = sections["codes"]["figures"]
    assert "no factors with one class" in codes["probes"]["missing"]
    assert 0 <= codes["verification"]["eer_f"] <= 1  # of windows of one video


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--source", "absent"], 1, "Error: absent: no such folder"),
        (["--source", "mine", "--size", "6x4x2"], 2, "'6x4x2' is not a size such as 64 or 48x64"),
        (["--source", "mine", "--size", "60"], 2, "size = 60x60: each side must be a multiple"),
        (["--source", "mine", "--table", "t.csv", "--folders", "a"], 2, "table and folders both"),
        (["--source", "mine", "--table", "t.csv"], 1, "'gone.avi' is not in mine"),
        (["--source", "mine", "--dynamic", "who"], 1, "no factor is named 'who'"),
        (["--source", "mine", "--characters", "3"], 2, "takes no option 'characters'"),
        ([], 2, "videos needs the option 'source'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(folder, options, code, message):
    write_video(folder / "mine" / "a.avi", numbered(4))
    (folder / "t.csv").write_text("path,split\ngone.avi,train\n")
    before = sorted(folder.iterdir())
    found, line = refused("prepare", "videos", "x.h5", *options)
    assert found == code and message in line and sorted(folder.iterdir()) == before


def test_the_lines_of_the_readme_run(folder):
    (folder / "kth").mkdir()
    write_kth(folder / "kth")
    for name in ("a.avi", "b.avi"):
        write_video(folder / "mine" / name, numbered(3))
    (folder / "mine.csv").write_text("path,action\na.avi,walk\nb.avi,run\n")
    lines = re.findall(r"^    dsae (prepare (?:kth|videos) .*)$", README, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        dsae(*shlex.split(line))


def test_the_page_on_own_videos_runs_as_it_stands(folder):
    """Its commands, on videos that its own program draws, with a tiny model."""
    page = (ROOT / "docs" / "own_data.md").read_text()
    (program,) = re.findall(r"```python\n(# clips.*?)```", page, re.DOTALL)
    exec(program, {})
    (table,) = re.findall(r"```csv\n(path,.*?)```", page, re.DOTALL)
    (folder / "clips.csv").write_text(table)
    commands = re.findall(r"^dsae (.*clips.*|.*runs/clips.*)$", page, re.MULTILINE)
    assert {line.split()[0] for line in commands} >= {"prepare", "fit", "swap", "evaluate"}
    for line in commands:
        words = shlex.split(line)
        tiny = ["--config", "tiny.toml", "--epochs", "1"] if words[0] == "fit" else []
        dsae(*(word for word in words if word not in ("--minutes", "10")), *tiny)
    with SequenceFile.open("clips.h5") as data:
        assert [factor.name for factor in data.factors] == ["person", "action"]
        assert data.splits == {"official": ("train", "test")}
