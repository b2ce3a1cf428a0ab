"""``dsae evaluate``: what it measures, keeps and refuses."""

import json
import shutil
from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from conftest import few_toy_sprites, write_drawings
from pyro_dsae import DSAE, ModelConfig, TrainingConfig, fit, load, save
from pyro_dsae.analyses.codes import encode
from pyro_dsae.cli import evaluate as command
from pyro_dsae.cli import options
from pyro_dsae.cli.evaluate import SECTIONS
from pyro_dsae.cli.main import main
from pyro_dsae.datasets import DataError, Factor, SequenceFile, prepare
from pyro_dsae.evaluation import disentanglement, probes
from pyro_dsae.evaluation.judge import Judge, JudgeConfig, save_judge

TINY = {
    "frame_shape": (3, 32, 32),
    "channels": (2, 2, 4, 4),
    "code_dim": 8,
    "hidden_dim": 6,
    "static_dim": 4,
    "dynamic_dim": 2,
}
# Few sequences of many motions, which scikit-learn would rather regress
pytestmark = pytest.mark.filterwarnings("ignore:The number of unique classes:UserWarning")

SHAPES = {"characters": 8, "motions": 16, "steps": 4, "shortest": 3, "size": 32}
TEST = 32  # sequences in the test part


def dsae(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def answer(*arguments):
    result = dsae("evaluate", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(result, code, *words):
    assert result.exit_code == code, result.output
    for word in words:
        assert word in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output and result.stdout == ""


def train(data, path, **changes):
    with SequenceFile.open(data) as file:
        sequences = file.sequences("train")
    fit(DSAE(ModelConfig(**{**TINY, **changes})), sequences, path, TrainingConfig(epochs=1))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare("moving-shapes", tmp_path_factory.mktemp("data") / "shapes.h5", **SHAPES)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return train(data, tmp_path_factory.mktemp("runs") / "trained")


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def halves(path, factors, labels):
    """Whole grey sequences that no source renders, half of them for training."""
    x = np.random.default_rng(0).integers(1, 256, (8, 3, 32, 32, 3), dtype=np.uint8)
    return write_drawings(
        path, x, labels, factors, {"train": np.arange(4), "test": np.arange(4, 8)}
    )


def test_every_section_of_ragged_moving_shapes_is_measured_and_kept(run, data):
    found = answer(run)
    assert list(found["sections"]) == list(SECTIONS)
    assert found["data"]["name"] == "moving-shapes" and found["data"]["part"] == "test"
    assert found["data"]["sequences"] == TEST and found["training_seed"] == 0
    figures = {name: section["figures"] for name, section in found["sections"].items()}
    assert all("missing" not in section for section in figures.values())
    assert figures["exact"]["retrieval"]["candidates"] == 324 * 96
    assert figures["exact"]["pairs"] == figures["exact"]["retrieval"]["swaps"] == TEST
    assert set(figures["exact"]["retrieval"]["factors"]) >= {"shape", "speed"}
    pairs = sum(stratum["pairs"] for stratum in figures["similarity"]["strata"].values())
    assert pairs == figures["codes"]["verification"]["pairs"] == TEST * (TEST - 1) // 2
    assert "static shape from mean_z" in figures["codes"]["probes"]["accuracy"]
    parts = figures["bound"]
    assert parts["elbo"] == pytest.approx(
        parts["reconstruction"] - parts["kl_f"] - parts["kl_z"], rel=1e-6
    )
    assert json.loads((run / "evaluation.json").read_text()) == found
    for section in found["sections"].values():
        assert section["seconds"] > 0 and section["versions"]["torch"]
        assert section["command"].startswith(f"dsae evaluate {run} --part test --seed 0")


def test_probes_of_the_part_validation_are_fitted_on_the_rest_of_train(data, tmp_path):
    with SequenceFile.open(data) as file:
        sequences = file.sequences("train")
    training = TrainingConfig(epochs=1, validation_fraction=0.4)
    fit(DSAE(ModelConfig(**TINY)), sequences, tmp_path / "run", training)
    seen, held = sequences.hold_out(0.4, seed=0)
    found = answer(tmp_path / "run", "--part", "validation", "--only", "codes")
    probes = found["sections"]["codes"]["figures"]["probes"]
    assert (found["data"]["part"], found["data"]["sequences"]) == ("validation", len(held))
    assert (probes["train"], probes["test"]) == (len(seen), len(held))


def untrained_judge(data, path, accuracy):
    with SequenceFile.open(data) as file:
        sizes = (
            {factor.name: len(factor.classes) for factor in options.factors(file, role)}
            for role in ("static", "dynamic")
        )
        config = JudgeConfig(file.frame_shape, *sizes, TINY["channels"], code_dim=8, hidden_dim=6)
    judge = Judge(config)
    judge.accuracy = dict.fromkeys(config.heads, accuracy)
    save_judge(judge, path)
    return path


def test_a_judge_adds_its_sections(run, data, tmp_path, monkeypatch):
    monkeypatch.setattr("pyro_dsae.evaluation.judge.REQUIRED", 0.0)
    judge = untrained_judge(data, tmp_path / "judge", 1.0)
    answer(run, "--only", "similarity")
    call = run, "--only", "judge,samples", "--judge", judge, "--repeats", 2
    found = answer(*call)["sections"]
    assert list(found) == ["similarity", "judge", "samples"]
    assert found["samples"]["figures"]["sequences"] == TEST
    assert found["samples"]["command"].endswith(f"--judge {judge} --only samples")
    assert found["judge"]["figures"]["sequences"] == TEST
    assert found["judge"]["figures"]["repeats"] == 2
    assert found["judge"]["command"].endswith(f"--judge {judge} --repeats 2 --only judge")
    used = found["samples"]["judge"]
    assert used["sha256"] == sha256(judge.read_bytes()).hexdigest()
    assert set(used["accuracy"].values()) == {1.0} and "judge" not in found["similarity"]
    said = f"Judge of judge, samples: sha256 {used['sha256']}, right on its own test part: "
    assert said in (run / "evaluation.md").read_text()


def test_a_judge_that_is_not_believed_is_refused(run, data, tmp_path):
    judge = untrained_judge(data, tmp_path / "judge", 0.99)
    refused(dsae("evaluate", run, "--judge", judge), 1, "99.000 %", "not believed below 99.9 %")
    assert not (run / "evaluation.json").exists()


def test_a_judge_of_other_factors_is_refused_before_the_work(run, data, tmp_path, monkeypatch):
    judge = untrained_judge(data, tmp_path / "judge", 1.0)
    others = lambda *_: np.zeros((2, TEST, 7), int)  # noqa: E731
    monkeypatch.setattr(command, "_labels", others)
    refused(dsae("evaluate", run, "--judge", judge), 1, "the labels are not of the judge's factors")
    assert not (run / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (["--only", "judge"], 2, "only is 'judge' and judge is None, but the one needs the other"),
        (["--only", "bound", "--judge", "there"], 2, "but the one needs the other"),
        (["--judge", "nowhere"], 1, "nowhere: no such file"),
    ],
)
def test_a_judge_and_its_section_belong_together(run, given, code, message):
    refused(dsae("evaluate", run, *given), code, message)


def test_toy_sprites_are_measured_and_shown_in_one_table(tmp_path, monkeypatch):
    data = few_toy_sprites(tmp_path / "toy.h5", monkeypatch)
    run = train(data, tmp_path / "run", frame_shape=(3, 64, 64))
    result = dsae("evaluate", run, "--only", "exact,similarity")
    assert result.exit_code == 0, result.output
    assert result.stdout == (run / "evaluation.md").read_text()
    lines = result.stdout.splitlines()
    assert sum(line.startswith("| exact ") for line in lines) == 9 + 2 + 4 + 1
    assert any("top_1" in line for line in lines)
    found = json.loads((run / "evaluation.json").read_text())
    assert found["sections"]["exact"]["figures"]["retrieval"]["candidates"] == 12 * 9
    assert f"{found['sections']['similarity']['figures']['auroc_motion']:.6g} |" in result.stdout


def test_the_command_measures_what_the_library_does(run, data, monkeypatch):
    """Pairs and draws by the seed, names of factors in the order of their labels."""
    called = {}

    def spy(name, module):
        function = getattr(module, name)

        def call(*arguments):
            called[name] = arguments
            return function(*arguments)

        monkeypatch.setattr(module, name, call)

    for name, module in (
        ("exact_scores", command),
        ("retrieval", command),
        ("probe", probes),
        ("disentanglement", disentanglement),
    ):
        spy(name, module)
    found = answer(run, "--only", "exact,codes", "--seed", 5)["sections"]
    dsae = load(run)
    with SequenceFile.open(data) as file:
        train, test = (file.sequences(part) for part in ("train", "test"))
        names = [factor.name for factor in file.factors]
        labels = file.labels(names)[file.split("test")]
    assert called["exact_scores"][-1] == 5
    assert list(called["exact_scores"][5]) == names[4:]
    means, subject = encode(dsae, test), called["exact_scores"][2:5]
    assert torch.equal(subject[0].f, means.f) and torch.equal(subject[0].z, means.z)
    assert (np.hstack(subject[1:]) == labels).all()
    assert all(one is same for one, same in zip(called["retrieval"][2:5], subject, strict=True))
    assert called["retrieval"][-1] == 5
    assert list(found["exact"]["figures"]["retrieval"]["factors"]) == names
    drawn = encode(dsae, train, 10), encode(dsae, test, 11)
    for given, expected in zip(called["probe"], drawn, strict=False):
        assert torch.equal(given.f, expected.f) and torch.equal(given.z, expected.z)
    given, classes, seed = called["disentanglement"]
    assert torch.equal(given.z, drawn[1].z) and (classes == labels).all() and seed == 5


@pytest.mark.parametrize(
    ("last", "scheme"), [("b", "official"), ("", "official"), ("c", "within-group")]
)
def test_probes_are_split_by_group_where_one_is_to_name_who_is_new(last, scheme, tmp_path):
    groups = np.repeat(range(4), 4)  # of which two are for training
    who = np.where(groups % 2, "b", "a")
    who[-1] = last
    x, source = np.random.default_rng(0).random((16, 3, 2)), tmp_path / "x.npz"
    parts = np.where(groups < 2, "train", "test")
    np.savez(source, x=x, group=groups, split=parts, static_who=who)
    with SequenceFile.open(prepare("arrays", tmp_path / "x.h5", source=str(source))) as file:
        opened = SimpleNamespace(file=file, rows=file.split("test"), part="test")
        assert command._probed(opened)[1] == scheme


def test_the_command_of_a_section_gives_its_figures_again(run):
    first = answer(run, "--only", "similarity", "--seed", 3)["sections"]["similarity"]
    again = CliRunner().invoke(main, [*first["command"].split()[1:], "--json"])
    assert json.loads(again.stdout)["sections"]["similarity"]["figures"] == first["figures"]


def test_sections_stay_until_the_weights_change(run):
    first = answer(run, "--only", "similarity")["sections"]
    both = answer(run, "--only", "bound")["sections"]
    assert list(both) == ["similarity", "bound"] and both["similarity"] == first["similarity"]
    assert list(answer(run, "--only", "bound", "--part", "train")["sections"]) == ["bound"]
    answer(run, "--only", "similarity")
    save(DSAE(ModelConfig(**TINY)), run / "model.safetensors", overwrite=True)
    assert list(answer(run, "--only", "bound")["sections"]) == ["bound"]


def test_what_cannot_be_measured_says_why_and_the_rest_goes_on(run, tmp_path):
    plain = halves(tmp_path / "plain.h5", [], np.empty((8, 0)))
    result = dsae("evaluate", run, "--data", plain, "--only", "exact,similarity,codes")
    assert result.exit_code == 0, result.output
    assert "no exact: " in result.stderr and "cannot be rendered" in result.stderr
    sections = json.loads((run / "evaluation.json").read_text())["sections"]
    assert "cannot be rendered" in sections["exact"]["figures"]["missing"]
    assert sections["similarity"]["figures"]["strata"]
    codes = sections["codes"]["figures"]
    assert "no factors with one class" in codes["probes"]["missing"]
    assert codes["verification"]["pairs"] == 6

    who = halves(
        tmp_path / "who.h5", [Factor("who", "static", ("a", "b"))], np.arange(8)[:, None] % 2
    )
    codes = answer(run, "--data", who, "--only", "codes")["sections"]["codes"]["figures"]
    assert "1 factors" in codes["disentanglement"]["missing"]
    assert codes["verification"]["pairs"] == 6 and codes["probes"]["dynamic_from_f"] is None
    codes = answer(run, "--data", who, "--only", "codes", "--part", "train")["sections"]["codes"]
    assert "part train leaves nothing" in codes["figures"]["probes"]["missing"]
    assert codes["figures"]["verification"]["pairs"] == 6


def test_bad_input_is_one_line_and_leaves_nothing(run):
    def fails(code, words, *options):
        refused(dsae("evaluate", run, *options), code, *words)

    fails(
        2,
        ["only holds 'exakt'", "exact, similarity, codes, bound, judge, samples"],
        "--only",
        "bound,exakt",
    )
    fails(2, ["only holds ''"], "--only", "")
    fails(2, ["part is 'tset'"], "--part", "tset")
    fails(1, ["no such file"], "--data", run / "absent.h5")
    refused(dsae("evaluate", run / "absent"), 1, "no run is here")
    assert not list(run.glob("evaluation.*"))
    (run / "evaluation.json").write_text("{")
    fails(1, ["evaluation.json: is damaged; remove it"], "--only", "similarity")
    assert (run / "evaluation.json").read_text() == "{" and not (run / "evaluation.md").exists()


def test_an_error_on_the_way_keeps_what_is_measured_and_is_no_missing_figure(run, monkeypatch):
    def damaged(opened, seed):
        raise DataError("frames of sequence 3 are damaged")

    monkeypatch.setitem(SECTIONS, "bound", damaged)
    refused(dsae("evaluate", run, "--only", "similarity,bound"), 1, "sequence 3 are damaged")
    assert list(json.loads((run / "evaluation.json").read_text())["sections"]) == ["similarity"]
    assert "| similarity |" in (run / "evaluation.md").read_text()


@pytest.mark.parametrize("key", ["device", "figures", "versions"])
def test_a_section_that_lacks_something_is_damaged_before_the_work(run, key):
    found = answer(run, "--only", "similarity")
    del found["sections"]["similarity"][key]
    (run / "evaluation.json").write_text(json.dumps(found))
    refused(dsae("evaluate", run, "--only", "bound"), 1, "evaluation.json: is damaged; remove it")
    assert json.loads((run / "evaluation.json").read_text()) == found


def test_a_part_of_one_sequence_is_measured_as_far_as_it_goes(run, tmp_path):
    x = np.random.default_rng(0).integers(1, 256, (2, 3, 32, 32, 3), dtype=np.uint8)
    parts = {"train": np.arange(1), "test": np.arange(1, 2)}
    one = write_drawings(tmp_path / "one.h5", x, np.empty((2, 0)), [], parts)
    found = answer(run, "--data", one)["sections"]
    assert "a pair needs two" in found["similarity"]["figures"]["missing"]
    assert found["bound"]["figures"]["gain_error"] is None
    assert "NaN" not in (run / "evaluation.json").read_text()


def test_a_full_disk_leaves_the_evaluation_of_before(run, monkeypatch, little_space):
    answer(run, "--only", "similarity")
    before = (run / "evaluation.json").read_text()
    monkeypatch.setitem(SECTIONS, "bound", lambda opened, seed: {"long": "x" * 60_000})
    refused(dsae("evaluate", run, "--only", "bound"), 1, "cannot write")
    assert (run / "evaluation.json").read_text() == before
    assert sorted(run.glob("*evaluation*")) == [run / "evaluation.json", run / "evaluation.md"]
