"""The tables of gpu_campaign.sh, and weights in parts that travel: bfloat16, under 15 MB each.

python benchmarks/campaign.py table OUT.json OUT.md RUN...
python benchmarks/campaign.py scores OUT.json OUT.md RUN...
python benchmarks/campaign.py split FOLDER RUN...
python benchmarks/campaign.py join FOLDER RUNS
"""

import json
from pathlib import Path
from typing import Any

import click
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pyro_dsae import DSAE, ModelConfig, save
from pyro_dsae.checkpoint import read, write_whole
from pyro_dsae.run_folder import CONFIG, EVALUATION, read_config, read_metrics, versions

PART_BYTES = 15_000_000  # of a file of weights, at most
MOST_PARTS = 5  # with what else a stage leaves, no more than 8 files
FIGURES = {  # of the last epoch, and what the table calls them
    "epoch": "epochs",
    "validation_elbo": "validation ELBO",
    "validation_kl_f": "KL_f",
    "validation_kl_z": "KL_z",
    "active_f": "active f",
    "active_z": "active z",
    "sequences_per_second": "sequences/s",
}
path = click.Path(path_type=Path)


@click.group()
def main() -> None:
    """What the stages of gpu_campaign.sh leave."""


def write_table(out: Path, page: Path, found: dict[str, Any], heads: list[str], rows: list) -> None:
    """``found`` as JSON and ``rows`` as a Markdown page, with the machine and the versions."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    about = {"device": device, "versions": versions()}
    write_whole(out, json.dumps({**about, **found}, indent=2).encode())
    lines = [f"On {device}, torch {torch.__version__}. Nats a sequence.", ""]
    lines += [
        f"| {' | '.join(map(str, cells))} |" for cells in (heads, ["---"] * len(heads), *rows)
    ]
    write_whole(page, ("\n".join(lines) + "\n").encode())


@main.command()
@click.argument("out", type=path)
@click.argument("page", type=path)
@click.argument("runs", type=path, nargs=-1)
def table(out: Path, page: Path, runs: tuple[Path, ...]) -> None:
    """The metrics of RUNS: the last epoch in the table PAGE, all in OUT."""
    found, rows = {}, []
    for run in runs:
        history = read_metrics(run)
        config = read_config(run)
        found[run.name] = {"config": config, "metrics": history}
        figures = [history[-1][name] if history else "-" for name in FIGURES]
        rows.append([run.name, config["data"]["name"], *(_short(value) for value in figures)])
    write_table(out, page, {"runs": found}, ["run", "data", *FIGURES.values()], rows)


@main.command()
@click.argument("out", type=path)
@click.argument("page", type=path)
@click.argument("runs", type=path, nargs=-1)
def scores(out: Path, page: Path, runs: tuple[Path, ...]) -> None:
    """What dsae evaluate kept of RUNS: every number in the table PAGE, all in OUT."""
    kept = {run.name: run / EVALUATION for run in runs}
    found = {name: json.loads(file.read_text()) for name, file in kept.items() if file.exists()}
    numbers = {
        name: _numbers({key: each["figures"] for key, each in report["sections"].items()})
        for name, report in found.items()
    }
    names = list(dict.fromkeys(name for each in numbers.values() for name in each))
    rows = [[name, *(_short(each.get(name, "-")) for each in numbers.values())] for name in names]
    write_table(out, page, {"runs": found}, ["figure", *numbers], rows)


@main.command()
@click.argument("folder", type=path)
@click.argument("runs", type=path, nargs=-1)
def split(folder: Path, runs: tuple[Path, ...]) -> None:
    """Write the weights of the best of RUNS to FOLDER in parts."""
    best = max(runs, key=lambda run: max(line["validation_elbo"] for line in read_metrics(run)))
    _, weights = read(best)
    parts: list[dict[str, Tensor]] = [{}]
    for name, value in weights.items():
        value = value.bfloat16() if value.is_floating_point() else value
        if sum(each.nbytes for each in parts[-1].values()) + value.nbytes > PART_BYTES:
            parts.append({})
        parts[-1][name] = value
    if len(parts) > MOST_PARTS:
        raise click.ClickException(f"{best}: its weights take {len(parts)} parts of {MOST_PARTS}")
    about = {"run": best.name, "config": (best / CONFIG).read_text(), "parts": str(len(parts))}
    for number, part in enumerate(parts, 1):
        save_file(part, folder / f"{best.name}-{number}.safetensors", about)


@main.command()
@click.argument("folder", type=path)
@click.argument("runs", type=path)
def join(folder: Path, runs: Path) -> None:
    """Make runs in RUNS of the parts in FOLDER."""
    weights: dict[str, dict[str, Tensor]] = {}
    configs: dict[str, str] = {}
    missing: dict[str, int] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as part:
            about = part.metadata()
            name = about["run"]
            configs[name] = about["config"]
            missing[name] = missing.get(name, int(about["parts"])) - 1
            weights.setdefault(name, {}).update({key: part.get_tensor(key) for key in part.keys()})  # noqa: SIM118
    for name, held in weights.items():
        if missing[name]:
            raise click.ClickException(f"{folder}: {missing[name]} parts of {name} are missing")
        dsae = DSAE(ModelConfig.from_dict(json.loads(configs[name])["model"]))
        dsae.load_state_dict(held)  # back to float32
        (runs / name).mkdir(parents=True, exist_ok=True)
        save(dsae, runs / name / "model.safetensors", overwrite=True)
        write_whole(runs / name / CONFIG, configs[name].encode())


def _numbers(report: Any, name: str = "") -> dict[str, float]:
    """The numbers in a report, by their path in it."""
    if isinstance(report, dict):
        inner = [_numbers(value, f"{name}.{key}".lstrip(".")) for key, value in report.items()]
        return {key: value for each in inner for key, value in each.items()}
    is_number = isinstance(report, int | float) and not isinstance(report, bool)
    return {name: report} if is_number else {}


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
