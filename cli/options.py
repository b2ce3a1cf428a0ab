"""What the commands share: options, a run opened with its data, and how results go out."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from tqdm import tqdm

from pyro_dsae import DSAE, CheckpointError, ConfigError, ModelConfig, Sequences, load
from pyro_dsae.analyses.codes import Codes, encode
from pyro_dsae.analyses.predict import predictable
from pyro_dsae.checkpoint import write_whole
from pyro_dsae.datasets import DataError, Factor, SequenceFile
from pyro_dsae.run_folder import read_config
from pyro_dsae.sequences import Standard

REFRESH_SECONDS = 0.5  # between two readings of the loss for a bar
VALIDATION = "validation"  # a part of train: what the training of a run held out of it


def _device(context: click.Context, parameter: click.Parameter, name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device is {name!r}, but must be auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ConfigError(f"device is {name!r}, but {found} CUDA devices are here; use cpu or auto")
    return device


run_argument = click.argument("run", type=click.Path())
data_option = click.option(
    "--data", type=click.Path(dir_okay=False), help="Another file than the one RUN remembers."
)
part_option = click.option(
    "--part",
    default="test",
    show_default=True,
    help=f"Part of the data; {VALIDATION} is the data's own or, without, what RUN's training "
    "held out of train.",
)
out_option = click.option(
    "--out", type=click.Path(file_okay=False), help="Folder for the figures; RUN/figures if not."
)
shown_option = click.option(
    "--sequences",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="How many sequences to show.",
)
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    callback=_device,
    help="auto, cpu, cuda or cuda:N.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def seed_option(of: str) -> Callable:
    """An option for the seed of something."""
    return click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help=f"Seed of {of}."
    )


def together(*options: Callable) -> Callable:
    """Arguments and options as one decorator, which lists them in this order."""

    def add(command: Callable) -> Callable:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def picture_options(of: str) -> Callable:
    """What every command takes that draws a run's sequences, with the seed of something."""
    return together(
        run_argument,
        data_option,
        part_option,
        out_option,
        seed_option(of),
        device_option,
        json_option,
    )


@dataclass(frozen=True)
class Run:
    """A trained model and the part of a data file that a command works on.

    rows: indices of the part in the file, (N,); indices of sequences are within the part.
    """

    path: str
    part: str
    dsae: DSAE
    file: SequenceFile
    rows: np.ndarray
    sequences: Sequences

    @cached_property
    def codes(self) -> Codes:
        """The posterior means of the sequences."""
        return encode(self.dsae, self.sequences)

    def labels(self, role: str) -> np.ndarray:
        """Classes of the factors of a role, (N, k).

        Without one, what belongs to a group looks alike, and no sequence moves as another does.
        """
        names = [factor.name for factor in factors(self.file, role)]
        if names:
            return self.file.labels(names)[self.rows]
        return (self.sequences.groups if role == "static" else np.arange(len(self.rows)))[:, None]

    def classes(self, role: str) -> dict[str, int]:
        """How many classes each factor of a role has, by name."""
        return {factor.name: len(factor.classes) for factor in factors(self.file, role)}

    def describe(self, index: int) -> str:
        """A sequence in words: the classes of its factors, or its name where it has none."""
        row, words = self.rows[index], []
        for role, separator in (("static", ", "), ("dynamic", " ")):
            classes = [self.values(factor.name)[index] for factor in factors(self.file, role)]
            words += [separator.join(classes)] if classes else []
        return "; ".join(words) or self.file.ids[row]

    def values(self, name: str) -> np.ndarray:
        """The values of a factor, (N,): class names, empty for unknown, or numbers."""
        factor = next(factor for factor in self.file.factors if factor.name == name)
        values = self.file.labels([name])[self.rows, 0]
        return np.array([*factor.classes, ""])[values] if factor.classes else values

    def frames(self, index: int) -> np.ndarray:
        """The real frames of a sequence as they are stored, uint8 (T, H, W, C), or float32 (T, D)
        with NaN where a value is not observed."""
        length = self.sequences.lengths[index]
        if not self.dsae.config.of_series:
            return self.sequences.x[index, :length]
        observed = self.sequences.take([index]).observed()[0, :length]
        x = self.file.read([self.rows[index]])[0, :length]
        return np.where(observed, x, np.float32(np.nan))

    @property
    def channels(self) -> list[str]:
        """What the channels of a series are called."""
        return channel_names(self.dsae, self.sequences.standard)

    def choose(self, option: str, count: int, seed: int, longer_than: int = 0) -> np.ndarray:
        """Indices of ``count`` random sequences that are longer than so many steps, and observed in
        these.

        ConfigError where there are not so many.
        """
        candidates = np.arange(len(self.sequences))
        if longer_than:
            candidates = predictable(self.sequences, longer_than)
        if count > len(candidates):
            longer = f" longer than {longer_than} steps" if longer_than else ""
            raise ConfigError(
                f"{option} is {count}, but the part {self.part} has {len(candidates)} sequences"
                + longer
            )
        return np.random.default_rng(seed).permutation(candidates)[:count]

    def about(self) -> dict[str, Any]:
        """Which data the figures are of."""
        return {"data": self.file.name, "part": self.part}

    @property
    def title(self) -> str:
        """Which run and data a picture is of."""
        return f"{title(self.path)} on {self.file.name}, part {self.part}"


