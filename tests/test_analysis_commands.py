"""The commands on a run: what they print and write, and what they refuse."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from conftest import write_drawings
from pyro_dsae import DSAE, ModelConfig, TrainingConfig, fit, load
from pyro_dsae.cli.main import main
from pyro_dsae.datasets import Factor, SequenceFile, prepare

TINY = {"channels": (2, 2, 4, 4), "code_dim": 8, "hidden_dim": 6, "static_dim": 4, "dynamic_dim": 2}
TEST = 27  # sequences in the test part


def dsae(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def answer(*arguments):
    result = dsae(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def picture(path):
    return Image.open(io.BytesIO(Path(path).read_bytes()))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare("toy-sprites", tmp_path_factory.mktemp("data") / "toy.h5", characters=12)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "trained"
    with SequenceFile.open(data) as file:
        sequences = file.sequences("train")
    training = TrainingConfig(epochs=1, validation_fraction=0.3, seed=1)
    fit(DSAE(ModelConfig(**TINY)), sequences, path, training)
    return path


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def drawings(tmp_path):
    """A file that no source renders: ragged grey sequences without factors, one part."""
    path, lengths = tmp_path / "drawings.h5", np.array([2, 3, 3, 2])
    x = np.random.default_rng(0).integers(1, 256, (4, 3, 64, 64, 3), dtype=np.uint8)
    x[np.arange(3) >= lengths[:, None]] = 0
    return write_drawings(path, x, np.empty((4, 0)), [], {"test": np.arange(4)}, lengths)


def test_reconstruct_draws_and_prints_the_error_of_the_whole_part(run, data):
    facts = answer("reconstruct", run, "--sequences", 2)
    assert (facts["data"], facts["part"], facts["sequences"]) == ("toy-sprites", "test", TEST)
    assert facts["figures"] == [str(run / "figures" / "reconstruct.png")]
    with SequenceFile.open(data) as file:
        x = file.sequences("test").batch(np.arange(TEST), load(run).model.origin.device)[0]
    mse = (load(run).reconstruct(x) - x).square().mean().item()
    assert facts["reconstruction_mse"] == pytest.approx(mse, rel=1e-5)
    assert picture(facts["figures"][0]).format == "PNG"


def test_swap_draws_and_scores_all_pairs(run, tmp_path):
    facts = answer("swap", run, "--pairs", 2, "--out", tmp_path / "pictures")
    assert facts["pairs"] == TEST and facts["part"] == "test"
    assert facts["swap_ratio"] == pytest.approx(facts["swap_mse"] / facts["reconstruction_mse"])
    assert facts["near_A"] + facts["near_B"] + facts["near_other"] == pytest.approx(1)
    png, gif = facts["figures"]
    assert png == str(tmp_path / "pictures" / "swap.png")
    assert picture(png).height > 2 * 6 * 128
    assert picture(gif).format == "GIF" and picture(gif).n_frames == 8
    assert not (run / "figures").exists()


def test_swap_shows_the_pairs_that_are_named(run):
    one = picture(answer("swap", run, "--pair", 0, 10)["figures"][0]).height
    two = picture(answer("swap", run, "--pair", 0, 10, "--pair", 26, 4)["figures"][0]).height
    assert two > 1.5 * one  # and replaces the figure of before


def test_swap_prints_the_scores_in_lines_without_json(run):
    result = dsae("swap", run, "--pairs", 1)
    keys = [line.split()[0] for line in result.stdout.splitlines()]
    assert keys[:3] == ["data", "part", "reconstruction_mse"] and keys[-2:] == ["figures"] * 2
    assert "scoring 27 pairs" in result.stderr


def test_swap_without_a_true_target_draws_and_says_why_there_is_no_score(run, drawings):
    result = dsae("swap", run, "--data", drawings, "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert set(facts) == {"data", "part", "figures"}
    assert "no exact scores:" in result.stderr and "cannot be rendered" in result.stderr
    assert picture(facts["figures"][1]).n_frames == 3  # the longest, not the padding


def test_swap_scores_ragged_sequences_of_another_source(run, tmp_path):
    shapes = {"characters": 4, "motions": 3, "steps": 5, "shortest": 3}
    path = prepare("moving-shapes", tmp_path / "shapes.h5", **shapes)
    facts = answer("swap", run, "--data", path, "--part", "train", "--pairs", 2)
    assert (facts["data"], facts["part"], facts["pairs"]) == ("moving-shapes", "train", 9)


def test_swap_of_one_appearance_scores_nothing_but_draws_what_differs_most(run, data, tmp_path):
    with SequenceFile.open(data) as file:
        rows = np.flatnonzero(file.groups == file.groups[0])
        labels = file.labels([factor.name for factor in file.factors])[rows]
        x, factors = file.read(rows), file.factors
    alone = write_drawings(tmp_path / "alone.h5", x, labels, factors, {"test": np.arange(9)})
    result = dsae("swap", run, "--data", alone)
    assert result.exit_code == 0 and "cannot be paired" in result.stderr
    assert dsae("swap", run, "--data", alone, "--pair", 0, 1).exit_code == 0


def test_similarity_prints_twelve_pairs_strata_and_areas(run):
    facts = answer("similarity", run)
    assert len(facts["table"]) == 12 and len(facts["strata"]) == 3
    assert sum(stratum["pairs"] for stratum in facts["strata"]) == TEST * (TEST - 1) // 2
    assert 0 <= facts["auroc_appearance"] <= 1 and 0 <= facts["auroc_motion"] <= 1
    lines = dsae("similarity", run).stdout.splitlines()
    assert len(lines) == 1 + 12 + 1 + 1 + 3 + 1 + 2
    first, _, _ = (line.split("  ") for line in lines[1:4])
    assert first[0].startswith("char") and f"{facts['table'][0]['cos_f']:.3f}" in lines[1]


def test_sample_needs_no_data_and_follows_its_seed(run, data, tmp_path):
    (run / "config.json").write_text(
        json.dumps({**json.loads((run / "config.json").read_text()), "data": {}})
    )
    facts = [
        answer("sample", run, "--sequences", 7, "--steps", 3, "--seed", seed, "--out", out)
        for seed, out in ((0, tmp_path / "a"), (0, tmp_path / "b"), (1, tmp_path / "c"))
    ]
    pictures = [np.array(picture(fact["figures"][0])) for fact in facts]
    assert (pictures[0] == pictures[1]).all() and (pictures[0] != pictures[2]).any()
    assert picture(facts[0]["figures"][1]).n_frames == 3


def test_embed_writes_codes_with_names_and_factors(run, data, tmp_path):
    out, table = tmp_path / "codes.npz", tmp_path / "codes.csv"
    assert dsae("embed", run, out).exit_code == 0
    codes = np.load(io.BytesIO(out.read_bytes()))
    assert codes["f"].shape == (TEST, 4) and codes["z"].shape == (TEST, 8, 2)
    with SequenceFile.open(data) as file:
        rows = file.split("test")
        assert codes["id"].tolist() == [file.ids[row] for row in rows]
        actions = [file.factors[4].classes[i] for i in file.labels(["action"])[rows, 0]]
    assert codes["factor_action"].tolist() == actions
    assert dsae("embed", run, table, "--part", "train").exit_code == 0
    with table.open() as lines:
        assert len(list(csv.DictReader(lines))) == 81


def test_embed_writes_real_values_and_unknown_classes(run, tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (3, 2, 64, 64, 3), dtype=np.uint8)
    factors = [Factor("speed", "dynamic"), Factor("who", "static", ("a", "b"))]
    labels = np.array([[0.5, 0], [1.5, -1], [2.5, 1]])
    data = write_drawings(tmp_path / "x.h5", x, labels, factors, {"test": np.arange(3)})
    assert dsae("embed", run, tmp_path / "codes.npz", "--data", data).exit_code == 0
    codes = np.load(io.BytesIO((tmp_path / "codes.npz").read_bytes()))
    assert codes["factor_speed"].tolist() == [0.5, 1.5, 2.5]
    assert codes["factor_who"].tolist() == ["a", "", "b"]


@pytest.mark.parametrize("command", ["reconstruct", "swap", "similarity", "predict", "complete"])
def test_the_part_validation_is_what_the_training_held_out(command, run, data):
    assert answer(command, run, "--part", "validation")["part"] == "validation"


def test_the_part_validation_has_the_sequences_that_training_did_not_see(run, data, tmp_path):
    out = tmp_path / "codes.npz"
    assert dsae("embed", run, out, "--part", "validation").exit_code == 0
    codes = np.load(io.BytesIO(out.read_bytes()))
    model, ids = load(run), codes["id"].tolist()
    with SequenceFile.open(data) as file:
        seen, held = file.sequences("train").hold_out(0.3, seed=1)
        rows = [file.ids.index(name) for name in ids]
        assert len(seen) + len(held) == 81 and set(file.groups[rows]) == set(held.groups)
    assert len(ids) == len(held) == 27
    f, z = model.encode(held.batch(np.arange(27), torch.device("cpu"))[0])
    np.testing.assert_allclose(codes["f"], f.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(codes["z"], z.numpy(), rtol=1e-4, atol=1e-5)


def test_a_files_own_part_validation_wins(run, tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (3, 2, 64, 64, 3), dtype=np.uint8)
    parts = {"train": np.arange(1), "validation": np.arange(1, 3)}
    data = write_drawings(tmp_path / "x.h5", x, np.empty((3, 0)), [], parts)
    facts = answer("reconstruct", run, "--data", data, "--part", "validation", "--sequences", 1)
    assert facts["sequences"] == 2


def test_nothing_was_held_out_of_other_data(run, drawings):
    result = dsae("reconstruct", run, "--data", drawings, "--part", "validation")
    refused(result, 2, "part is 'validation', but", "was not trained on", "its parts are test")


def test_info_describes_a_run(run, data):
    facts = answer("info", run)
    assert facts["model"]["guide"] == "factorized" and facts["training"]["epochs"] == 1
    assert facts["data"]["path"] == str(data) and facts["epochs"] == 1
    assert facts["last"]["epoch"] == 1 and "validation_elbo" in facts["last"]
    lines = [line.split() for line in dsae("info", run).stdout.splitlines()]
    assert ["epochs", "1"] in lines and ["model.guide", "factorized"] in lines


def test_predict_scores_each_step_and_draws_beyond_the_data(run):
    facts = answer("predict", run, "--context", 5, "--horizon", 4, "--sequences", 2)
    assert (facts["sequences"], facts["context"], facts["horizon"]) == (TEST, 5, 4)
    for name in ("prediction_mse", "repeat_mse"):
        *scored, beyond = facts[name]
        assert beyond is None and all(mse > 0 for mse in scored)
    assert facts["figures"] == [str(run / "figures" / "predict.png")]
    beyond = picture(facts["figures"][0])
    within = picture(answer("predict", run, "--context", 5, "--sequences", 2)["figures"][0])
    assert beyond.height == within.height and beyond.width > within.width
    lines = [line.split()[0] for line in dsae("predict", run, "--horizon", 5).stdout.splitlines()]
    scored = [f"step_{t}" for t in (5, 6, 7, 8)]
    assert [line.split(".")[1] for line in lines if "." in line] == scored * 2


def test_predict_shows_sequences_that_are_longer_than_the_context(run, drawings):
    call = ["predict", run, "--data", drawings, "--context", 2, "--sequences"]
    facts = answer(*call, 2)
    assert facts["sequences"] == 2 and len(facts["prediction_mse"]) == 1
    message = "sequences is 3, but the part test has 2 sequences longer than 2 steps"
    refused(dsae(*call, 3), 2, message)


def test_complete_scores_the_hidden_frames_and_follows_its_seed(run):
    facts = answer("complete", run, "--missing", 0.25, "--sequences", 2)
    assert facts["hidden_frames"] == TEST * 2 and facts["missing"] == 0.25
    assert facts["completion_mse"] > 0 and facts["nearest_mse"] > 0
    assert picture(facts["figures"][0]).height > 2 * 3 * 128
    assert facts == answer("complete", run, "--missing", 0.25, "--sequences", 2)
    assert facts != answer("complete", run, "--missing", 0.25, "--sequences", 2, "--seed", 1)


def test_complete_of_ragged_sequences(run, drawings):
    facts = answer("complete", run, "--data", drawings, "--missing", 0.9)
    assert facts["hidden_frames"] == 1 + 2 + 2 + 1  # one frame of each stays


COMMANDS = ["reconstruct", "swap", "similarity", "predict", "complete", "embed"]


def arguments(command, run, tmp_path):
    return [command, run, tmp_path / "codes.npz"] if command == "embed" else [command, run]


def refused(result, code, *words):
    assert result.exit_code == code, result.output
    for word in words:
        assert word in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output and result.stdout == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_or_data_that_cannot_be_used_is_one_line_and_leaves_nothing(
    command, run, data, tmp_path
):
    call = arguments(command, run, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    refused(dsae(command, tmp_path / "absent", *call[2:]), 1, "absent", "no run is here")
    refused(dsae(command, data, *call[2:]), 1, "no run is here")
    refused(dsae(*call, "--data", tmp_path / "absent.h5"), 1, "no such file")
    refused(dsae(*call, "--part", "tset"), 2, "part is 'tset', but must be one of: train, test")
    refused(dsae(*call, "--device", "tpu"), 2, "device is 'tpu'")
    refused(dsae(*call, "--device", "cuda:99"), 2, "device is 'cuda:99'")

    config = json.loads((run / "config.json").read_text())

    def changed(**data):
        (run / "config.json").write_text(json.dumps({**config, "data": data}))
        return dsae(*call)

    refused(changed(), 2, "remembers no data file; name one with --data")
    refused(changed(name="mine"), 2, "remembers no data file; name one with --data")
    gone = {"path": str(tmp_path / "gone.h5"), "content_sha256": "0" * 64}
    refused(changed(**gone), 1, "gone.h5", "which is gone; name it with --data")
    other = {**config["data"], "content_sha256": "0" * 64}
    refused(changed(**other), 1, "holds other data", "000000000000", "--data")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_data_of_another_frame_shape_is_refused(command, run, tmp_path):
    small = tmp_path / "small.h5"
    prepare("moving-shapes", small, characters=2, size=32, motions=1)
    result = dsae(*arguments(command, run, tmp_path), "--data", small)
    refused(result, 1, "(3, 32, 32)", "(3, 64, 64)", "from another model or data")


def test_a_damaged_run_is_one_line(run):
    weights = run / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    refused(dsae("sample", run), 1, "not a whole safetensors file")
    weights.unlink()
    refused(dsae("sample", run), 1, "model.safetensors: no such file")
    weights.write_bytes(whole)
    config = json.loads((run / "config.json").read_text())
    other = {**config, "model": {**config["model"], "static_dim": 9}}
    (run / "config.json").write_text(json.dumps(other))
    refused(dsae("sample", run), 1, "its weights are of another model")
    for damaged in ("{", "[]", '{"model": 3, "training": {}}', '{"model": {}, "training": "x"}'):
        (run / "config.json").write_text(damaged)
        refused(dsae("sample", run), 1, "config.json is damaged")
        refused(dsae("info", run), 1, "config.json is damaged")
    (run / "config.json").write_text(json.dumps(config))
    (run / "metrics.jsonl").write_text("{")
    refused(dsae("info", run), 1, "metrics.jsonl: is damaged")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["swap", "--pair", "0", "27"], ["pair holds 27", "part test are 0 to 26"]),
        (["swap", "--pair", "-1", "3"], ["pair holds -1", "0 to 26"]),
        (["swap", "--pairs", "28"], ["pairs is 28, but the part test has 27"]),
        (["swap", "--pairs", "0"], ["--pairs", "0"]),
        (["swap", "--pairs", "1", "--pair", "0", "1"], ["leave one of them out"]),
        (["reconstruct", "--sequences", "28"], ["sequences is 28, but the part test has 27"]),
        (["reconstruct", "--seed", "-1"], ["--seed", "-1"]),
        (["sample", "--steps", "0"], ["--steps", "0"]),
        (["predict", "--context", "8"], ["context is 8", "longest sequence, which has 8 steps"]),
        (["predict", "--context", "0"], ["--context", "0"]),
        (["predict", "--horizon", "0"], ["--horizon", "0"]),
        (["predict", "--sequences", "28"], ["sequences is 28, but the part test has 27"]),
        (["complete", "--missing", "0"], ["--missing", "0"]),
        (["complete", "--missing", "1"], ["--missing", "1"]),
    ],
)
def test_a_bad_option_is_one_line_and_leaves_nothing(options, words, run):
    command, *rest = options
    refused(dsae(command, run, *rest), 2, *words)
    assert not (run / "figures").exists()


def test_embed_refuses_another_suffix_and_an_existing_file(run, tmp_path):
    refused(dsae("embed", run, tmp_path / "codes.txt"), 2, "must end in one of: .npz, .csv")
    out = tmp_path / "codes.csv"
    out.write_text("mine")
    refused(dsae("embed", run, out), 1, "codes.csv: exists already", "--overwrite")
    refused(dsae("embed", run, tmp_path / "no" / "codes.csv"), 1, "does not exist")
    assert out.read_text() == "mine"
    assert dsae("embed", run, out, "--overwrite").exit_code == 0
    assert out.read_text().startswith("id,length,body,")


def test_an_output_that_cannot_be_written_is_one_line(run, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("mine")
    refused(dsae("sample", run, "--out", blocked / "figures"), 1, "file")
    refused(dsae("sample", run, "--out", blocked), 2, "--out")
    assert blocked.read_text() == "mine"


def test_a_full_disk_leaves_no_half_figure(run, little_space):
    refused(dsae("sample", run, "--sequences", 20), 1, "cannot write")
    assert list((run / "figures").iterdir()) == []
