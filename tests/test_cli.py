import contextlib
import errno
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from pyro_dsae import ConfigError, ModelConfig, TrainingError, load
from pyro_dsae.cli.main import main
from pyro_dsae.datasets import READERS, RECORDINGS, SOURCES, SequenceFile
from pyro_dsae.objectives import OBJECTIVES


def dsae(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "toy.h5"
    assert dsae("prepare", "toy-sprites", path, "--characters", 12).exit_code == 0
    return path


@pytest.mark.parametrize("command", [[], *([name] for name in main.commands)])
def test_every_command_has_help(command):
    result = dsae(*command, "--help")
    assert result.exit_code == 0 and "Usage" in result.output


@pytest.mark.parametrize("command", main.commands.values(), ids=list(main.commands))
def test_every_option_has_help(command):
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert all(option.help for option in options)


def test_info_describes_a_data_file(data):
    facts = json.loads(dsae("info", data, "--json").output)
    assert facts["name"] == "toy-sprites" and facts["sequences"] == 12 * 9
    assert sum(facts["splits"]["official"].values()) == 12 * 9
    assert facts["factors"]["action"] == "dynamic" and facts["frame_shape"] == [3, 64, 64]
    assert facts["megabytes_in_memory"] == 12 * 9 * 8 * 64 * 64 * 3 / 1e6


def test_a_reader_that_had_enough_is_no_error(data, monkeypatch):
    def closed(*arguments):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("pyro_dsae.cli.info.print_facts", closed)
    assert dsae("info", data).output == ""


def test_fit_trains_and_resumes_to_the_same_metrics(data, tmp_path):
    run = tmp_path / "run"
    options = ["--epochs", 1, "--guide", "full", "--prior", "standard"]
    result = dsae("fit", data, run, *options)
    assert result.exit_code == 0, result.output
    assert "epoch 1: validation ELBO" in result.stderr
    assert result.stdout.strip() == str(run)
    metrics = (run / "metrics.jsonl").read_bytes()
    assert dsae("fit", data, run, *options, "--resume").exit_code == 0
    assert (run / "metrics.jsonl").read_bytes() == metrics
    facts = json.loads(dsae("info", run / "model.safetensors", "--json").output)
    assert (facts["guide"], facts["prior"]) == ("full", "standard")
    cost = json.loads(dsae("info", run, "--json").output)["cost_a_frame"]
    assert cost == facts["cost_a_frame"] and min(cost.values()) > 0


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--guide", "fool"], 2, "'full', 'factorized', 'framewise'"),
        (["--prior", "gru"], 2, "'standard', 'lstm'"),
        (["--preset", "huge"], 2, "'paper', 'gpu', 'small'"),
        (["--scale", "0"], 2, "scale is 0.0"),
        (["--likelihood", "bernoulli", "--learn-scale"], 2, "learn_scale is True"),
        (["--kl-f-weight", "0"], 2, "kl_f_weight is 0.0"),
        (["--epochs", "0"], 2, "epochs is 0"),
        (["--seed", str(2**63)], 2, f"seed is {2**63}, but must be below 2**63"),
        (["--device", "tpu"], 2, "device is 'tpu'"),
        (["--device", "cuda:99"], 2, "device is 'cuda:99'"),
        (["--epochs", "1", "--minutes", "1"], 2, "give only one of them"),
        (["--resume", "--overwrite"], 2, "overwrite is True"),
        (["--config", "absent.toml"], 1, "absent.toml"),
        (["--batch-size", "999"], 1, "batch_size is 999"),
        (["--resume"], 1, "no run is here; make one with dsae fit"),
    ],
)
def test_a_bad_option_of_fit_is_one_line_and_leaves_nothing(options, code, message, data, tmp_path):
    result = dsae("fit", data, tmp_path / "run", *options)
    assert result.exit_code == code
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output and list(tmp_path.iterdir()) == []


def test_a_preset_of_pictures_trains_on_a_series_without_its_view(tmp_path):
    rows = [f"{day},{hour},{day + hour}" for day in range(20) for hour in range(3)]
    (tmp_path / "x.csv").write_text("\n".join(["day,hour,value", *rows]))
    read = ("--source", tmp_path / "x.csv", "--sequence-id", "day", "--time", "hour")
    assert dsae("prepare", "table", tmp_path / "x.h5", *read).exit_code == 0
    call = ("fit", tmp_path / "x.h5", tmp_path / "run", "--preset", "small", "--epochs", 1)
    result = dsae(*call)
    assert result.exit_code == 2 and "dynamic_view is 'colour'" in result.stderr
    result = dsae(*call, "--dynamic-view", "none")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("call", [("fit", "--seed", 2**63), ("reconstruct",)])
def test_debug_shows_where_an_error_came_from(call, data, tmp_path):
    name, *options = call
    result = dsae("--debug", name, *([data] if name == "fit" else []), tmp_path / "run", *options)
    assert isinstance(result.exception, ConfigError | TrainingError | OSError)


SMALL = "[model]\nchannels = [4, 4, 8, 8]\ncode_dim = 16\nhidden_dim = 8\nscale = 0.3\n"


