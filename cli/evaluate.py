"""``dsae evaluate``: all that is measured of a run, kept beside it."""

import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import click
import numpy as np
import torch
from tqdm import tqdm

from pyro_dsae import ConfigError
from pyro_dsae.analyses.similarity import similarity
from pyro_dsae.cli import options
from pyro_dsae.datasets import Factor, NotRenderableError, renderer
from pyro_dsae.evaluation import UnmeasurableError, report
from pyro_dsae.evaluation.bound import bound_scores
from pyro_dsae.evaluation.exact import exact_scores
from pyro_dsae.evaluation.judge import Judge, check_accuracy, check_frames, fused, load_judge
from pyro_dsae.evaluation.judge_scores import REPEATS, judge_scores
from pyro_dsae.evaluation.retrieval import retrieval
from pyro_dsae.evaluation.sample_quality import sample_quality
from pyro_dsae.evaluation.verification import verification
from pyro_dsae.run_folder import read_config, versions


def _exact(opened: options.Run, seed: int) -> dict[str, Any]:
    """Swaps against their rendered truth, and among all that can be rendered."""
    truth = renderer(opened.file)
    labels = opened.labels("static"), opened.labels("dynamic")
    subject = opened.dsae, opened.sequences, opened.codes, *labels
    scores = exact_scores(*subject, opened.classes("dynamic"), truth.render, seed)
    names = [factor.name for factor in truth.factors]
    found = retrieval(*subject, names, truth.combinations(), truth.render, seed)
    return {**asdict(scores), "retrieval": asdict(found)}


def _similarity(opened: options.Run, seed: int) -> dict[str, Any]:
    """Cosines of the codes of all pairs."""
    labels = opened.labels("static"), opened.labels("dynamic")
    try:
        found = asdict(similarity(opened.codes, *labels, seed))
    except ConfigError as error:  # of a part without any pair
        raise UnmeasurableError(str(error)) from None
    strata = {}
    for stratum in found["strata"]:
        who, what = (
            f"{'same' if stratum.pop(f'same_{of}') else 'different'} {of}"
            for of in ("appearance", "motion")
        )
        strata[f"{who} and {what}"] = stratum
    areas = {name: found[name] for name in ("auroc_appearance", "auroc_motion")}
    return {"sequences": found["sequences"], **areas, "strata": strata}


def _codes(opened: options.Run, seed: int) -> dict[str, Any]:
    """What the codes say about the factors: probes fitted on train, verification, scores."""
    # Here, because scikit-learn takes every command a second to import.
    from pyro_dsae.evaluation.disentanglement import disentanglement
    from pyro_dsae.evaluation.probes import Target, draw_parts, probe

    file, dsae = opened.file, opened.dsae
    who = opened.labels("static"), list(opened.classes("static"))
    verified = asdict(verification(opened.codes, *who, seed))
    try:
        factors, scheme, *rows = _probed(opened)
    except UnmeasurableError as error:
        missing = {"missing": str(error)}
        return {"probes": missing, "verification": verified, "disentanglement": missing}
    labels = file.labels([factor.name for factor in factors])
    fitted, scored = (labels[part] for part in rows)
    standard = opened.sequences.standard
    train, drawn = draw_parts(dsae, *(file.take(part, None, standard) for part in rows), seed)
    targets = [
        Target(factor.name, factor.role, fitted[:, n], scored[:, n])
        for n, factor in enumerate(factors)
    ]

    def probes() -> dict[str, Any]:
        found = {"split": scheme, **asdict(probe(train, drawn, targets, seed))}
        found["accuracy"] = {
            f"{row.pop('role')} {row.pop('factor')} from {row.pop('code')}": row
            for row in found.pop("probes")
        }
        return found

    return {
        "probes": measured(probes),
        "verification": verified,
        "disentanglement": measured(lambda: asdict(disentanglement(drawn, scored, seed))),
    }


def _probed(opened: options.Run) -> tuple[list[Factor], str, np.ndarray, np.ndarray]:
    """The factors that have classes, and the split of the probes: its name, and the rows that they
    are fitted on and scored on.

    Who is in no train sequence cannot be told by a probe that is fitted on these. Where the split
    is by group, the probes are fitted and scored within the groups of the part instead.
    Raises UnmeasurableError without factors, and without other sequences to fit on.
    """
    file, rows = opened.file, opened.rows
    factors = [factor for factor in file.factors if factor.classes]
    if not factors:
        raise UnmeasurableError(f"{file.path}: has no factors with one class a sequence")
    fitted = file.split("train") if "train" in file.splits.get("official", ()) else []
    train = np.setdiff1d(fitted, rows)  # a validation part is of train
    if not train.size:
        raise UnmeasurableError(
            f"{file.path}: probes are fitted on train, of which part {opened.part} leaves nothing; "
            "score another part"
        )
    static = file.labels([factor.name for factor in factors if factor.role == "static"])
    unseen = any(set(column[rows]) - set(column[train]) - {-1} for column in static.T)
    if unseen and "within-group" in file.splits:
        early, late = (
            np.intersect1d(rows, file.split(part, "within-group")) for part in ("train", "test")
        )
        if early.size and late.size:
            return factors, "within-group", early, late
    return factors, "official", train, rows


