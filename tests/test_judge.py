"""The judge: what it learns, what never reaches it, and what it refuses."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from conftest import tiny_model, write_drawings
from pyro_dsae import CheckpointError, Sequences, load, save
from pyro_dsae.checkpoint import write_weights
from pyro_dsae.cli.main import main
from pyro_dsae.datasets import Factor, prepare
from pyro_dsae.evaluation.judge import (
    CHECKS,
    Judge,
    JudgeConfig,
    JudgeError,
    accuracies,
    check_accuracy,
    fused,
    load_judge,
    save_judge,
    train_judge,
)

STATIC, DYNAMIC = {"colour": 3}, {"start": 2, "way": 2}
TINY = {"channels": (8, 8, 16, 16), "code_dim": 32, "hidden_dim": 32}
CONFIG = JudgeConfig((3, 16, 16), STATIC, DYNAMIC, **TINY)
STEPS, EPOCHS = 4, 30


def part(groups: int, seed: int) -> tuple[Sequences, dict[str, np.ndarray]]:
    """A bar of one of 3 colours that goes left or right from one of 2 places, in noise."""
    labels = np.tile(np.indices((3, 2, 2)).reshape(3, -1).T, (groups, 1))
    random = np.random.default_rng(seed)
    x = random.integers(0, 100, (len(labels), STEPS, 16, 16, 3), dtype=np.uint8)
    for row, (colour, start, way) in zip(x, labels, strict=True):
        for t in range(STEPS):
            left = 6 + 2 * start + t * (2 * way - 1)
            row[t, :, left : left + 2, colour] = 255
    sequences = Sequences(x, np.full(len(x), STEPS), np.repeat(np.arange(groups), 12))
    return sequences, CONFIG.targets(labels[:, :1], labels[:, 1:])


def trained(groups: int = 20, **options) -> Judge:
    torch.manual_seed(0)
    return train_judge(Judge(CONFIG), *part(groups, 1), **{"epochs": EPOCHS, **options})


def same_weights(one: Judge, other: Judge) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


@pytest.fixture(scope="module")
def judge() -> Judge:
    judge = trained()
    judge.accuracy = accuracies(judge, *part(10, 2))
    return judge


def test_it_learns_every_factor_and_is_right_on_new_sequences(judge):
    assert judge.accuracy == {"motion": 1, "colour": 1}
    assert not judge.training


def test_training_ends_after_a_whole_pass_without_an_error_on_the_held_out_part():
    steps, checks = [], []
    trained(
        on_step=lambda progress, loss: steps.append((progress, loss.item())),
        on_check=lambda passes, accuracy: checks.append((passes, accuracy)),
    )
    flawless = [min(accuracy.values()) == 1 for _, accuracy in checks]
    assert flawless[-CHECKS - 1 :] == [False] + [True] * CHECKS
    assert checks[-1][0] < EPOCHS and steps[-1][0] == pytest.approx(checks[-1][0] / EPOCHS)
    assert [passes for passes, _ in checks[CHECKS - 1 :: CHECKS]] == list(
        range(1, 1 + len(checks) // 4)
    )
    assert steps[-1][1] < steps[0][1] / 5


def test_a_pass_of_one_step_is_over_after_one_check_without_an_error(monkeypatch):
    checks = []
    monkeypatch.setattr("pyro_dsae.evaluation.judge.BATCH", 1000)
    check = lambda passes, accuracy: checks.append(min(accuracy.values()))  # noqa: E731
    trained(epochs=200, on_check=check)
    assert checks[-1] == 1 and 1 not in checks[:-1]


def test_the_same_seed_gives_the_same_weights():
    runs = [trained(groups=4, epochs=1, seed=seed) for seed in (5, 5, 6)]
    assert same_weights(runs[0], runs[1]) and not same_weights(runs[0], runs[2])


def test_the_labels_of_the_held_out_part_do_not_reach_the_weights():
    sequences, targets = part(4, 1)
    held_out = sequences.held_out(0.05, seed=0)
    runs = []
    for change in (held_out, ~held_out):
        wrong = {name: np.where(change, 0, values) for name, values in targets.items()}
        torch.manual_seed(0)
        runs.append(train_judge(Judge(CONFIG), sequences, wrong, epochs=1))
    right = trained(groups=4, epochs=1)
    assert same_weights(right, runs[0]) and not same_weights(right, runs[1])


def test_one_group_cannot_be_held_out():
    with pytest.raises(JudgeError, match="cannot hold out 0.05 of 1 groups"):
        trained(groups=1)


def test_padding_has_no_effect_on_the_verdict_nor_on_batch_norm(judge):
    sequences, _ = part(1, 3)
    lengths = np.arange(12) % STEPS + 1
    ragged = Sequences(sequences.x, lengths, sequences.groups)  # with frames after a length
    x, mask = ragged.batch(np.arange(12), torch.device("cpu"))
    with torch.no_grad():
        together = judge(x, mask)
        for row, length in enumerate(lengths):
            alone = judge(x[row : row + 1, :length])
            for name, logits in together.items():
                assert torch.allclose(logits[row], alone[name][0], atol=0.05)
        assert not torch.allclose(together["motion"], judge(x)["motion"], atol=0.5)
    statistics = []
    for padding in (x, x * mask[..., None, None, None]):
        torch.manual_seed(0)
        new = Judge(CONFIG)
        new(padding, mask)
        statistics.append(new.encoder.convolutions[1].running_mean)
    assert torch.equal(*statistics)


def test_a_fused_judge_says_the_same_without_batch_norm(judge):
    encoder, faster = judge.encoder, fused(judge).encoder
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in encoder.modules())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in faster.modules())
    encoder.bfloat16 = faster.bfloat16 = False
    x = part(2, 3)[0].batch(np.arange(24), torch.device("cpu"))[0]
    assert torch.allclose(encoder(x), faster(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frame_shape", [(3, 16, 16), (1, 32, 48)])
def test_its_size_follows_the_frames_and_a_gradient_reaches_every_parameter(frame_shape):
    judge = Judge(JudgeConfig(frame_shape, {"type": 3, "a.b": 2}, DYNAMIC, **TINY))
    logits = judge(torch.rand(2, 3, *frame_shape))
    assert {name: tuple(values.shape) for name, values in logits.items()} == {
        "motion": (2, 4),
        "type": (2, 3),
        "a.b": (2, 2),
    }
    sum(values.logsumexp(dim=1).sum() for values in logits.values()).backward()
    assert all(parameter.grad.any() for parameter in judge.parameters())


def test_the_architecture_is_the_fields_with_half_the_channels():
    judge = Judge(JudgeConfig((3, 64, 64), {"body": 6}, {"action": 3, "direction": 3}))
    shapes = {name: tuple(value.shape) for name, value in judge.named_parameters()}
    sizes = [shape for shape in shapes.values() if len(shape) == 4]
    assert sizes == [(32, 3, 4, 4), (64, 32, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4)]
    assert shapes["encoder.code.weight"] == (128, 256 * 4 * 4)
    assert shapes["lstm.lstm.weight_hh_l0_reverse"] == (4 * 256, 256)
    assert shapes["heads.0.0.weight"] == (256, 512)
    assert shapes["heads.0.2.weight"] == (9, 256)


def test_the_motion_is_the_combination_of_the_dynamic_factors():
    config = JudgeConfig((3, 64, 64), {"body": 6}, {"action": 3, "direction": 4})
    assert config.heads == {"motion": 12, "body": 6}
    targets = config.targets(np.array([[5], [0]]), np.array([[2, 1], [0, 3]]))
    assert {name: values.tolist() for name, values in targets.items()} == {
        "motion": [9, 3],
        "body": [5, 0],
    }


@pytest.mark.parametrize(
    ("static", "dynamic", "message"),
    [
        ([[0, 0]], [[0, 0]], "not of the judge's factors, which are colour; use a judge that"),
        ([[3]], [[0, 0]], "not of the judge's factors, which are colour"),
        ([[0]], [[0]], "not of the judge's factors, which are start, way"),
        ([[0], [0]], [[0, 1], [1, -1]], "way of sequence 1 is unknown, but a judge needs every"),
    ],
)
def test_labels_that_do_not_fit_are_refused(static, dynamic, message):
    with pytest.raises(JudgeError, match=message):
        CONFIG.targets(np.array(static), np.array(dynamic))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (((3, 16, 16), {}, DYNAMIC), "no static factor with classes"),
        (((3, 16, 16), STATIC, {}), "no dynamic factor with classes"),
        (((3, 16, 16), {"motion": 3}, DYNAMIC), "named 'motion'"),
        (((3, 16, 24), STATIC, DYNAMIC), r"\(3, 16, 24\), but must be \(C, H, W\) with .* 16"),
        (((12,), STATIC, DYNAMIC), r"\(12,\), but must be \(C, H, W\)"),
    ],
)
def test_what_no_judge_can_judge_is_refused(options, message):
    with pytest.raises(JudgeError, match=message):
        JudgeConfig(*options)


def test_frames_of_another_shape_are_refused(judge):
    wide = Sequences(np.zeros((2, 3, 16, 32, 3), np.uint8), np.full(2, 3), np.arange(2))
    for call in (train_judge, accuracies):
        with pytest.raises(JudgeError, match=r"frames are \(3, 16, 32\), but the judge's"):
            call(judge, wide, {})


def test_a_judge_is_not_believed_below_999_in_a_thousand():
    check_accuracy({"motion": 1.0, "body": 0.999}, "its own test part")
    with pytest.raises(JudgeError, match=r"names body right in only 99\.890 % of its own test pa"):
        check_accuracy({"motion": 1.0, "body": 0.9989}, "its own test part")
    with pytest.raises(JudgeError, match="was never tested on its own test part"):
        check_accuracy({}, "its own test part")


def test_a_judge_survives_the_disk_exactly(judge, tmp_path):
    path = tmp_path / "judge.safetensors"
    save_judge(judge, path)
    state = torch.get_rng_state()
    loaded = load_judge(path)
    assert torch.equal(state, torch.get_rng_state())
    assert loaded.config == judge.config and list(loaded.config.heads) == list(judge.config.heads)
    assert loaded.accuracy == judge.accuracy and not loaded.training
    assert same_weights(loaded, judge)
    assert [path.name for path in tmp_path.iterdir()] == ["judge.safetensors"]


@pytest.mark.parametrize("about", [{}, [], {"config": {"x": 1}, "accuracy": {}}])
def test_a_judge_of_another_version_is_refused(about, judge, tmp_path):
    write_weights(tmp_path / "judge", "judge", judge, about, overwrite=False)
    with pytest.raises(CheckpointError, match="train a judge again with dsae judge"):
        load_judge(tmp_path / "judge")


def test_foreign_files_are_refused_and_an_existing_one_is_kept(judge, tmp_path):
    path = tmp_path / "judge.safetensors"
    with pytest.raises(CheckpointError, match="no such file"):
        load_judge(path)
    path.write_bytes(b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_judge(path)
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not one of a judge that pyro-dsae wrote"):
        load_judge(path)
    save(tiny_model(), path, overwrite=True)
    with pytest.raises(CheckpointError, match="not one of a judge that pyro-dsae wrote"):
        load_judge(path)
    with pytest.raises(CheckpointError, match="exists; use --overwrite"):
        save_judge(judge, path)
    save_judge(judge, path, overwrite=True)
    with pytest.raises(CheckpointError, match="not one of a model that pyro-dsae wrote"):
        load(path)


def test_a_full_disk_leaves_nothing(tmp_path, little_space):
    with pytest.raises(CheckpointError, match="cannot write"):
        save_judge(Judge(JudgeConfig((3, 16, 16), STATIC, DYNAMIC)), tmp_path / "judge.safetensors")
    assert list(tmp_path.iterdir()) == []


def dsae(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "shapes.h5"
    return prepare("moving-shapes", path, characters=5, size=32, motions=2, steps=4, shortest=3)


def test_the_command_trains_tests_and_says_what_it_is_not_fit_for(shapes, tmp_path):
    path = tmp_path / "judge.safetensors"
    result = dsae("judge", shapes, path, "--epochs", 1, "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["judge"] == str(path) and facts["data"] == "moving-shapes"
    assert (facts["part"], facts["sequences"]) == ("test", 2)
    judge = load_judge(path)
    assert facts["accuracy"] == judge.accuracy
    assert list(judge.accuracy) == ["motion", "shape", "colour", "size", "background"]
    assert judge.config.heads["motion"] == 6 * 8 * 2
    assert "pass 1.00: " in result.stderr and "is not believed below 99.9 %" in result.stderr
    known = json.loads(dsae("info", path, "--json").stdout)
    assert known["accuracy"] == judge.accuracy and known["static"]["colour"] == 6
    assert known["parameters"] == sum(parameter.numel() for parameter in judge.parameters())

    before = path.read_bytes()
    result = dsae("judge", shapes, path, "--epochs", 1)
    assert result.exit_code == 1 and "exists already" in result.stderr
    assert path.read_bytes() == before
    result = dsae("judge", shapes, path, "--epochs", 1, "--overwrite")
    assert path.read_bytes() == before  # the same seed
    assert "accuracy.motion" in result.stdout
    dsae("judge", shapes, path, "--epochs", 1, "--overwrite", "--seed", 1)
    assert path.read_bytes() != before


SPLIT = {"train": np.arange(1), "test": np.arange(1, 2)}
WHO, WHAT = Factor("who", "static", ("a", "b")), Factor("what", "dynamic", ("c", "d"))


@pytest.mark.parametrize(
    ("factors", "labels", "parts", "message"),
    [
        ([WHO], [[0], [1]], SPLIT, "the data have no dynamic factor with classes"),
        ([WHO, Factor("speed", "dynamic")], [[0, 0.5], [1, 2.5]], SPLIT, "have no dynamic factor"),
        ([WHO, WHAT], [[0, 0], [1, -1]], SPLIT, "what of sequence 0 is unknown"),
        ([WHO, WHAT], [[0, 0], [1, 1]], SPLIT, "cannot hold out 0.05 of 1 groups"),
        (
            [WHO, WHAT],
            [[0, 0], [1, 1]],
            {"train": np.arange(2)},
            "has no part 'test'",
        ),
    ],
)
def test_data_that_no_judge_can_learn_from_is_one_line(factors, labels, parts, message, tmp_path):
    x = np.zeros((2, 2, 16, 16, 1), np.uint8)
    data = write_drawings(tmp_path / "x.h5", x, np.array(labels), factors, parts)
    result = dsae("judge", data, tmp_path / "judge.safetensors")
    assert result.exit_code == 1 and message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output and list(tmp_path.iterdir()) == [data]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--epochs", 0], 2, "--epochs"),
        (["--seed", -1], 2, "--seed"),
        (["--device", "tpu"], 2, "device is 'tpu'"),
    ],
)
def test_a_bad_option_is_one_line_and_leaves_nothing(options, code, message, shapes, tmp_path):
    result = dsae("judge", shapes, tmp_path / "judge.safetensors", *options)
    assert result.exit_code == code and message in result.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