@pytest.fixture(scope="module")
def generative(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generative")
    (folder / "config.toml").write_text(SMALL)
    call = ("fit", data, folder / "run", "--config", folder / "config.toml", "--epochs", 1)
    assert dsae(*call, "--static-dropout", 0.1).exit_code == 0
    return folder / "run"


def test_another_guide_is_fitted_to_the_generative_model_of_a_run(data, generative, tmp_path):
    run = tmp_path / "run"
    call = ("fit", data, run, "--guide", "full", "--generative-from", generative, "--epochs", 2)
    assert dsae(*call).exit_code == 0
    first, second = load(generative), load(run)
    assert second.config == replace(
        first.config,
        guide="full",
        static_dropout=0.0,
        dynamic_view="none",
        shared_encoder=True,
    )
    assert all(
        torch.equal(value, first.model.state_dict()[name])
        for name, value in second.model.state_dict().items()
    )
    facts = json.loads(dsae("info", run, "--json").output)
    assert facts["training"]["generative_from"] == str(generative)
    for name in ("kl_f_weight", "kl_f_growth", "kl_z_weight"):
        assert facts["training"][name] == 1
    assert facts["training"]["free_bits"] == 0
    assert facts["kept"]["validation_elbo"] >= facts["last"]["validation_elbo"]
    assert dsae("fit", data, run, "--resume").exit_code == 0


def test_an_objective_keeps_its_weights_on_the_generative_model_of_a_run(
    data, generative, tmp_path
):
    """Those that shape a model are the preset's; an objective's own are what it is."""
    call = ("fit", data, tmp_path / "run", "--generative-from", generative, "--epochs", 1)
    assert dsae(*call, "--objective", "beta", "--kl-f-weight", 3).exit_code == 0
    training = json.loads(dsae("info", tmp_path / "run", "--json").output)["training"]
    assert (training["kl_f_weight"], training["kl_z_weight"]) == (3, 4)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--prior", "standard"], 2, "prior is 'standard', but that of the generative model in"),
        (["--scale", "0.5"], 2, "scale is 0.5, but that of the generative model"),
        (["--learn-scale"], 2, "learn_scale is True, but that"),
        (["--likelihood", "laplace"], 2, "likelihood is 'laplace', but that"),
        (["--preset", "paper"], 2, "preset is 'paper', but the generative model of"),
        (["--generative-from", "absent"], 1, "absent: no such file"),
    ],
)
def test_what_would_change_the_generative_model_is_one_line(
    options, code, message, data, generative, tmp_path
):
    result = dsae("fit", data, tmp_path / "run", "--generative-from", generative, *options)
    assert result.exit_code == code, result.output
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output and list(tmp_path.iterdir()) == []


def test_prepare_has_every_option_of_the_sources_and_no_other():
    made_by = (SOURCES | RECORDINGS | READERS).values()
    options = {name for source in made_by for name in signature(source).parameters}
    found = {parameter.name for parameter in main.commands["prepare"].params}
    assert found == options | {"name", "out", "characters", "overwrite"}


def test_prepare_passes_its_options_on(tmp_path):
    out = tmp_path / "shapes.h5"
    options = {"steps": 6, "shortest": 5, "size": 32, "motions": 3, "seed": 9}
    flags = [part for key, value in options.items() for part in (f"--{key}", value)]
    assert dsae("prepare", "moving-shapes", out, "--characters", 4, *flags).exit_code == 0
    with SequenceFile.open(out) as file:
        assert options.items() <= file.recipe.items() and len(file) == 4 * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toy-sprites", "--steps", 9], "toy-sprites takes no option 'steps'; its options are"),
        (["moving-shapes", "--source", "x"], "moving-shapes takes no option 'source'"),
        (["moving-shapes", "--size", 63], "size = 63 is not a multiple of 16; try 48"),
        (["moving-shapes", "--characters", 325], "characters = 325 is out of range, expected 2 to"),
    ],
)
def test_a_bad_option_of_prepare_is_one_line_and_leaves_nothing(arguments, message, tmp_path):
    name, *options = arguments
    result = dsae("prepare", name, tmp_path / "x.h5", *options)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output and list(tmp_path.iterdir()) == []


def test_files_that_cannot_be_used_are_one_line(data, tmp_path):
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    calls = [
        ("fit", tmp_path / "absent.h5", tmp_path / "run"),
        ("fit", text, tmp_path / "run"),
        ("info", text),
        ("info", tmp_path / "absent.safetensors"),
        ("prepare", "toy-sprites", data),
        ("prepare", "sprites", tmp_path / "out.h5", "--source", tmp_path),
    ]
    for call in calls:
        result = dsae(*call)
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["text.h5"]
    assert data.stat().st_size > 10_000


