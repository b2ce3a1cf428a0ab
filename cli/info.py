"""``dsae info``: what is in a file of sequences, of a model or of a judge, or a run's folder."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from pyro_dsae import ModelConfig, load
from pyro_dsae.checkpoint import kind_of
from pyro_dsae.cli.options import json_option, print_facts
from pyro_dsae.cost import frame_cost
from pyro_dsae.datasets import SequenceFile
from pyro_dsae.evaluation.judge import load_judge
from pyro_dsae.objectives import OBJECTIVES
from pyro_dsae.run_folder import read_config, read_metrics


@click.command()
@click.argument("path", type=click.Path())
@json_option
def info(path: str, as_json: bool) -> None:
    """Print what the data file, the model's or judge's file or the run folder PATH holds."""
    if Path(path).is_dir():
        facts = _run(path)
    else:
        facts = _weights(path) if Path(path).suffix == ".safetensors" else _data(path)
    print_facts(facts, as_json)


def _run(path: str) -> dict:
    config, metrics = read_config(path), read_metrics(path)
    return {
        "model": config["model"],
        "training": config["training"],
        **_cost(config["model"]),
        "data": config.get("data", {}),
        "epochs": len(metrics),
        "kept": _kept(metrics, config["training"].get("objective", "")),
        "last": metrics[-1] if metrics else {},
    }


def _kept(metrics: list[dict[str, Any]], objective: str) -> dict[str, Any]:
    """The epoch that the model's weights are of; nothing where an objective is not known here."""
    known = OBJECTIVES.get(objective)
    if not metrics or known is None:
        return {}
    return max(metrics, key=lambda line: line["validation_elbo"]) if known.bound else metrics[-1]


def _weights(path: str) -> dict:
    if kind_of(path) == "judge":
        module = load_judge(path)
        facts = {**asdict(module.config), "accuracy": module.accuracy}
    else:
        module = load(path)
        facts = module.config.to_dict()
        facts.update(_cost(facts))
    return {**facts, "parameters": sum(parameter.numel() for parameter in module.parameters())}


def _cost(model: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What a frame costs in training; a batch of B sequences of T frames costs B T times that.

    Of a series nothing: its vectors cost little beside the recurrence.
    """
    config = ModelConfig.from_dict(model)
    return {} if config.of_series else {"cost_a_frame": asdict(frame_cost(config))}


def _series(file: SequenceFile) -> dict[str, Any]:
    """The channels of a series and the fraction of their values that is missing; of frames none."""
    if file.standard is None:
        return {}
    mask, missing = file.mask(np.arange(len(file))), 0.0
    if mask is not None:
        seen = mask.reshape(*mask.shape[:2], -1)  # (N, T, D), or (N, T, 1)
        missing = 1 - float(seen.sum() / (file.lengths.sum() * seen.shape[2]))
    return {"channels": list(file.standard.channels), "missing": missing}


def _data(path: str) -> dict:
    with SequenceFile.open(path) as file:
        return {
            "name": file.name,
            "sequences": len(file),
            "steps": f"{file.lengths.min()} to {file.lengths.max()}",
            "frame_shape": file.frame_shape,
            **_series(file),
            "megabytes_in_memory": file.nbytes / 1e6,
            "splits": {
                scheme: {part: len(file.split(part, scheme)) for part in parts}
                for scheme, parts in file.splits.items()
            },
            "factors": {factor.name: factor.role for factor in file.factors}
            | {factor.name: f"{factor.role}, of each step" for factor in file.step_factors},
            "skipped": {
                reason: facts["count"] for reason, facts in file.recipe.get("skipped", {}).items()
            },
            "licence": str(file.attrs["licence"]),
            "attribution": str(file.attrs["attribution"]),
            "content_sha256": file.content_sha256,
        }
