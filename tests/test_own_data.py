"""The pages of docs/own_data.md: each example as it stands, but for one epoch of training."""

import csv
import json
import re

import numpy as np
import pytest
from click.testing import CliRunner

from conftest import ROOT
from pyro_dsae.cli.main import main
from pyro_dsae.datasets import SequenceFile

PAGE = (ROOT / "docs" / "own_data.md").read_text()
BLOCK = r"test_own_data.py -->\n```{}\n(.*?)```"


def answers(*words):
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the example has run."""
    place = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        exec(re.search(BLOCK.format("python"), PAGE, re.DOTALL)[1], {})
        lines = re.search(BLOCK.format(""), PAGE, re.DOTALL)[1].strip().splitlines()
        for line in lines:
            answers(*line.removeprefix("dsae ").replace("--epochs 150", "--epochs 1").split())
    return place


def test_the_table_of_the_page_goes_all_the_way(folder, monkeypatch):
    monkeypatch.chdir(folder)
    facts = json.loads(answers("info", "stations.h5", "--json"))
    assert facts["sequences"] == 120 and facts["steps"] == "10 to 16"
    assert facts["factors"] == {"station": "static", "weather": "dynamic"}
    assert facts["channels"] == ["heat", "wind", "light"]
    assert facts["missing"] == pytest.approx(0.2, abs=0.03)
    made = {path.name for path in (folder / "runs/stations/figures").iterdir()}
    assert made == {"swap.png", "complete.png"}
    report = json.loads((folder / "runs/stations/evaluation.json").read_text())["sections"]
    assert "cannot be rendered" in report["exact"]["figures"]["missing"]
    codes = report["codes"]["figures"]
    assert codes["probes"]["split"] == "official"
    assert {"static station from f", "dynamic weather from z_t"} <= set(codes["probes"]["accuracy"])
    assert 0 <= codes["verification"]["eer_f"] <= 1
    assert report["bound"]["figures"]["elbo"] < 0


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        (["reconstruct", "--sequences", "2"], {"reconstruction_mse"}),
        (["swap", "--pair", "0", "1"], set()),
        (["predict", "--context", "5", "--horizon", "20"], {"prediction_mse", "repeat_mse"}),
        (["complete"], {"completion_mse", "nearest_mse", "mean_mse", "hidden_values"}),
        (["complete", "--hide", "steps", "--missing", "0.2"], {"completion_mse"}),
        (["sample", "--sequences", "3", "--steps", "30"], set()),
    ],
)
def test_a_command_draws_lines_of_series(command, keys, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    name, *options = command
    call = [name, "runs/stations", *options, "--json", "--out", str(tmp_path)]
    facts = json.loads(answers(*call))
    assert keys <= set(facts) and "reconstruction_psnr" not in facts
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.png"]
    assert facts["figures"] == [str(tmp_path / f"{name}.png")]


def test_what_is_missing_is_filled_in_a_file(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    call = ["complete", "runs/stations", "--out", str(tmp_path), "--fill", str(tmp_path / "a.npz")]
    assert json.loads(answers(*call, "--json"))["filled"] == str(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as held, SequenceFile.open("stations.h5") as file:
        rows = file.split("test")
        assert held["id"].tolist() == [file.ids[row] for row in rows]
        seen = file.mask(rows)
        assert (held["observed"] == seen).all() and held["length"].tolist() == [*file.lengths[rows]]
        assert np.allclose(held["x"][seen], file.read(rows)[seen], atol=1e-4)
        assert held["x"][
            ~seen & (np.arange(seen.shape[1]) < file.lengths[rows, None])[..., None]
        ].all()
    result = CliRunner().invoke(main, call)
    assert result.exit_code == 1 and "a.npz: exists already" in result.stderr


def test_channels_in_another_order_are_refused(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    head, *rows = csv.reader((folder / "stations.csv").read_text().splitlines())
    cells = "\n".join(",".join([*row[:-2], row[-1], row[-2]]) for row in [head, *rows])
    (tmp_path / "turned.csv").write_text(cells)
    table = [
        "prepare",
        "table",
        str(tmp_path / "turned.h5"),
        "--source",
        str(tmp_path / "turned.csv"),
    ]
    factors = "--sequence-id day --time hour --static station --dynamic weather"
    answers(*table, *factors.split())
    call = ["reconstruct", "runs/stations", "--data", str(tmp_path / "turned.h5")]
    result = CliRunner().invoke(main, call)
    assert result.exit_code == 1 and "bring them in this order" in result.stderr


def test_a_split_by_group_is_probed_within_the_groups(folder, monkeypatch):
    """A station that no train sequence is of can still be told from another."""
    monkeypatch.chdir(folder)
    table = "prepare table groups.h5 --source stations.csv --sequence-id day --time hour"
    factors = ["--static", "station", "--dynamic", "weather", "--group", "station"]
    answers(*table.split(), *factors, "--test-fraction", "0.4")
    call = ["evaluate", "runs/stations", "--data", "groups.h5", "--only", "codes", "--json"]
    probes = json.loads(answers(*call))["sections"]["codes"]["figures"]["probes"]
    assert probes["split"] == "within-group"
    assert probes["train"] == 2 * 12 and probes["test"] == 2 * 6  # 20 days of each of 2 stations


def test_what_a_run_remembers_measures_another_file_too(folder, monkeypatch):
    monkeypatch.chdir(folder)
    rows = (folder / "stations.csv").read_text().splitlines()
    warmer = [rows[0]]
    for row in rows[1:]:
        *cells, heat, wind, light = row.split(",")
        warmer.append(",".join([*cells, str(float(heat) + 100) if heat else "", wind, light]))
    (folder / "warmer.csv").write_text("\n".join(warmer))
    table = "prepare table warmer.h5 --source warmer.csv --sequence-id day --time hour"
    answers(*table.split(), "--static", "station", "--static", "weather", "--overwrite")
    call = ["reconstruct", "runs/stations", "--json"]
    near = json.loads(answers(*call))["reconstruction_mse"]
    far = json.loads(answers(*call, "--data", "warmer.h5"))["reconstruction_mse"]
    assert far > 10 * near