def test_a_config_file_is_used_and_options_win(data, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(
        'preset = "small"\n[model]\nguide = "full"\nchannels = [4, 4, 8, 8]\n'
        "[training]\nepochs = 3\nbatch_size = 8\nseed = 5\n"
    )
    run = tmp_path / "run"
    result = dsae("fit", data, run, "--config", config, "--epochs", 1, "--guide", "framewise")
    assert result.exit_code == 0, result.output
    about = json.loads((run / "config.json").read_text())
    assert about["model"]["guide"] == "framewise" and about["model"]["channels"] == [4, 4, 8, 8]
    training = about["training"]
    assert (training["epochs"], training["batch_size"], training["seed"]) == (1, 8, 5)
    assert about["data"]["path"] == str(data)
    # a resumed run needs no option again, and refuses another value
    assert dsae("fit", data, run, "--resume").exit_code == 0
    result = dsae("fit", data, run, "--resume", "--seed", 6)
    assert result.exit_code == 1 and "training seed=5, not 6" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[optimizer]\nrate = 1", "'optimizer', but must have only: preset, model, training"),
        ("[training]\nepoch = 1", "unknown option 'epoch'; known are: epochs"),
        ("[model]\nsize = 1", "unknown option 'size'"),
        ('[training]\nepochs = "3"', "epochs is '3', but must be of type int"),
        ("model = 3", "model = 3, but it must be a table"),
        ('preset = "big"', "preset is 'big', but must be one of: paper, gpu, small, bottleneck"),
        ('preset = ["small"]', "preset is ['small'], but must be one of: paper"),
        ('[training]\nobjective = ["elbo"]', "objective is ['elbo'], but must be of type str"),
        ('[training]\nobjective_options = "x"', "objective_options is 'x', but must be of type"),
        ("[model", "is no TOML file"),
        ("# \udcff", "is no TOML file"),
    ],
)
def test_a_bad_config_file_is_one_line(text, message, data, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(text, errors="surrogateescape")
    result = dsae("fit", data, tmp_path / "run", "--config", config)
    assert result.exit_code == 2 and message in result.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_an_option_on_the_line_hides_no_bad_table_of_them(data, tmp_path):
    (tmp_path / "c.toml").write_text('[training]\nobjective_options = "x"')
    call = ("fit", data, tmp_path / "run", "--config", tmp_path / "c.toml", "--option", "mi=1")
    result = dsae(*call)
    assert result.exit_code == 2
    assert "objective_options is 'x', but must be of type dict" in result.stderr.splitlines()[-1]


def test_a_bar_is_shown_on_a_terminal(data, tmp_path):
    """In a pseudo-terminal, as a user sees it; without one there is a plain line an epoch."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [
        sys.executable,
        "-m",
        "pyro_dsae.cli",
        "fit",
        data,
        tmp_path / "run",
        "--epochs",
        "1",
    ]
    with subprocess.Popen(
        command, stderr=terminal, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
    ) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # Linux says so when the other side has closed
            while read := os.read(controller, 4096):
                shown += read
        os.close(controller)
        assert process.stdout.read().decode().strip() == str(tmp_path / "run")
    assert process.returncode == 0
    for word in (b"%|", b"loss", b"KL_f", b"KL_z", b"<", b"epoch 1: validation ELBO"):
        assert word in shown


def test_options_of_an_objective_come_from_the_line_and_the_file(data, tmp_path, monkeypatch):
    """Those of the line join those of the file, unless the line names another objective."""

    @dataclass(frozen=True)
    class Options:
        weight: float = 1.0
        kind: str = "plain"

    other = type("Other", (OBJECTIVES["elbo"],), {"Options": Options, "estimates": False})
    monkeypatch.setitem(OBJECTIVES, "other", other)
    config = tmp_path / "config.toml"
    config.write_text(
        f'{SMALL}[training]\nepochs = 1\nobjective = "other"\n'
        '[training.objective_options]\nweight = 3\nkind = "a"\n'
    )
    call = ("fit", data, tmp_path / "run", "--config", config)
    result = dsae(*call, "--option", "kind=b")
    assert result.exit_code == 0, result.output
    facts = json.loads((tmp_path / "run" / "config.json").read_text())["training"]
    assert facts["objective_options"] == {"weight": 3, "kind": "b"}
    assert dsae("fit", data, tmp_path / "run", "--resume").exit_code == 0
    result = dsae(*call, "--objective", "elbo", "--overwrite")
    assert result.exit_code == 0, result.output
    refused = dsae(*call, "--option", "weight")
    assert refused.exit_code == 2 and "option is 'weight', but must be NAME=VALUE" in refused.output
    refused = dsae(*call, "--option", "wait=1")
    assert refused.exit_code == 2 and "'wait' of objective 'other'" in refused.output


@pytest.mark.parametrize(("objective", "kept"), [("elbo", 1), ("avb", 2), ("unknown", None)])
def test_info_shows_the_epoch_whose_weights_are_kept(tmp_path, objective, kept):
    config = {"model": ModelConfig().to_dict(), "training": {"objective": objective}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    lines = [{"epoch": 1, "validation_elbo": -1.0}, {"epoch": 2, "validation_elbo": -2.0}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    facts = json.loads(dsae("info", tmp_path, "--json").output)
    assert facts["kept"].get("epoch") == kept and facts["last"]["epoch"] == 2