def _bound(opened: options.Run, seed: int) -> dict[str, Any]:
    """The ELBO and its parts, and the importance-weighted bound."""
    return asdict(bound_scores(opened.dsae, opened.sequences, seed=seed))


Labels = tuple[np.ndarray, np.ndarray]  # of the judge's static and dynamic factors


def _judged(
    judge: Judge, labels: Labels, opened: options.Run, seed: int, repeats: int
) -> dict[str, Any]:
    """What a judge sees in generated sequences."""
    subject = opened.dsae, judge, opened.sequences, opened.codes
    return asdict(judge_scores(*subject, *labels, repeats, seed))


def _samples(judge: Judge, labels: Labels, opened: options.Run, seed: int) -> dict[str, Any]:
    """How near generated sequences are to real ones in a judge's features, and how sharp."""
    subject = opened.dsae, judge, opened.sequences, opened.codes
    return asdict(sample_quality(*subject, *labels, seed=seed))


def _labels(judge: Judge, opened: options.Run) -> Labels:
    """Of the judge's static and dynamic factors, (N, k) and (N, m)."""
    static, dynamic = (
        opened.file.labels(list(names))[opened.rows]
        for names in (judge.config.static, judge.config.dynamic)
    )
    return static, dynamic


def measured(measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Its figures, or a line that says why these data have none."""
    try:
        return measure(*arguments)
    except (UnmeasurableError, NotRenderableError) as error:
        return {"missing": str(error)}


SECTIONS: dict[str, Callable[[options.Run, int], dict[str, Any]]] = {
    "exact": _exact,
    "similarity": _similarity,
    "codes": _codes,
    "bound": _bound,
}
JUDGED: dict[str, Callable[..., dict[str, Any]]] = {
    "judge": _judged,
    "samples": _samples,
}


def _chosen(only: str | None, judge: str | None) -> list[str]:
    """The sections to measure, by name."""
    known = [*SECTIONS, *JUDGED]
    if only is None:
        return known if judge else list(SECTIONS)
    names = only.split(",")
    for name in names:
        if name not in known:
            raise ConfigError(f"only holds {name!r}, but must be of: {', '.join(known)}")
    if any(name in JUDGED for name in names) != bool(judge):
        raise ConfigError(f"only is {only!r} and judge is {judge!r}, but the one needs the other")
    return names


@click.command()
@options.run_argument
@options.data_option
@options.part_option
@click.option(
    "--judge", type=click.Path(dir_okay=False), help="What dsae judge trained on these data."
)
@click.option(
    "--only",
    metavar="NAMES",
    help=f"Some of {','.join([*SECTIONS, *JUDGED])}, with commas; all if not.",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=REPEATS,
    show_default=True,
    help="Draws from the priors that the judge's figures are averaged over.",
)
@options.seed_option("the pairs, the draws and the probes")
@options.device_option
@options.json_option
def evaluate(
    run: str,
    data: str | None,
    part: str,
    judge: str | None,
    only: str | None,
    repeats: int,
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
    judge       what the classifier --judge sees in generated sequences
    samples     distance, precision and recall of samples in its features, and sharpness

    What is not measured now stays as it was, unless weights, data or part are other ones.
    """
    sections, measures = _chosen(only, judge), dict(SECTIONS)
    with options.open_run(run, data, part, device) as opened:
        if judge:
            # What makes a judge unfit is an error before the work, not a missing section.
            loaded = fused(load_judge(judge)).to(device)
            check_accuracy(loaded.accuracy, "its own test part")
            check_frames(loaded, opened.sequences)
            labels = _labels(loaded, opened)
            loaded.config.targets(*labels)
            judge_used = {"sha256": report.sha256(judge), "accuracy": loaded.accuracy}
            measures |= {name: partial(of, loaded, labels) for name, of in JUDGED.items()}
            measures["judge"] = partial(measures["judge"], repeats=repeats)
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
        found = report.merge(run, found)  # refuses a damaged one before the work
        again = ["dsae", "evaluate", run, *(["--data", data] if data else []), "--part", part]
        again += ["--seed", str(seed), "--device", str(device)]
        with tqdm(sections, file=sys.stderr, disable=None) as bar:
            for name in bar:
                bar.set_postfix_str(name)
                judged, by = [], {}
                if name in JUDGED:
                    judged, by = ["--judge", judge], {"judge": judge_used}
                if name == "judge":
                    judged += ["--repeats", str(repeats)]
                start = time.perf_counter()
                figures = measured(measures[name], opened, seed)
                seconds = time.perf_counter() - start
                said = f"no {name}: {figures['missing']}" if "missing" in figures else name
                bar.write(f"{said} ({seconds:.1f} s)", file=sys.stderr)
                found["sections"][name] = {
                    "command": shlex.join([*again, *judged, "--only", name]),
                    "seed": seed,
                    "seconds": seconds,
                    "device": str(device),
                    "versions": versions("scikit-learn"),
                    **by,
                    "figures": figures,
                }
                report.write(run, found)  # what is measured is kept, whatever comes next
    click.echo(json.dumps(found) if as_json else report.markdown(found), nl=as_json)
