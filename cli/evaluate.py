"""``dsae evaluate``: all that is measured of a run, kept beside it."""

import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import Any

import click
import torch
from tqdm import tqdm

from pyro_dsae import ConfigError
from pyro_dsae.analyses.codes import encode
from pyro_dsae.analyses.similarity import similarity
from pyro_dsae.cli import options
from pyro_dsae.datasets import DataError, renderer
from pyro_dsae.evaluation import report
from pyro_dsae.evaluation.bound import bound_scores
from pyro_dsae.evaluation.disentanglement import disentanglement
from pyro_dsae.evaluation.exact import exact_scores
from pyro_dsae.evaluation.probes import Target, probe
from pyro_dsae.evaluation.retrieval import retrieval
from pyro_dsae.evaluation.verification import verification
from pyro_dsae.run_folder import read_config, versions


def _exact(opened: options.Run, seed: int) -> dict[str, Any]:
    """Swaps against their rendered truth, and among all that can be rendered."""
    truth = renderer(opened.file)
    labels = opened.labels("static"), opened.labels("dynamic")
    measured = opened.dsae, opened.sequences, *labels
    scores = exact_scores(*measured, opened.classes("dynamic"), truth.render, seed)
    names = [factor.name for factor in truth.factors]
    found = retrieval(*measured, names, truth.combinations(), truth.render, seed)
    return {**asdict(scores), "retrieval": asdict(found)}


def _similarity(opened: options.Run, seed: int) -> dict[str, Any]:
    """Cosines of the codes of all pairs."""
    labels = opened.labels("static"), opened.labels("dynamic")
    found = asdict(similarity(encode(opened.dsae, opened.sequences), *labels, seed))
    strata = {}
    for stratum in found["strata"]:
        who, what = (
            f"{'same' if stratum.pop(f'same_{of}') else 'different'} {of}"
            for of in ("appearance", "motion")
        )
        strata[f"{who} and {what}"] = stratum
    areas = {name: found[name] for name in ("auroc_appearance", "auroc_motion")}
    return {**areas, "strata": strata}


def _codes(opened: options.Run, seed: int) -> dict[str, Any]:
    """What the codes say about the factors: probes fitted on train, verification, scores."""
    file, dsae = opened.file, opened.dsae
    factors = [factor for factor in file.factors if factor.classes]
    if not factors:
        raise DataError(f"{file.path}: has no factors with classes")
    if opened.part == "train":
        raise DataError(f"{file.path}: probes are fitted on train; score another part")
    labels = file.labels([factor.name for factor in factors])
    fitted, scored = labels[file.split("train")], labels[opened.rows]
    drawn = encode(dsae, opened.sequences, seed)
    train = encode(dsae, file.sequences("train"), seed)
    targets = [
        Target(factor.name, factor.role, fitted[:, n], scored[:, n])
        for n, factor in enumerate(factors)
    ]
    probes = asdict(probe(train, drawn, targets, seed))
    probes["accuracy"] = {
        f"{row.pop('factor')} from {row.pop('code')}": row for row in probes.pop("probes")
    }
    return {
        "probes": probes,
        "verification": asdict(
            verification(encode(dsae, opened.sequences), opened.labels("static"))
        ),
        "disentanglement": _measured(disentanglement, drawn, scored, seed),
    }


def _bound(opened: options.Run, seed: int) -> dict[str, Any]:
    """The ELBO and its parts, and the importance-weighted bound."""
    return asdict(bound_scores(opened.dsae, opened.sequences, seed=seed))


def _measured(measure: Callable, *arguments: Any) -> dict[str, Any]:
    """Its figures, or a line that says why these data have none."""
    try:
        found = measure(*arguments)
    except ValueError as error:
        return {"missing": str(error)}
    return asdict(found) if is_dataclass(found) else found


SECTIONS: dict[str, Callable[[options.Run, int], dict[str, Any]]] = {
    "exact": _exact,
    "similarity": _similarity,
    "codes": _codes,
    "bound": _bound,
}


def _sections(context: click.Context, parameter: click.Parameter, only: str | None) -> list[str]:
    names = list(SECTIONS) if only is None else only.split(",")
    for name in names:
        if name not in SECTIONS:
            raise ConfigError(f"only holds {name!r}, but must be of: {', '.join(SECTIONS)}")
    return names


@click.command()
@options.run_argument
@options.data_option
@options.part_option
@click.option(
    "--only",
    "sections",
    metavar="NAMES",
    callback=_sections,
    help=f"Some of {','.join(SECTIONS)}, with commas; all if not.",
)
@options.seed_option("the pairs, the draws and the probes")
@options.device_option
@options.json_option
def evaluate(
    run: str,
    data: str | None,
    part: str,
    sections: list[str],
    seed: int,
    device: torch.device,
    as_json: bool,
) -> None:
    """Measure all there is of a run, and keep it in RUN/evaluation.json and RUN/evaluation.md.

    \b
    exact       swaps against their true sequences, and retrieval among all true sequences
    similarity  cosines of the codes of all pairs
    codes       probes, verification, MIG, DCI, modularity and SAP
    bound       the ELBO and its parts, and the importance-weighted bound

    What is not measured now stays as it was, unless weights, data or part are other ones.
    """
    with options.open_run(run, data, part, device) as opened:
        found = {
            "run": options.title(run),
            "weights_sha256": report.weights_sha256(run),
            "training_seed": read_config(run)["training"]["seed"],
            "data": {
                "name": opened.file.name,
                "content_sha256": opened.file.content_sha256,
                "part": part,
                "sequences": len(opened.sequences),
            },
            "sections": {},
        }
        report.merge(run, found)  # refuses a damaged one before the work
        again = ["dsae", "evaluate", run, *(["--data", data] if data else []), "--part", part]
        again += ["--seed", str(seed), "--device", str(device), "--only"]
        with tqdm(sections, file=sys.stderr, disable=None) as bar:
            for name in bar:
                bar.set_postfix_str(name)
                start = time.perf_counter()
                figures = _measured(SECTIONS[name], opened, seed)
                seconds = time.perf_counter() - start
                said = f"no {name}: {figures['missing']}" if "missing" in figures else name
                bar.write(f"{said} ({seconds:.1f} s)", file=sys.stderr)
                found["sections"][name] = {
                    "command": shlex.join([*again, name]),
                    "seed": seed,
                    "seconds": seconds,
                    "device": str(device),
                    "versions": versions("scikit-learn"),
                    "figures": figures,
                }
    found = report.merge(run, found)
    report.write(run, found)
    click.echo(json.dumps(found) if as_json else report.markdown(found), nl=as_json)