def channel_names(dsae: DSAE, standard: Standard | None) -> list[str]:
    """Those that a series has, or numbers."""
    size = dsae.config.frame_shape[0]
    return list(standard.channels) if standard else [f"channel {n}" for n in range(size)]


def factors(file: SequenceFile, role: str) -> list[Factor]:
    """The factors of a role that have classes, in the order of the file."""
    return [factor for factor in file.factors if factor.role == role and factor.classes]


def title(run: str) -> str:
    """What a picture calls a run."""
    return Path(run).resolve().name


def open_model(run: str, device: torch.device) -> tuple[DSAE, dict[str, Any]]:
    """The model of the folder ``run`` in eval mode, and its config.json."""
    config = read_config(run)
    dsae = load(run)
    if ModelConfig.from_dict(config["model"]) != dsae.config:
        raise CheckpointError(f"{run}: its weights are of another model than its config.json")
    return dsae.to(device), config


@contextmanager
def open_run(run: str, data: str | None, part: str, device: torch.device) -> Iterator[Run]:
    """The model of the folder ``run`` and a part of its data, or of the file ``data``."""
    dsae, config = open_model(run, device)
    with _open_data(run, data, config.get("data", {})) as file:
        if file.frame_shape != dsae.config.frame_shape:
            raise DataError(
                f"{file.path}: its frames are {file.frame_shape}, but those of {run} are "
                f"{dsae.config.frame_shape}; this run folder is from another model or data"
            )
        standard = Standard.of(config.get("data", {}))
        if standard and file.standard and standard.channels != file.standard.channels:
            raise DataError(
                f"{file.path}: its channels are {', '.join(file.standard.channels)}, but those of "
                f"{run} are {', '.join(standard.channels)}; bring them in this order"
            )
        parts = file.splits.get("official", ())
        if part == VALIDATION and part not in parts:
            yield Run(run, part, dsae, file, *_held_out(run, file, config))
            return
        if parts and part not in parts:
            known = ", ".join(dict.fromkeys([*parts, VALIDATION]))
            raise ConfigError(f"part is {part!r}, but must be one of: {known}")
        # What the model was trained by, whatever another file's train part is like.
        sequences = file.sequences(part, standard=standard)
        yield Run(run, part, dsae, file, file.split(part), sequences)


def _held_out(run: str, file: SequenceFile, config: dict[str, Any]) -> tuple[np.ndarray, Sequences]:
    """What the training of a run held out of train: indices in the file, and the sequences."""
    if config.get("data", {}).get("content_sha256") != file.content_sha256:
        raise ConfigError(
            f"part is {VALIDATION!r}, but {run} was not trained on {file.path} and held nothing "
            f"out of it; its parts are {', '.join(file.splits.get('official', ()))}"
        )
    train, how = file.sequences("train", in_memory=False), config["training"]
    rows = file.split("train")[train.held_out(how["validation_fraction"], how["seed"])]
    return rows, file.take(rows)


def _open_data(run: str, data: str | None, remembered: dict[str, str]) -> SequenceFile:
    if data is not None:
        return SequenceFile.open(data)
    if not {"path", "content_sha256"} <= remembered.keys():
        raise ConfigError(f"{run} remembers no data file; name one with --data")
    if not Path(remembered["path"]).exists():
        raise DataError(
            f"{remembered['path']}: {run} was trained on this file, which is gone; name it with "
            "--data"
        )
    file = SequenceFile.open(remembered["path"])
    if file.content_sha256 != remembered["content_sha256"]:
        file.close()
        raise DataError(
            f"{file.path}: holds other data than {run} was trained on (content sha256 is "
            f"{file.content_sha256[:12]}, was {remembered['content_sha256'][:12]}); name the right "
            "file with --data, or this one to use it all the same"
        )
    return file


def cut(drawn: np.ndarray, originals: list[np.ndarray]) -> list[np.ndarray]:
    """Each of ``drawn`` (N, T, ...) as long as its original."""
    return [frames[: len(x)] for frames, x in zip(drawn, originals, strict=True)]


def write_figures(run: str, out: str | None, figures: dict[str, bytes]) -> list[str]:
    """Write each figure, replacing an earlier one of its name; returns the paths."""
    folder = Path(out) if out else Path(run) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in figures.items():
        write_whole(folder / name, content)
    return [str(folder / name) for name in figures]


def progress_bar(shown: bool = True) -> tqdm:
    """A bar on a terminal's standard error, from 0 to 1; without a terminal, none."""
    return tqdm(
        total=1.0,
        bar_format="{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
        file=sys.stderr,
        disable=None if shown else True,
    )


def print_facts(facts: dict[str, Any], as_json: bool) -> None:
    """Print facts as JSON, or a line for each entry of a fact that is a list or a dictionary."""
    if as_json:
        click.echo(json.dumps(facts))
        return
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += [(f"{key}.{name}", entry) for name, entry in value.items()]
        else:
            lines += [(key, entry) for entry in (value if isinstance(value, list) else [value])]
    width = max(len(key) for key, _ in lines)
    for key, entry in lines:
        click.echo(f"{key:{width}}  {f'{entry:.5g}' if isinstance(entry, float) else entry}")
